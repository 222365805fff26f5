"""Compiled steps by batch size: compiled in the background, used as they are, or failing."""

from __future__ import annotations

import logging
import re
import threading

import jax
import numpy as np
import pytest

import loops
from downslope.data.stream import Position
from downslope.train.compiled_step import CompiledSteps

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
