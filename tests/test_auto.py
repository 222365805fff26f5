"""Whole runs with no settings given, on small planted problems."""

from __future__ import annotations

import logging
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import downslope
import plain
from downslope import StopReason
from downslope.choose import replay
from downslope.report.journal import read_journal
from downslope.train.checkpoint import Checkpoints
from downslope.train.run_folder import load_model
from loops import Shared

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = 3000


def planted(rows, seed):
    """Classes that a small net can tell, with a Bayes loss of about 0.36."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype("float32")
    score = 3 * np.tanh(x[:, 0] + x[:, 1]) - 2 * np.tanh(x[:, 2] - x[:, 3])
    return x, (rng.random(rows) < 1 / (1 + np.exp(-score))).astype("float32")


DATA, HELD_OUT = planted(ROWS, 0), planted(2000, 1)


def own_loss(model, batch, key):
    score = jnp.tanh(batch[0] @ model["a"]) @ model["c"]
    return jnp.logaddexp(0.0, score) - batch[1] * score


loss = Shared(own_loss)


def net(width=8):
    rng = np.random.default_rng(2)
    return {
        "a": rng.normal(size=(6, width)).astype("float32") / 3,
        "c": rng.normal(size=width).astype("float32") / 3,
    }


def fit(data=DATA, **options):
    return downslope.fit(loss, net(), data, **{"validation": HELD_OUT} | options)


def held_out(model):
    return float(np.mean(loss(model, HELD_OUT, None)))


def decided(history):
    return [r for r in history if r["event"] == "decided"]


@pytest.fixture(scope="module")
def auto(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto") / "run"
    return fit(out=folder), folder


@pytest.mark.slow
def test_it_reaches_what_a_good_hand_reaches(auto):
    """Catches defaults that end early or at a bad rate: Adam over a grid of rates, by hand."""
    result = auto[0]
    by_hand = [
        held_out(plain.fit(loss, net(), DATA, learning_rate=rate, steps=600, patience=None).params)
        for rate in (3e-3, 3e-2)
    ]
    assert result.stop_reason is StopReason.CONVERGED
    assert held_out(result.params) < 1.05 * min(by_hand)
    assert result.num_steps < 5000


def test_the_decisions_are_made_again_from_the_journal(auto):
    """Catches an input that is not recorded, or that a file does not give back."""
    result, folder = auto
    in_memory = replay(result.history)
    on_disk = replay(read_journal(folder / "journal.jsonl"))
    assert in_memory == on_disk
    assert in_memory[0].policy == "settle_rate" and in_memory[-1].new == "converged"
    assert {"next_temperature"} <= {d.policy for d in in_memory}
    assert all(re.search(r"\d", d.because) for d in in_memory)


def test_what_is_kept_is_the_best_that_was_seen(auto):
    """Catches the last parameters in the place of those of the lowest held-out loss."""
    result, folder = auto
    seen = [r["metrics"]["loss"]["value"] for r in result.history if r["event"] == "evaluated"]
    assert held_out(result.params) == pytest.approx(min(seen), rel=1e-5)
    assert result.validation["loss"].value == pytest.approx(min(seen))
    found = load_model(folder, net())
    assert all(np.array_equal(found[k], result.params[k]) for k in found)


@pytest.mark.slow
def test_it_is_interrupted_and_goes_on_as_it_was(tmp_path):
    """Catches a search made again, and a rate, a best loss or counters that begin anew."""

    def interrupt(record):  # right after the first change of temperature
        if record["event"] == "decided" and record["policy"] == "next_temperature":
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    first = fit(out=folder, readers=(interrupt,), batch_size=64)  # no clock decides
    assert first.stop_reason is StopReason.INTERRUPTED
    saved = Checkpoints(folder / "checkpoints").newest().document
    temperature = saved["controllers"]["temperature"]
    changed = decided(first.history)[-1]
    assert saved["controllers"]["learning_rate_search"]["is_done"]
    assert temperature["anneals_without_gain"] == 1
    assert saved["knobs"]["learning_rate"] == changed["new"] == first.learning_rate
    assert temperature["average_from"] == changed["step"]
    assert saved["held_out"]["reference_loss"] is not None
    seen = []
    result = fit(resume=folder, readers=(seen.append,), batch_size=64)
    assert result.stop_reason is StopReason.CONVERGED
    now = decided(seen)
    assert [r["policy"] for r in now] == ["next_temperature"] * len(now)
    assert now[0]["old"] == pytest.approx(saved["knobs"]["learning_rate"])
    assert now[0]["inputs"]["anneals_without_gain"] <= 1 and now[0]["step"] > first.num_steps
    after = Checkpoints(folder / "checkpoints").newest().document
    for name in ("first_rate", "started_step", "starts"):
        assert after["controllers"]["temperature"][name] == temperature[name]
    assert after["controllers"]["recovery"] == saved["controllers"]["recovery"]
    assert after["held_out"]["reference_loss"] <= saved["held_out"]["reference_loss"]
    assert len(replay(read_journal(folder / "journal.jsonl"))) == len(now) + 2


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "good"), [("adam", 0.03), ("sgd", 0.3)])
def test_a_rate_a_hundred_times_too_high_is_undone_and_cut(optimizer, good):
    """Catches a run that ends as diverged or stays where the rate has thrown it, and a rate of the
    user's that is changed without a word. With ReLU: a net of tanh saturates and does not explode.
    """

    def relu(model, batch, key):
        score = jax.nn.relu(batch[0] @ model["a"]) @ model["c"]
        return jnp.logaddexp(0.0, score) - batch[1] * score

    def trained(rate):
        return downslope.fit(
            relu, net(16), DATA, validation=HELD_OUT, optimizer=optimizer, learning_rate=rate
        )

    result = trained(100 * good)
    cuts = [d for d in replay(result.history) if d.policy == "after_trouble"]
    assert cuts and cuts[0].old == pytest.approx(100 * good)
    assert cuts[0].new == pytest.approx(10 * good)
    assert "it was undone, and the rate given is too high" in cuts[0].because
    assert result.stop_reason is StopReason.CONVERGED and result.diverged_at_step is None
    best = trained(good).validation["loss"].value
    assert result.validation["loss"].value < 1.05 * best


def test_rows_that_are_not_finite_are_named(tmp_path):
    """Catches cuts of a rate that is not at fault, rows named by their place after the split or
    the shuffle, and parameters that are not finite.
    """
    x, y = DATA[0].copy(), DATA[1]
    x[[17, 2500], 3] = np.nan
    result = downslope.fit(loss, net(), (x, y), validation=0.1, out=tmp_path / "run")
    assert result.stop_reason is StopReason.DIVERGED
    last = replay(read_journal(tmp_path / "run" / "journal.jsonl"))[-1]
    assert last.new == "diverged"
    rows = last.inputs["rows"]  # one of them may be held out
    assert rows and set(rows) <= {17, 2500}
    assert all(f"{row:,}" in last.because for row in rows)
    assert all(d.policy != "after_trouble" for d in replay(result.history)[:-1])
    assert all(np.isfinite(leaf).all() for leaf in result.params.values())


@pytest.mark.slow
@pytest.mark.parametrize("share", ["a burst", "everywhere"])
def test_flipped_labels_do_not_end_the_run(share, auto):
    """Catches a jump of the loss that is taken for a divergence: 150 of 3,000 rows are wrong, in
    one stretch or everywhere.
    """
    x, y = DATA
    rows = np.arange(1400, 1550)
    if share == "everywhere":
        rows = np.random.default_rng(3).choice(ROWS, 150, replace=False)
    flipped = y.copy()
    flipped[rows] = 1 - flipped[rows]
    result = fit((x, flipped))
    assert result.stop_reason is StopReason.CONVERGED
    assert all(d.policy != "after_trouble" for d in replay(result.history))
    assert held_out(result.params) < 1.06 * held_out(auto[0].params)


@pytest.mark.slow
def test_without_held_out_rows_it_ends_by_the_training_loss():
    """Catches a run to the last epoch because nothing says that it has converged."""
    result = fit(validation=None)
    assert result.stop_reason is StopReason.CONVERGED
    assert result.validation is None and decided(result.history)[-1]["new"] == "converged"
    assert held_out(result.params) < 0.5


@pytest.mark.slow
def test_with_everything_given_nothing_is_decided_and_one_program_made(caplog):
    """Catches a search, a change or another program where nothing was left to choose."""
    given = {
        "learning_rate": 0.02, "batch_size": 100, "schedule": "constant", "clip_norm": 1.0,
        "average": None, "patience": 3, "optimizer": "adam", "epochs": 40,
    }  # fmt: skip
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        result = downslope.fit(own_loss, net(), DATA, validation=HELD_OUT, **given)
    names = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    assert names.count("steps") == names.count("outputs") == 1
    assert [r["policy"] for r in decided(result.history)] == ["out_of_patience"]
    assert (result.learning_rate, result.batch_size) == (0.02, 100)
    evaluations = [r["step"] for r in result.history if r["event"] == "evaluated"]
    assert np.diff(evaluations).tolist() == [30] * (len(evaluations) - 1)
    by_hand = plain.fit(loss, net(), DATA, **given | {"validation": HELD_OUT})
    assert_array_equal(by_hand.params["a"], result.params["a"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "knobs"),
    [
        ({"learning_rate": 0.02, "schedule": "constant"}, {"learning_rate"}),
        ({"batch_size": 100}, {"batch_size"}),
        ({"clip_norm": None}, {"clip_norm"}),
    ],
)
def test_what_is_given_is_obeyed_beside_what_is_chosen(given, knobs):
    """Catches one given value that is overruled by the choice of the others."""
    result = fit(**given)
    assert not knobs & {r["knob"] for r in decided(result.history)}
    for name in knobs - {"clip_norm"}:
        assert getattr(result, name) == given[name]
    assert decided(result.history)[-1]["new"] == "converged"


@pytest.mark.slow
def test_heavy_tails_are_clipped_and_light_ones_left():
    """Catches clipping that comes whatever the rows are, or for none: rows scaled by Cauchy and by
    Gaussian numbers to the power 1.5, since the mean of a batch hides a tail that is less heavy.
    """
    rng = np.random.default_rng(5)
    y = rng.normal(size=20_000).astype("float32")
    scales = {"cauchy": rng.standard_cauchy(20_000), "gauss": rng.normal(size=20_000)}

    def scaled(model, batch, key):
        # far from 0, so that the loss of one row is no explosion of the whole
        return 1e4 + batch[0] * (jnp.sqrt(1 + (model["w"] - batch[1]) ** 2) - 1)

    clips = {}
    for name, scale in scales.items():
        seen = []
        result = downslope.fit(
            scaled, {"w": np.float32(0.5)}, (np.abs(scale).astype("float32") ** 1.5, y),
            optimizer="sgd", learning_rate=1e-4, measure_every=2, steps=1000,
            patience=None, validation=0.1, readers=(seen.append,),
        )  # fmt: skip
        clips[name] = [r for r in decided(result.history) if r["knob"] == "clip_norm"]
        measured = [r for r in seen if r["event"] == "measured"][-1]
        assert ("value" in measured["clip_fraction"]) is (name == "cauchy")
        assert abs(result.params["w"]) < 0.7
    assert len(clips["cauchy"]) == 1 and not clips["gauss"]
    assert "heavy tail" in clips["cauchy"][0]["because"]


@pytest.mark.slow
def test_an_overfitted_run_starts_again_and_keeps_the_best():
    """Catches a later start that replaces a better earlier one, and a start in vain that is not
    the last: 60 inputs that say little, and 200 rows.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 60)).astype("float32")
    y = (x[:, 0] + 2 * rng.normal(size=600) > 0).astype("float32")
    model = {
        "a": rng.normal(size=(60, 16)).astype("float32") / 8,
        "c": rng.normal(size=16).astype("float32") / 4,
    }
    result = downslope.fit(loss, model, (x[:200], y[:200]), validation=(x[200:], y[200:]))
    again = [d for d in replay(result.history) if d.policy == "start_again"]
    assert 1 <= len(again) <= 2
    seen = [r["metrics"]["loss"]["value"] for r in result.history if r["event"] == "evaluated"]
    kept = float(np.mean(loss(result.params, (x[200:], y[200:]), None)))
    assert kept == pytest.approx(min(seen), rel=1e-5)
    assert result.stop_reason is StopReason.CONVERGED
