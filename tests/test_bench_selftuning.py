"""The benchmark of self-tuning has sound workloads, counts correctly and resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHEAP = ("pima mlp", "poisson", "demand gru")  # to load and to trace
COSTLY = (
    "flights linear", "digits mixer", "stops mlp", "movielens factors", "words",
    "pulse autoencoder", "diamonds mlp", "mnist cnn", "flights mlp", "transformer",
    "transformer 3M",
)  # fmt: skip


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def loaded(name):
    from benchmarks.selftuning.workloads import load, missing

    if missing(name):
        pytest.skip(f"{name} needs {missing(name)}")
    try:
        return load(name)
    except ModuleNotFoundError as error:  # pandas, of an optional package
        pytest.skip(str(error))


def check(name):
    """Losses of one row each, gradients in every parameter, and three parts that share no row."""
    from benchmarks.selftuning.workloads.workload import num_rows, take

    import downslope

    workload = loaded(name)
    assert workload.name == name
    generates = isinstance(workload.train, downslope.Generator)
    rows = (
        workload.train.batch(seed=0, number=0, num_rows=8)
        if generates
        else take(workload.train, slice(0, 8))
    )
    key, model = jax.random.key(0), jax.tree.map(jnp.asarray, workload.model(0))

    def mean(model, rows):
        losses = workload.loss(model, rows, key)
        assert losses.shape == (8,)
        return losses.mean()

    gradient = jax.jit(jax.grad(mean))(model, rows)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    for part in (workload.validation, workload.test):
        assert num_rows(part) >= 100
        loss = workload.test_loss or workload.loss
        assert jax.eval_shape(loss, model, take(part, slice(0, 8)), key).shape == (8,)
    parts = [workload.validation, workload.test] + ([] if generates else [workload.train])
    seen = [first_column(part) for part in parts]
    if name in CHEAP[1:]:  # rows of the others may be the same by chance
        assert not np.intersect1d(seen[0], seen[1]).size


def first_column(rows):
    first = rows[0] if isinstance(rows, tuple) else rows
    return np.asarray(first, float).reshape(len(first), -1) @ np.sqrt(
        np.arange(1, first[0].size + 1)
    )


@pytest.mark.parametrize("name", CHEAP)
def test_a_workload_has_a_loss_a_row_and_parts_of_their_own(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_every_other_workload_has_too(name):
    check(name)


def test_all_workloads_are_tested():
    from benchmarks.selftuning.workloads import WORKLOADS

    assert set(WORKLOADS) == {*CHEAP, *COSTLY}


def record(*points, workload="w", rival="downslope", seed=0, version="1", horizon=10.0, **more):
    """A record from (seconds, loss) pairs."""
    from benchmarks.selftuning.records import Point, Record

    kept = [Point(seconds=s, loss=loss, step=i) for i, (s, loss) in enumerate(points)]
    known = {
        "seconds": horizon, "end": "TIME_UP", "num_steps": 10, "batch_size": 32,
        "learning_rate": 1e-3, "load": 0.5,
    }  # fmt: skip
    return Record(
        workload=workload, rival=rival, seed=seed, version=version, horizon_seconds=horizon,
        points=kept, **(known | more),
    )  # fmt: skip


def search(*times, horizon=10.0, level=1.0):
    """A search whose best setting came to loss 0 after these seconds, falling from 2."""
    from benchmarks.selftuning.targets import Search

    setting = {
        "batch_size": 8, "learning_rate": 1e-3, "warmup": 0.1, "b1": 0.9, "b2": 0.99,
        "weight_decay": 0.0,
    }  # fmt: skip
    runs = [
        record((0, 2 * level), (seconds, level), rival="hand", seed=i)
        for i, seconds in enumerate(times)
    ]
    trials = [{"setting": setting, "validation_loss": 1.0}]
    return Search(horizon_seconds=horizon, trials=trials, runs=runs)


def test_the_target_is_reached_between_points_and_after_a_loss_that_is_not_finite():
    """Catches a time read off the next copy, which depends on when copies were taken."""
    made = record((1, math.inf), (2, 3.0), (4, 1.0), (6, 2.0))
    assert made.reach(2.0) == 3.0
    assert made.reach(3.0) == 2.0
    assert made.reach(0.5) == math.inf
    assert (made.lowest_loss, made.final_loss) == (1.0, 2.0)


def test_the_target_is_what_all_seeds_but_one_reach():
    """Catches the luck of one seed, and the bad luck of another."""
    from benchmarks.selftuning.targets import target_of

    assert target_of([5.0, 1.0, 3.0, 2.0, 4.0]) == pytest.approx(4.0 * 1.005)
    assert target_of([1.0]) == pytest.approx(1.005)
    assert search(8, 8, 8, 8).target is None  # four seeds of five have run


def test_the_score_is_the_area_under_the_profile():
    """Catches an area of the wrong width, a mean that a miss makes infinite."""
    from benchmarks.selftuning.score import MOST, profile_score, scores

    grid = np.linspace(1, MOST, 200_001)
    values = [1.0, 2.5, 4.0, 7.0, math.inf]
    profile = np.mean([[value <= t for t in grid] for value in values], axis=0)
    area = np.trapezoid(profile, grid) / (MOST - 1)
    assert profile_score(values) == pytest.approx(area, abs=1e-4)
    times = {
        "fast": {"a": [1.0, 1.0, math.inf], "b": [2.0, 2.0, 2.0]},
        "slow": {"a": [2.0, 2.0, 2.0], "b": [math.inf, math.inf, 1.0]},
    }
    found = scores(times, ["a", "b"])
    assert found["fast"] == pytest.approx(1.0)  # the medians: one seed's miss is none
    assert found["slow"] == pytest.approx(2 / 3 / 2)


def test_a_workload_that_nobody_solves_or_ran_counts_as_missed():
    from benchmarks.selftuning.score import scores

    times = {"a": {"v": [1.0], "w": [math.inf]}, "b": {"v": [1.0]}}
    assert scores(times, ["v", "w"]) == {"a": 0.5, "b": 0.5}


def test_a_rival_that_is_faster_everywhere_is_told_from_one_that_is_not():
    """Catches a test of the wrong side, and one that takes noise for a difference."""
    from benchmarks.selftuning.score import above, flipped

    workloads = [f"w{i}" for i in range(12)]
    draw = np.random.default_rng(0)
    times = {
        "fast": {w: [1.0] for w in workloads},
        "slow": {w: [float(1.3 + draw.random())] for w in workloads},
    }
    assert max(above(times, "fast", "slow", workloads)) < 0.01
    assert min(above(times, "slow", "fast", workloads)) > 0.99
    assert above(times, "fast", "fast", workloads) == (1.0, 1.0)
    values = [flipped(np.random.default_rng(i).normal(size=12), draws=500) for i in range(400)]
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.04)


def test_screening_keeps_who_must_stay_and_the_best_others():
    from benchmarks.selftuning.score import screened

    times = {name: {"w": [float(i + 1)]} for i, name in enumerate("abcde")}
    assert screened(times, ["w"], always=("d",), count=3) == ["d", "a", "b"]
    assert screened(times, ["w"], always=("d", "x"), count=1) == ["d", "a"]


def test_records_outlive_a_stop_in_the_middle_of_a_line(tmp_path):
    """Catches a record joined to the rest of a broken one, and a run made twice."""
    from benchmarks.selftuning.records import RecordFile

    path = tmp_path / "records.jsonl"
    first = RecordFile(path)
    first.append(record((1.0, math.inf), (2.0, 0.5), notes={"a": 1}))
    path.write_text(path.read_text() + '{"workload": "w", "riv')
    again = RecordFile(path)
    assert again.records == first.records
    assert again.has("w", "downslope", 0, "1")
    assert not again.has("w", "downslope", 0, "2")
    again.append(record((1.0, 2.0), seed=1))
    assert [r.seed for r in RecordFile(path).records] == [0, 1]


def test_the_search_of_a_target_resumes_with_the_settings_that_are_left(tmp_path, monkeypatch):
    """Catches a resumed search that repeats or skips a setting, or forgets the seeds it made."""
    from benchmarks.selftuning import targets
    from benchmarks.selftuning.workloads import Workload

    made = []
    toy = Workload(
        name="toy", kind="dense", loss=lambda *_: None, model=lambda _: None,
        train=np.zeros(1000), validation=np.zeros(9), test=np.zeros(9), horizon_seconds=10,
    )  # fmt: skip

    class Bench:
        workload = toy

    def run(bench, rival, *, seed, version, horizon_seconds, shares=None, validates_end=False):
        if len(made) == stops[0]:
            raise KeyboardInterrupt
        made.append((seed, validates_end, horizon_seconds))
        loss = 1 + abs(len(made) - 3)  # the third setting is the best
        return record((1.0, loss), seed=seed, notes={"validation_loss": float(loss)})

    monkeypatch.setattr(targets, "load", lambda _: None)
    monkeypatch.setattr(targets, "Bench", lambda _: Bench())
    monkeypatch.setattr(targets, "run", run)
    path = tmp_path / "targets.json"
    stops = [2, 6, 99]
    while stops:
        with contextlib.suppress(KeyboardInterrupt):
            targets.search("toy", targets.Targets(path), settings=4)
        stops.pop(0)
    stops.append(99)
    wanted = targets.draw_settings(4, 250)
    found = targets.Targets(path).searches["toy"]
    assert [t["setting"] for t in found.trials] == [dataclasses.asdict(s) for s in wanted]
    assert found.best == wanted[2]
    assert made == [(0, True, 8.0)] * 4 + [(seed, False, 8.0) for seed in range(5)]
    assert found.target is not None
    assert targets.Targets(path).target("toy") == found.target
    targets.search("toy", targets.Targets(path), settings=4)
    assert len(made) == 9  # nothing was left to do


def test_settings_of_the_search_stay_when_more_are_asked_for():
    from benchmarks.selftuning.targets import draw_settings

    many = draw_settings(30, 1 << 20)
    assert many[:20] == draw_settings(20, 1 << 20)
    assert len(set(many)) == 30
    assert {s.batch_size for s in draw_settings(30, 16)} <= {8, 16}


def test_the_tables_compare_with_the_oracle_and_count_misses():
    from benchmarks.selftuning import table

    searches = {"w": search(8, 8, 8, 8, 8), "v": search(4, 4, 4, 4, 4, horizon=30.0)}
    records = [
        *(record((0, 2), (10, 1), workload="w", seed=i) for i in range(2)),
        *(record((0, 2), (5, 1), workload="v", seed=i) for i in range(2)),
        record((0, 2), (4, 1), workload="w", rival="peer"),
        record((0, 2), (40, 1.5), workload="v", rival="peer"),
        record((0, 2), (4, 1), workload="no target", rival="peer"),
    ]
    results = table.Results(records=records, searches=searches)
    assert results.workloads == ["w", "v"]
    assert results.to_oracle("downslope") == pytest.approx({"w": 1.25, "v": 1.25})
    rows = {row.what: row for row in table.bars(results)}
    ours = (2 / 3 * 0.75 + 1.0) / 2  # 10 s against 4, alone on the other
    assert rows["score of the performance profile"].ours == f"{ours:.3f}"
    assert rows["time over the oracle's, median of those above 20 s"].met
    assert "| peer | 0.500 | 1 of 2 | 1 |" in table.standings(results)
    assert "| 9.95 | 3.98 |" in table.by_workload(results)
    assert "no target, no target yet" in table.without_target(results)


def test_branches_are_listed_with_what_they_predicted_and_showed():
    """Catches branches left out of the count, bounds taken for unknown, and a factor of two told of
    values that are further apart.
    """
    from benchmarks.selftuning import table

    def decided(predicted, branched):
        return {"seconds": 1.0, "new": 64, "candidate": 256, "predicted": predicted,
                "branched": branched}  # fmt: skip

    found = [
        decided([100, 80, 130], [150, 60, 300]),  # near, and overlapping
        decided([100, 80, 130], [400, 200, None]),  # neither
        decided([None, 500, None], [None, None, 90]),  # bounds that exclude each other
        decided([100, 80, 130], [None, None, None]),
        {"seconds": 2.0, "knob": "learning_rate", "new": 0.1},
    ]
    made = dataclasses.replace(record((0, 2), (10, 1)), notes={"decisions": found})
    text = table.branches(table.Results(records=[made], searches={}))
    assert text.count("\n| ") == 4 and "at most 90" in text and "400 (200 to any)" in text
    assert text.endswith("4 branches; 2 with two values, 1 of them within a factor of 2; "
                         "3 with values or bounds, of which 1 overlap")  # fmt: skip


def test_a_branch_is_noted_as_it_was_decided():
    """Catches arms exchanged on their way into a record."""
    from benchmarks.selftuning.runs import _branch

    inputs = {
        "batch_size": 64, "candidate": 256, "num_steps": 1600, "candidate_steps": 800, "gain": 0.2,
        "gain_error": 0.002, "candidate_gain": 0.25, "candidate_gain_error": 0.002,
        "gains_error": None, "noise_scale": 900.0, "noise_lo": 700.0, "noise_hi": 1200.0,
    }  # fmt: skip
    found = _branch({"policy": "settle_batch_size", "inputs": inputs})
    ratio = (0.25 / 800) / (0.2 / 1600)
    critical = (ratio - 1) * 64 * 256 / (256 - 64 * ratio)
    assert found["branched"][0] == pytest.approx(critical) and found["predicted"][0] == 900
    assert _branch({"policy": "follow_batch"}) == {}


def test_only_the_asked_version_of_a_rival_counts():
    from benchmarks.selftuning.table import latest

    old, new = record(version="a"), record(version="b")
    other = record(rival="peer")
    assert latest([old, new, other], {}) == [new, other]
    assert latest([new, old, other], {"downslope": "b"}) == [new, other]


def test_the_rate_finder_takes_the_steepest_fall():
    """Catches an index that forgets the skipped begin, and a search through a diverged end."""
    from benchmarks.selftuning.finders import DEFAULT_RATE, steepest

    def make(state, rate, number):
        loss = 2 - 1 / (1 + (3e-3 / rate) ** 2) if rate < 0.1 else 1e9
        return state, loss

    assert 1e-3 < steepest(make, None) < 3e-2  # smoothing delays it
    assert steepest(lambda state, rate, i: (state, math.nan), None) == DEFAULT_RATE


def test_a_rule_that_needs_the_loss_gets_that_of_the_batch():
    import optax
    from benchmarks.selftuning.rivals import taking_loss, with_loss, with_value

    seen = []

    def update(updates, state, params=None, *, value):
        seen.append(float(value))
        return updates, state

    rule = taking_loss(optax.GradientTransformationExtraArgs(lambda p: (), update))
    model, batch = with_value(np.float32(3.0)), jnp.array([1.0, 5.0])
    loss = with_loss(lambda model, batch, key: (model - batch) ** 2)
    assert loss(model, batch, None).tolist() == [4.0, 4.0]
    gradient = jax.grad(lambda m: loss(m, batch, None).mean())(model)
    changes, _ = rule.update(gradient, rule.init(model), model)
    assert seen == [4.0]
    assert (float(changes["model"]), float(changes["value"])) == (0.0, 0.0)


def test_the_clock_stops():
    from benchmarks.selftuning.clock import Clock

    clock = Clock()
    with clock.stopped():
        time.sleep(0.05)
    assert clock.seconds < 0.04
    assert clock.at(clock.moment(7.0)) == pytest.approx(7.0)


def test_a_mean_over_parts_is_the_mean_over_rows(monkeypatch):
    """Catches a last part that weighs as much as a whole one."""
    from benchmarks.selftuning import held_out

    monkeypatch.setattr(held_out, "ROWS_AT_ONCE", 4)
    rows = np.arange(10, dtype=np.float32), np.ones(10, np.float32)
    mean = held_out.HeldOutLoss(lambda m, b, key: m * b[0] + b[1], rows, np.float32(0))
    assert mean.mean(np.float32(2.0)) == pytest.approx(2 * 4.5 + 1)
    assert mean.mean(np.float32(math.nan)) == math.inf


@pytest.mark.slow
def test_a_tiny_benchmark_from_the_targets_to_the_table(tmp_path, capsys, monkeypatch):
    """Whole runs through `fit`, two rivals and downslope, on 300 rows, over once compiled."""
    from benchmarks.selftuning import __main__, records, runs, targets, workloads

    loaded("pima mlp")
    short = dataclasses.replace(workloads.load("pima mlp"), horizon_seconds=1.5)
    for module in (__main__, targets):
        monkeypatch.setattr(module, "load", lambda _: short)
    monkeypatch.setattr(targets, "SEEDS", 2)
    monkeypatch.setattr(runs, "OVERTIME", 100)  # however busy the machine is
    file, goals = tmp_path / "records.jsonl", tmp_path / "targets.json"
    targets.main(["--workloads", "pima mlp", "--settings", "1", "--file", str(goals)])
    asked = [
        "--workloads",
        "pima mlp",
        "--seeds",
        "1",
        "--file",
        str(file),
        "--targets",
        str(goals),
    ]
    asked += ["--rivals", "downslope", "schedule-free AdamW", "MoMo"]
    __main__.main(asked)
    shown = capsys.readouterr().out
    assert "| downslope |" in shown and "| pima mlp | 1.5 |" in shown
    found = records.RecordFile(file).records
    assert [r.rival for r in found] == ["downslope", "schedule-free AdamW", "MoMo"]
    for made in found:
        assert made.points and all(b.seconds >= a.seconds for a, b in pairwise(made.points))
        # of six digits, and of milliseconds
        assert made.points[-1].seconds <= (1 + 1e-5) * made.seconds + 1e-3
        assert math.isfinite(made.lowest_loss)
    __main__.main(asked)  # all is recorded
    assert len(records.RecordFile(file).records) == 3


@pytest.mark.slow
def test_copies_taken_during_a_run_are_the_parameters_of_their_step():
    """Catches a copy of memory that a later call wrote to, and a trial's parameters."""
    import optax
    from benchmarks.selftuning.rivals import GIVEN
    from benchmarks.selftuning.snapshots import Camera

    import downslope

    def loss(model, batch, key):  # with a rate of 1 each update adds 1
        return -model * jnp.ones_like(batch)

    rows = np.zeros(1024, np.float32)
    begin = time.perf_counter()
    camera = Camera([begin + 0.02 * i for i in range(10_000)])
    result = downslope.fit(
        loss, np.float32(0), rows, optimizer=optax.sgd, learning_rate=1.0, batch_size=8,
        steps=60_000, observer=camera, **GIVEN,
    )  # fmt: skip
    counts = [float(s.model) for s in camera.taken]
    assert len(counts) > 3
    assert counts == [s.step for s in camera.taken] and counts[-1] <= result.num_steps
    assert counts == sorted(counts)
    assert all(begin < a.time <= b.time for a, b in pairwise(camera.taken))
