"""What a run tells about itself while it trains: measured records, shares of time, going back."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import plain
from downslope import StopReason
from downslope.data.stream import Ring, Stream
from downslope.report import progress
from downslope.report.progress import Progress, noise_text
from downslope.train import flight as flight_module
from downslope.train import telling
from downslope.train.assemble import assemble
from downslope.train.flight import Flight
from downslope.train.progress import MEASURED_SHARE, PROGRESS_SECONDS, READING_SHARE
from downslope.train.run_folder import Run

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = {
    "noise_scale", "gradient_signal", "gradient_noise", "temperature", "measured_temperature",
    "equilibrium_ratio", "clip_fraction", "step_correlation",
}  # fmt: skip


def line(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def zeros():
    return {"w": np.zeros(3, "float32")}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype("float32")
    return x, x @ np.float32([1, -2, 3]) + rng.normal(size=600).astype("float32")


@pytest.fixture(scope="module")
def told(data, tmp_path_factory):
    """A run, its folder and the records that a reader saw."""
    seen, folder = [], tmp_path_factory.mktemp("told") / "run"
    result = plain.fit(
        line, zeros(), data, optimizer="sgd", learning_rate=0.02, batch_size=20, epochs=40,
        clip_norm=1e6, out=folder, readers=(seen.append,),
    )  # fmt: skip
    return result, folder, seen


def records(seen, event):
    return [r for r in seen if r["event"] == event]


def test_measured_records_have_their_fields(told):
    """Catches a field renamed or dropped: also one that is 0, such as a share that is clipped."""
    result, folder, seen = told
    assert set(result.measurements) == NAMES
    measured = records(seen, "measured")
    assert len(measured) >= 2
    for record in measured:
        own = {"event", "step", "seconds", "batch_size", "stability"}
        assert NAMES | own <= set(record)
        assert 0 < record["step"] <= result.num_steps and record["batch_size"] == 20
        for name in NAMES:
            assert {"value", "lo", "hi", "reason"} & set(record[name]), name
            assert None not in record[name].values()
    assert measured[-1]["clip_fraction"]["value"] == 0
    assert [r["step"] for r in measured] == sorted(r["step"] for r in measured)
    lines = [json.loads(text) for text in (folder / "journal.jsonl").read_text().splitlines()]
    assert records(lines, "measured") == measured


def test_the_result_is_what_the_last_record_says(told):
    """Catches a result read before the last steps, or one whose history lacks what was measured."""
    result, folder, seen = told
    last = records(seen, "measured")[-1]
    assert last["step"] == result.num_steps == 1200
    for name, m in result.measurements.items():
        kept = {k: v for k, v in m.to_json().items() if v is not None and v != "" and v != []}
        assert last[name] == kept
    assert records(result.history, "measured") == records(seen, "measured")
    summary = json.loads((folder / "result.json").read_text())
    found = {name: m.to_json() for name, m in result.measurements.items()}
    assert summary["measurements"] == found
    scale = result.measurements["noise_scale"]
    assert scale.num_steps >= 24 and scale.lo is not None


def test_shares_of_time_lie_between_0_and_1(told):
    """Catches time counted twice, or counted back when a buffer becomes free."""
    for record in records(told[2], "progress"):
        assert 0 <= record["waiting_share"] <= 1
        assert 0 <= record["reading_share"] <= 1


def test_the_line_shows_the_noise_scale(told, monkeypatch):
    """Catches a reader that looks for another field than the record has."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(stream) as show:
        for record in told[2]:
            now[0] += 1.0
            show(record)
    assert noise_text(records(told[2], "measured")[-1]).startswith("; noise scale ")
    assert any("; noise scale " in text for text in stream.getvalue().splitlines())


def test_without_measuring_there_is_nothing_to_tell(data):
    """Catches records, or a result, of measurements that were turned off."""
    result = plain.fit(line, zeros(), data, epochs=2, measure_every=None)
    assert result.measurements == {}
    assert records(result.history, "measured") == []
    assert records(result.history, "progress")


class Clock:
    """A clock that a test moves, in the place of `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clocked(data, monkeypatch):
    """A flight whose clock stands still, and a list of the moments at which it measured."""
    clock = Clock()
    for module in (flight_module, telling):
        monkeypatch.setattr(module, "time", clock)
    training = plain.training(batch_size=20)
    flight = Flight(assemble(line, zeros(), data, training), Run(None))
    flight.open()
    moments, cost = [], [0.0]

    def measure():
        moments.append(clock.now)
        clock.now += cost[0]

    monkeypatch.setattr(flight, "measure", measure)
    return clock, flight, moments, cost


def fly(clock, flight, seconds, step):
    """Progress is told every `step` seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += step
        flight.tally.seconds = clock.now
        flight._tell(clock.now)


def test_measured_records_grow_rarer(clocked):
    """Catches one record with each progress record: a day of them would fill the journal."""
    clock, flight, moments, _ = clocked
    fly(clock, flight, 3600.0, PROGRESS_SECONDS)
    apart = np.diff(moments)
    assert (apart >= MEASURED_SHARE * np.array(moments[1:]) - 1e-9).all()
    assert (apart <= MEASURED_SHARE * np.array(moments[1:]) + 2 * PROGRESS_SECONDS).all()
    assert moments[0] <= PROGRESS_SECONDS
    assert 500 < len(moments) < 1200


