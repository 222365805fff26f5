"""Changing the batch size while a run is under way: rows, programs, threads, costs."""

from __future__ import annotations

import logging
import re
import threading

import jax
import numpy as np
import pytest

import downslope
from downslope.choose import Decision, next_batch_size
from downslope.config import Training
from downslope.data.stream import Position
from downslope.train import batches as batches_module
from downslope.train import pace
from downslope.train.assemble import assemble
from downslope.train.batches import Batches
from downslope.train.flight import Flight
from downslope.train.run_folder import Run

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = 4096
NUMBERS = np.arange(ROWS, dtype=np.int32)
FIRST = 64
TIMES = {16: 1e-4, 64: 1.1e-4, 256: 1.5e-4, 1024: 3e-4}


def visits(model, batch, key):
    """Descent at rate 1 adds 1/B to the entry of each row at each visit."""
    return -model["seen"][batch]


def never():
    return False


def asked(**options):
    return {
        "optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant", "clip_norm": None,
        "average": None, "patience": None, "measure_every": 256,
    } | options  # fmt: skip


def zeros():
    return {"seen": np.zeros(ROWS, "float32")}


@pytest.fixture
def short_calls(monkeypatch):
    monkeypatch.setattr(pace, "FIRST_WINDOWS", 2)
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.0)


def switching(monkeypatch, plan):
    """Changes to `plan[n]` after call number n."""
    calls = []

    def turn(self, knobs):
        calls.append(self._flight.gear.batch_rows)
        size = plan.get(len(calls))
        if size is None:
            return None
        old = self._flight.gear.batch_rows
        return Decision(knob="batch_size", old=old, new=size, because="planted", policy="planted")

    monkeypatch.setattr(Batches, "turn", turn)
    return calls


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("plan", [{3: 512}, {2: 32}, {2: 512, 4: 128, 6: 2048}])
def test_a_change_skips_no_row_and_repeats_none_but_of_one_batch(plan, monkeypatch):
    """Catches a call that is in the air at the change and is made again, or whose rows are lost,
    and an epoch that is put in another order.
    """
    calls = switching(monkeypatch, plan)
    result = downslope.fit(visits, zeros(), NUMBERS, epochs=1, **asked())
    seen = result.params["seen"].astype(float)
    sizes = [FIRST, *plan.values()]
    assert set(sizes) <= set(calls) | {sizes[-1]}
    assert result.batch_size == sizes[-1]
    assert (seen > 0).all()
    once = np.isclose(seen[:, None], 1 / np.array(sizes)).any(1)
    assert (~once).sum() < sum(sizes[1:])  # of the batch that a change falls into
    assert result.num_examples == ROWS + (~once).sum()
    assert result.num_epochs == 1.0


@pytest.mark.usefixtures("short_calls")
def test_the_account_agrees_with_the_device(monkeypatch):
    """Catches updates that are made and not counted, or counted twice, and a limit overrun."""
    switching(monkeypatch, {2: 512, 5: 32})
    result = downslope.fit(visits, zeros(), NUMBERS, steps=50, **asked())
    assert result.num_steps == 50
    # each update adds 1 in total, whatever its batch; batches here are never short
    assert float(result.params["seen"].sum()) == pytest.approx(50, rel=1e-5)


@pytest.mark.usefixtures("short_calls")
def test_times_belong_to_the_gear_that_took_them(monkeypatch):
    """Catches the last call of the gear before timed as the first of the new one."""
    switching(monkeypatch, {4: 2048})
    kept = {}
    change = Flight.change

    def changed(self, gear):
        change(self, gear)
        kept.update({size: len(times) for size, times in self.step_seconds.items()})

    monkeypatch.setattr(Flight, "change", changed)
    downslope.fit(visits, zeros(), NUMBERS, epochs=1, **asked())
    assert kept == {FIRST: 4}


def flight_of(seconds=1000.0, **options):
    engine = assemble(visits, zeros(), NUMBERS, Training(**asked(**options)))
    flight = Flight(engine, Run(None))
    flight._seconds_before = seconds
    batches = Batches(engine, flight)
    batches._noise = lambda: (300.0, 200.0, 900.0)
    return flight, batches


