"""Records of a run's progress: their fields, their rate, and records taken back by a return."""

from __future__ import annotations

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import plain
from downslope import StopReason
from downslope.report.journal import Journal
from downslope.report.progress import noise_text
from downslope.train import progress_writer
from downslope.train.progress import TrainingProgress
from downslope.train.progress_writer import (
    MAX_READING_SHARE,
    MEASURED_SHARE,
    PROGRESS_SECONDS,
    ProgressWriter,
)
from loops import X, Y, line, model

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = {
    "noise_scale", "gradient_signal", "gradient_noise", "temperature", "measured_temperature",
    "equilibrium_ratio", "clip_fraction", "step_correlation",
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run, its folder and the records that a reader saw."""
    seen, folder = [], tmp_path_factory.mktemp("told") / "run"
    result = plain.fit(
        line, model(), (X, Y), optimizer="sgd", learning_rate=0.02, batch_size=20, epochs=40,
        clip_norm=1e6, out=folder, readers=(seen.append,),
    )  # fmt: skip
    return result, folder, seen


def records(seen, event):
    return [r for r in seen if r["event"] == event]


@pytest.mark.slow
def test_what_was_measured_is_told_whole(told):
    """Catches a field renamed or dropped: also one that is 0, such as a share that is clipped; and
    a result read before the last steps, or another than the files tell.
    """
    result, folder, seen = told
    measured = records(seen, "measured")
    assert len(measured) >= 2 and set(result.measurements) == NAMES
    for record in measured:
        assert NAMES | {"event", "step", "seconds", "batch_size", "stability"} <= set(record)
        assert 0 < record["step"] <= result.num_steps and record["batch_size"] == 20
        for name in NAMES:
            assert {"value", "lo", "hi", "reason"} & set(record[name]), name
            assert None not in record[name].values()
    lines = [json.loads(text) for text in (folder / "journal.jsonl").read_text().splitlines()]
    assert records(lines, "measured") == measured == records(result.history, "measured")
    last = measured[-1]
    assert last["clip_fraction"]["value"] == 0 and last["step"] == result.num_steps == 1200
    for name, m in result.measurements.items():
        assert last[name] == {k: v for k, v in m.to_json().items() if v not in (None, "", [])}
    summary = json.loads((folder / "result.json").read_text())
    assert summary["measurements"] == {n: m.to_json() for n, m in result.measurements.items()}
    scale = result.measurements["noise_scale"]
    assert scale.num_steps >= 24 and scale.lo is not None
    assert noise_text(last).startswith("; noise scale ")  # as the line of progress looks for it


def test_progress_is_that_of_the_run(told):
    """Catches time counted twice or not at all, a rate that is not the one trained with, and
    counts of calls.
    """
    found = records(told[2], "progress")
    seconds = [0.0, *(record["seconds"] for record in found), told[0].seconds]
    assert (np.diff(seconds) > 0).all()
    assert found[-1]["step"] == 1200 and found[-1]["num_examples"] == 24_000
    for record in found:
        assert 0 <= record["waiting_share"] <= 1 and 0 <= record["reading_share"] <= 1
        assert record["fraction"] == pytest.approx(record["step"] / 1200)
        assert (record["batch_size"], record["learning_rate"]) == (20, pytest.approx(0.02))
        assert record["span_seconds"] > 0 and 1 <= len(record["batch_losses"]) <= 16


def test_a_rule_that_holds_its_own_rate_tells_none():
    """Catches the 0 that the device is given, shown as a rate that nothing is learned with."""
    result = plain.fit(
        line, model(), (X, Y), optimizer=optax.sgd(0.05), learning_rate="auto", epochs=2
    )
    found = records(result.history, "progress")
    assert found and {record["learning_rate"] for record in found} == {None}
    assert result.learning_rate is None and result.params["w"].any()


def test_without_measuring_there_is_nothing_to_tell():
    """Catches records, or a result, of measurements that were turned off."""
    result = plain.fit(line, model(), (X, Y), epochs=2, measure_every=None)
    assert result.measurements == {} and records(result.history, "measured") == []
    assert records(result.history, "progress")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(progress_writer, "time", clock)
    return clock


def written(clock, seconds, every, *, cost=0.0, ends_epoch=False):
    """Progress records of a run that looks `every` so many seconds, and when it measured."""
    journal, measured = Journal(None), []
    writer, stream = ProgressWriter(journal, 0), SimpleNamespace(seconds_waited=0, seconds_read=0)
    while clock.now < seconds:
        clock.now += every
        stream.seconds_waited += every / 4
        if writer.is_due(clock.now, ends_epoch=ends_epoch):
            progress, now = TrainingProgress(seconds=clock.now), clock.now
            writer.write(now, progress, stream, fraction=None, batch_size=1, learning_rate=None)
            if writer.measures_now(now, progress.seconds):
                measured.append(now)
                clock.now += cost
                writer.measured(now)
    return journal.records, measured


def test_records_are_written_at_a_fixed_rate_and_measured_ones_grow_rarer(clock):
    """Catches a record of every call, spans that overlap or leave a gap, and measured records that
    would fill the journal of a day.
    """
    found, measured = written(clock, 3600.0, 0.125)
    assert {r["span_seconds"] for r in found} == {PROGRESS_SECONDS} and len(found) == 7200
    assert {r["waiting_share"] for r in found} == {0.25} and found[0]["reading_share"] == 0
    apart, at = np.diff(measured), np.array(measured[1:])
    assert (apart >= MEASURED_SHARE * at - 1e-9).all()
    assert (apart <= MEASURED_SHARE * at + 2 * PROGRESS_SECONDS).all()
    assert measured[0] <= PROGRESS_SECONDS and 500 < len(measured) < 1200


def test_measured_records_cost_a_small_share_of_the_time(clock):
    """Catches a record after each of many epochs that take a millisecond each."""
    _, measured = written(clock, 3.0, 0.001, cost=0.004, ends_epoch=True)
    assert 3 <= len(measured) <= 2 + 3.0 * MAX_READING_SHARE / 0.004


def test_nothing_is_due_in_a_trial(clock):
    """Catches progress of trials, and a span that begins before the trial ended."""
    writer = ProgressWriter(Journal(None), 0)
    assert writer.is_due(0.1, ends_epoch=True) and not writer.is_due(0.1, ends_epoch=False)
    writer.pause()
    clock.now = 99.0
    assert not writer.is_due(99.0, ends_epoch=True)
    writer.begin(7)
    assert not writer.is_due(99.1, ends_epoch=False) and writer.is_due(99.6, ends_epoch=False)


def breaking(model, batch, key):
    """Walks up a slope, and breaks when it is at 0.5."""
    return jnp.where(model["a"] > 0.495, jnp.nan, -model["a"]) * batch


def broken(num_rows, **options):
    seen = []
    given = {"optimizer": optax.sgd(0.01), "learning_rate": "auto", "patience": None} | options
    result = plain.fit(
        breaking, {"a": np.float32(0)}, np.ones(num_rows, "float32"), batch_size=2, steps=150,
        measure_every=1, readers=(seen.append,), **given,
    )  # fmt: skip
    return result, seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_rows", "checkpoint_seconds", "kept"),
    [(300, 3600.0, {0}), (10, 0.0, {50}), (10, 3600.0, set(range(5, 51, 5)))],
)
def test_a_diverged_run_goes_back_with_its_measurements(
    num_rows, checkpoint_seconds, kept, tmp_path
):
    """Catches probes of steps that were thrown away, those of the state gone back to lost, and a
    return over hours to the last file, though copies in memory, where an epoch ends, are cheap.

    The rule holds its own rate, so that none can be tried instead.
    """
    out = tmp_path / "run"
    result, seen = broken(num_rows, checkpoint_seconds=checkpoint_seconds, out=out)
    assert (result.stop_reason, result.diverged_at_step) == (StopReason.DIVERGED, 51)
    assert result.num_steps in kept
    assert float(result.params["a"]) == pytest.approx(0.01 * result.num_steps, rel=1e-5)
    after = [(r["event"], r["step"]) for r in seen if r["event"] in ("diverged", "measured")]
    assert ("diverged", result.num_steps) in after[-2:]
    if kept == {50}:
        assert result.measurements["step_correlation"].value == pytest.approx(1, rel=1e-3)
        assert after[-1] == ("measured", 50)
        assert max(int(p.name.split("-")[0]) for p in (out / "checkpoints").iterdir()) == 50
    elif kept == {0}:
        assert all(m.value is None for m in result.measurements.values())


def test_a_step_that_went_wrong_is_undone_and_the_rate_cut():
    """Catches a run that is given up though a lower rate would do, a step that was undone and
    counts all the same, and a rate that the user gave and that is changed without a word.
    """
    result, _ = broken(300, optimizer="sgd", learning_rate=0.01)
    assert (result.stop_reason, result.num_steps) == (StopReason.FINISHED, 150)
    (decided,) = records(result.history, "decided")
    assert (decided["knob"], decided["old"]) == ("learning_rate", pytest.approx(0.01))
    assert result.learning_rate == decided["new"] == pytest.approx(0.001)
    assert "update 51" in decided["because"] and "the rate given is too high" in decided["because"]
    assert float(result.params["a"]) == pytest.approx(0.001 * 150, rel=1e-4)
    steps = [r["step"] for r in records(result.history, "progress")]
    assert steps == sorted(steps)  # none of the updates that were taken back