def test_measured_records_cost_a_small_share_of_the_time(clocked):
    """Catches a record after each of many epochs that take a millisecond each."""
    clock, flight, moments, cost = clocked
    cost[0] = 0.004
    fly(clock, flight, 3.0, 0.001)
    assert 3 <= len(moments) <= 2 + 3.0 * READING_SHARE / cost[0]


def test_reading_time_never_falls_while_a_buffer_is_waited_for():
    """Catches waiting that is taken off before the work that it belongs to is put on."""
    ring = Ring(object)
    release = threading.Event()

    def blocks():
        for _ in range(8):
            slot = ring.take()
            time.sleep(0.02)
            yield SimpleNamespace(slot=slot)

    seen = []
    with Stream(blocks(), ring) as stream:

        def look():
            while not release.is_set():
                seen.append(stream.seconds_read)
                time.sleep(0.001)

        watcher = threading.Thread(target=look)
        watcher.start()
        for number, block in enumerate(stream):
            if number == 4:  # all buffers are out: the reader waits
                time.sleep(0.15)
            if number >= 4:
                stream.release(block)
        release.set()
        watcher.join()
        total = stream.seconds_read
    assert all(a <= b for a, b in itertools.pairwise(seen))
    assert 8 * 0.02 <= total < 8 * 0.02 + 0.1


def breaking(model, batch, key):
    """Walks up a slope, and breaks when it is at 0.5."""
    return jnp.where(model["a"] > 0.495, jnp.nan, -model["a"]) * batch


@pytest.mark.parametrize(
    ("num_rows", "checkpoint_seconds", "kept"), [(300, 3600.0, 0), (10, 0.0, 50)]
)
def test_a_diverged_run_goes_back_with_its_measurements(num_rows, checkpoint_seconds, kept):
    """Catches probes of steps that were thrown away, and those of the state gone back to lost.

    A rule that holds its own rate, so that none can be tried instead.
    """
    seen = []
    result = plain.fit(
        breaking, {"a": np.float32(0)}, np.ones(num_rows, "float32"), optimizer=optax.sgd(0.01),
        learning_rate="auto", batch_size=2, steps=150, measure_every=1, patience=None,
        checkpoint_seconds=checkpoint_seconds, readers=(seen.append,),
    )  # fmt: skip
    assert result.stop_reason is StopReason.DIVERGED
    assert result.num_steps == kept
    correlation = result.measurements["step_correlation"]
    after = [r for r in seen if r["event"] in ("diverged", "measured")]
    if kept:
        assert correlation.value == pytest.approx(1, rel=1e-3)
        assert [r["event"] for r in after][-2:] == ["diverged", "measured"]
        assert after[-1]["step"] == kept
    else:
        assert all(m.value is None for m in result.measurements.values())
        assert after[-1]["event"] == "diverged"


def test_a_state_is_remembered_between_checkpoints():
    """Catches a roll-back over hours to the last file, though copies in memory are cheap."""
    result = plain.fit(
        breaking, {"a": np.float32(0)}, np.ones(10, "float32"), optimizer=optax.sgd(0.01),
        learning_rate="auto", batch_size=2, steps=150, patience=None, checkpoint_seconds=3600.0,
    )  # fmt: skip
    assert result.diverged_at_step == 51
    assert 5 <= result.num_steps <= 50 and result.num_steps % 5 == 0  # where an epoch ends
    assert float(result.params["a"]) == pytest.approx(0.01 * result.num_steps, rel=1e-5)


def test_a_step_that_went_wrong_is_undone_and_the_rate_cut():
    """Catches a run that is given up though a lower rate would do, a step that was undone and
    counts all the same, and a rate that the user gave and that is changed without a word.
    """
    result = plain.fit(
        breaking, {"a": np.float32(0)}, np.ones(300, "float32"), optimizer="sgd",
        learning_rate=0.01, batch_size=2, steps=150,
    )  # fmt: skip
    assert (result.stop_reason, result.num_steps) == (StopReason.FINISHED, 150)
    (decided,) = records(result.history, "decided")
    assert (decided["knob"], decided["old"]) == ("learning_rate", pytest.approx(0.01))
    assert result.learning_rate == decided["new"] == pytest.approx(0.001)
    assert "update 51" in decided["because"] and "the rate given is too high" in decided["because"]
    assert float(result.params["a"]) == pytest.approx(0.001 * 150, rel=1e-4)
    told = [r["step"] for r in result.history if r["event"] == "progress"]
    assert told == sorted(told)  # none of the updates that were taken back


def test_a_hold_is_where_the_run_stood(data):
    """Catches a hold that shares memory with the run, or leaves out what a later state holds:
    optimizer, counts, measured steps.
    """
    engine = assemble(
        line, zeros(), data, plain.training(optimizer="adam", learning_rate=0.1, batch_size=20)
    )
    flight, other = (Flight(engine, Run(None)) for _ in range(2))
    for each in (flight, other):
        each.fly(engine.knobs(), 7, lambda: False)
    held = flight.hold()
    flight.fly(engine.knobs(), 9, lambda: False)
    for _ in range(2):  # a hold serves more than once
        flight.return_to(held)
        assert flight.tally.to_json() | {"seconds": 0} == other.tally.to_json() | {"seconds": 0}
        flight.fly(engine.knobs(), 5, lambda: False)
    other.fly(engine.knobs(), 5, lambda: False)
    mine, theirs = flight.mark().tensors, other.mark().tensors
    assert mine.keys() == theirs.keys()
    for name in mine.keys() - {"watch/path_numbers"}:
        if not name.startswith("watch/path"):  # points of the path follow the clock
            np.testing.assert_array_equal(mine[name], theirs[name])