def compilations(records):
    """Threads in which a step was compiled."""
    done = re.compile(r"Finished XLA compilation of jit\(steps\)")
    return [r.threadName for r in records if done.search(r.getMessage())]


@pytest.fixture
def log_compiles():
    """In all threads; `jax.log_compiles` is for one."""
    jax.config.update("jax_log_compiles", True)
    yield
    jax.config.update("jax_log_compiles", False)


@pytest.mark.usefixtures("log_compiles")
def test_the_next_gear_is_compiled_beside_the_run_and_used_as_it_is(caplog):
    """Catches a compilation in the thread that trains, before the change or at it."""
    with caplog.at_level(logging.WARNING):
        flight, batches = flight_of()
        knobs = flight.engine.knobs()
        flight.fly(knobs, 8, never)
        assert batches.turn(knobs) is None  # begins to compile
        assert batches.larger() is None or batches._looking is None
        flight.fly(knobs, 4, never)
        batches.close()
        decision = batches.turn(knobs)
        assert (decision.knob, decision.old, decision.new) == ("batch_size", FIRST, 4 * FIRST)
        before = flight.tally.num_steps
        batches.go_on_with(decision.new, knobs)
        assert batches.larger() is None
        flight.fly(knobs._replace(batch_size=np.float32(4 * FIRST)), 4, never)
        assert flight.healthy and flight.tally.num_steps == before + 4
        batches.go_on_with(FIRST, knobs)
        assert batches.larger() == 4 * FIRST
        flight.fly(knobs, 4, never)
    threads = compilations(caplog.records)
    assert threads == [threading.main_thread().name, "compile"]


def test_a_run_must_have_lasted_before_another_gear_is_tried():
    """Catches a short run that pays for programs it never uses."""
    flight, batches = flight_of(seconds=0.0)
    knobs = flight.engine.knobs()
    assert batches.turn(knobs) is None and batches._looking is None  # nothing has run yet
    flight.fly(knobs, 4, never)
    flight.compile_seconds = 10.0
    assert batches.turn(knobs) is None and batches._looking is None
    flight._seconds_before = 111.0
    batches.turn(knobs)
    assert batches._looking is not None
    batches.close()


def test_a_gear_that_cannot_be_compiled_is_not_used(monkeypatch):
    """Catches a fault of a thread that ends the run, or a gear without a program."""
    flight, batches = flight_of()
    knobs = flight.engine.knobs()
    flight.fly(knobs, 4, never)
    make = batches._make

    def broken(*args):
        gear = make(*args)
        gear.open_stream = lambda position: 1 / 0
        return gear

    batches._make = broken
    assert batches.turn(knobs) is None
    looking = batches._looking
    batches.close()
    assert isinstance(looking.failed, ZeroDivisionError) and not looking.is_ready
    assert batches.turn(knobs) is None
    assert flight.gear.batch_rows == FIRST


def test_a_prepared_gear_makes_the_same_steps():
    """Catches a program for other shapes or types than the loop calls it with."""
    engine = assemble(visits, zeros(), NUMBERS, Training(**asked()))
    gear = engine.make_gear(256, False)
    gear.prepare(engine.start(), Position(), engine.knobs())
    gear.join()
    assert gear.is_ready and gear.failed is None and gear.compile_seconds > 0
    flight = Flight(engine, Run(None))
    flight.change(gear)
    flight.fly(engine.knobs()._replace(batch_size=np.float32(256)), 16, never)
    seen = np.asarray(flight._state.params["seen"])
    assert seen == pytest.approx(np.full(ROWS, 1 / 256))


@pytest.fixture
def timed(monkeypatch):
    """Gears that are all there, with planted times and a planted noise scale."""

    def plant(times, noise, here=64, **options):
        flight, batches = flight_of(batch_size="auto")
        batches._noise = lambda: noise
        monkeypatch.setattr(Batches, "_is_usable", lambda self, size: True)
        flight.gear.batch_rows = here
        flight.step_seconds = {size: [t, 1.01 * t, 0.99 * t, t] for size, t in times.items()}
        return batches, flight.engine.knobs()

    return plant


