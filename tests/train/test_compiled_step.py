"""Compiled steps by batch size: compiled in the background, used as they are, or failing."""

from __future__ import annotations

import logging
import re
import threading
import time

import jax
import numpy as np
import pytest

import loops
from downslope.choose.step_time import line_times
from downslope.data.stream import Position
from downslope.train.compiled_step import COUNTED_COMPILE, CompiledSteps

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def setup():
    return loops.visiting_setup()


@pytest.fixture
def steps(setup):
    return CompiledSteps(setup.make_step, setup.first_step)


@pytest.fixture
def compiled_in(caplog):
    """Threads in which a step was compiled; `jax.log_compiles` would be for one thread."""
    caplog.set_level(logging.WARNING)
    jax.config.update("jax_log_compiles", True)
    done = re.compile(r"Finished XLA compilation of jit\(steps\)")
    yield lambda: [r.threadName for r in caplog.records if done.search(r.getMessage())]
    jax.config.update("jax_log_compiles", False)


def test_a_step_is_compiled_in_the_background_and_used_as_it_is(setup, steps, compiled_in):
    """Catches a compilation in the thread that trains, a program for other shapes than the loop
    calls it with, and a size that counts as usable before it is.
    """
    state, knobs = setup.start(), setup.knobs()
    make, waits = setup.make_step, threading.Event()

    def slow(*args):
        step = make(*args)
        open_stream = step.open_stream
        step.open_stream = lambda position: waits.wait() and open_stream(position)
        return step

    steps._make = slow
    assert steps.sizes()["known"] == steps.sizes()["usable"] == {64}
    steps.prepare(256, state, Position(), knobs)
    assert (steps.sizes()["known"], steps.sizes()["usable"]) == ({64, 256}, {64})
    waits.set()
    steps.close()
    found = steps.sizes()
    assert found["usable"] == {64, 256} and not found["failed"] and not steps.failures()
    assert found["compile_seconds"][256] > 0 == found["compile_seconds"][64]
    step = steps.change(256)
    assert steps.current is step and step.batch_rows == 256
    step.prepare(state, Position(), knobs)  # once is enough
    with step.open_stream(Position()) as stream:
        for block in stream:
            knobs = knobs._replace(batch_size=np.float32(256))
            state, _ = step.run(state, block.rows, block.windows, knobs)
            if block.ends_epoch:
                break
    assert np.asarray(state.params["seen"]) == pytest.approx(np.full(4096, 1 / 256))
    assert compiled_in() == ["compile"]
    assert steps.change(64) is setup.first_step and steps.sizes()["usable"] == {64, 256}


def test_a_size_that_does_not_compile_is_told_and_never_usable(setup, steps):
    """Catches a fault of a thread that ends the run, or a step without a program."""

    def broken(*args):
        step = setup.make_step(*args)
        step.open_stream = lambda position: 1 / 0
        return step

    steps._make = broken
    steps.prepare(256, setup.start(), Position(), setup.knobs())
    steps.close()
    assert (steps.sizes()["failed"], steps.sizes()["usable"]) == ({256}, {64})
    assert isinstance(steps.failures()[256], ZeroDivisionError)


@pytest.mark.parametrize("fails", [False, True])
def test_by_counted_times_a_size_is_usable_at_its_time_and_no_other(setup, steps, fails):
    """Catches a size that is used as soon as its thread is done, or not waited for when it is due,
    and a failure that shows when the thread happens to have failed.
    """
    costs = line_times(fixed_seconds=1e-3, seconds_per_example=1e-5)

    def make(*args):
        step = setup.make_step(*args)
        if fails:
            step.open_stream = lambda position: time.sleep(0.3) or 1 / 0
        return step

    steps._make = make
    steps.prepare(256, setup.start(), Position(), setup.knobs(), 10.0)
    if not fails:
        steps.close()  # its thread is done
    due = 10.0 + COUNTED_COMPILE
    early = steps.counted_sizes(costs, due - 0.1, wait=True)
    assert (early.known, early.usable, early.failed) == ({64, 256}, {64}, frozenset())
    found = steps.counted_sizes(costs, due, wait=True)
    assert (found.usable, found.failed) == (({64}, {256}) if fails else ({64, 256}, set()))
    assert found.step_seconds[64] == pytest.approx([1e-3 + 64e-5] * 3)


def test_a_size_asked_for_at_once_is_usable(steps):
    """Catches a change that waits for a step which was never prepared."""
    assert steps.change(128).batch_rows == 128
    assert steps.sizes()["usable"] == {64, 128}
    assert steps.clip().clips and steps.current.batch_rows == 128
    assert steps.sizes()["known"] == {128}  # the others would not clip


@pytest.mark.parametrize(
    ("given", "can"),
    [
        ({}, True),
        ({"batch_size": 64}, False),
        ({"batch_size": "full"}, False),
        ({"microbatch_size": 16}, False),
        ({"schedule": "cosine", "steps": 100}, True),
        ({"measure_every": None}, False),
    ],
)
def test_where_the_batch_must_stay(given, can):
    """Catches a given batch size that is changed, and a change without a noise scale that tells
    whether it pays.
    """
    assert loops.visiting_setup(**given).can_change is can