def test_it_goes_where_the_rest_takes_least(timed):
    """(1 + N/b) t(b), by hand over the sizes timed; catches throughput or fewest updates alone."""
    for noise in (3.0, 100.0, 400.0, 4e4):
        best = min(TIMES, key=lambda b: (1 + noise / b) * TIMES[b])
        decision = timed(TIMES, (noise, 0.99 * noise, 1.01 * noise))
        decision = decision[0].turn(decision[1])
        assert (64 if decision is None else decision.new) == best
    # updates that all take the same: the largest that was timed
    flat = dict.fromkeys(TIMES, 1e-4)
    batches, knobs = timed(flat, (500.0, 480.0, 520.0))
    assert batches.turn(knobs).new == 1024


def test_a_cliff_in_the_costs_is_seen(timed):
    """Catches a straight line through the times: beyond 64 an update takes 40 times as long."""
    line = {size: 1e-4 + 1e-7 * size for size in TIMES}
    cliff = {size: t * (40 if size > 64 else 1) for size, t in line.items()}
    noise = (2000.0, 1900.0, 2100.0)
    batches, knobs = timed(line, noise)
    assert batches.turn(knobs).new == 1024
    batches, knobs = timed(cliff, noise)
    assert batches.turn(knobs) is None
    batches, knobs = timed(cliff, noise, here=1024)
    assert batches.turn(knobs).new == 64


def test_a_cliff_between_rungs_is_kept_away_from():
    """Catches a fit that smooths the step out: 512 costs 16 times what 256 costs, 2048 no less."""
    sizes = [64, 128, 256, 512, 1024, 2048]
    seconds = [[t, 1.02 * t, 0.98 * t] for t in (1e-4, 1.1e-4, 1.3e-4, 2e-3, 4e-3, 8e-3)]
    common = {"timed_sizes": sizes, "timed_seconds": seconds, "ladder": sizes}
    noise = {"noise_scale": 3000.0, "noise_lo": 2900.0, "noise_hi": 3100.0}
    assert next_batch_size(batch_size=64, **noise, **common).new == 256
    assert next_batch_size(batch_size=2048, **noise, **common).new == 256
    assert next_batch_size(batch_size=256, **noise, **common) is None


def test_without_a_noise_scale_nothing_moves(timed):
    """Catches a guess of the noise scale, and a change that rests on two calls."""
    batches, knobs = timed(TIMES, (None, None, None))
    assert batches.turn(knobs) is None
    batches, knobs = timed(TIMES, (4e4, 3e4, 5e4))
    batches._flight.step_seconds[64] = [1e-4, 1e-4]
    assert batches.turn(knobs) is None
    assert batches.seconds_per_example(64) is None
    assert batches.seconds_per_example(256) == pytest.approx(1.5e-4 / 256)
    assert batches.seconds_per_example(9999) is None


def test_the_question_is_asked_once_in_a_while(timed, monkeypatch):
    """Catches a fit of the times after every call."""
    batches, knobs = timed(TIMES, (64.0, 1.0, 1e4))
    asked_for = []
    monkeypatch.setattr(batches_module, "next_batch_size", lambda **k: asked_for.append(k))
    for _ in range(50):
        batches.turn(knobs)
    assert len(asked_for) == 1
    batches._flight._seconds_before *= 1.3
    batches.turn(knobs)
    assert len(asked_for) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"batch_size": 64},
        {"batch_size": "full"},
        {"microbatch_size": 16},
        {"schedule": "cosine", "steps": 100},
    ],
)
def test_where_the_batch_must_stay_there_are_no_other_gears(given):
    """Catches a given batch size that is changed, and a cosine stretched over other updates."""
    training = Training(**asked(**given))
    assert not assemble(visits, zeros(), NUMBERS, training).can_change
