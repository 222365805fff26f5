"""Trials of a learning-rate search in the loop, on a quadratic of known stability edge."""

from __future__ import annotations

import dataclasses
import itertools
import math
import signal
import threading
import time

import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

import loops
from downslope import losses as row_losses
from downslope.choose import Decision
from downslope.choose.controller import EndTrials, Trial
from downslope.choose.learning_rate import LENGTH_POWER, MIN_TRIAL
from downslope.train import observe
from downslope.train.loop import Loop
from downslope.train.trials import Trials, kept_rows, start_rate
from loops import BATCH, ROWS, X, Y, core, decision, loop_of, planted, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation", "short_calls")
__all__ = ["planted", "short_calls"]

EDGE = float(2 / np.linalg.eigvalsh(X.T @ X / ROWS)[-1])
OPTIONS = {"steps": 480, "measure_every": 2}  # of which a trial is a 24th: 20, in four calls


@pytest.fixture(scope="module")
def setup():
    return loops.setup_of(learning_rate="auto", checkpoint_seconds=0.0, **OPTIONS)


def search(setup, first, monkeypatch, on_call=None):
    """A loop whose trials are over, and the decision on the rate or None."""
    monkeypatch.setattr(observe, "start_rate", lambda setup: first)
    asked = loops.plain.training(**{"learning_rate": "auto"} | OPTIONS)
    loop = loop_of(setup, asked=asked)
    core.turn_knobs(loop, core.decide(loop, core.observe_begin(loop)))
    assert loop.trials is not None
    for number in itertools.count():
        if loop.trials is None:
            break
        if on_call is not None:
            on_call(loop, number)
        core._train_on_blocks(loop)
    return loop, next(map(Decision.from_json, records(loop, "decided")), None)


def params(loop):
    return np.asarray(loop.state.device.params["w"])


@pytest.fixture(scope="module")
def searched(setup):
    """A search that begins just under the edge, so that its second rate diverges."""
    with pytest.MonkeyPatch.context() as patch:
        loops.shorten_calls(patch)
        return search(setup, 0.9 * EDGE, patch)


def test_each_trial_is_a_run_of_its_own_and_the_best_one_is_gone_on_with(searched, planted):
    """Catches a trial that goes on from another's end or other rows, one charged with the call
    that a diverged one left, the last trial's end kept, and counts of all trials.
    """
    loop, decided = searched
    losses = dict(zip(decided.inputs["rates"], decided.inputs["losses"], strict=True))
    best = min(losses, key=losses.__getitem__)
    found = decided.new * (480 / MIN_TRIAL) ** LENGTH_POWER  # but for the run's length
    assert len(losses) >= 4 and best / 10**0.25 <= found <= best * 10**0.25
    for rate, loss in losses.items():
        assert math.isfinite(loss) is (rate < EDGE)
        if rate < EDGE:
            planted.plan = {4: (decision("stop", "converged"),)}
            planted.seen = []
            alone = loop_of(loops.setup_of(learning_rate=rate, measure_every=2, steps=480))
            train(alone)
            progress = alone.state.progress
            assert progress.num_steps == MIN_TRIAL
            assert loss == pytest.approx(float(np.mean(progress.last_losses)))
            if rate == best:
                assert_array_equal(params(loop), params(alone))
                found, clock = loop.state.progress, {"seconds": 0, "update_seconds": 0}
                assert found.to_json() | clock == progress.to_json() | clock
    assert int(loop.state.device.step) == MIN_TRIAL and loop.trouble is None
    assert_array_equal(loop.run.last.tensors["state/params/w"], params(loop))
    assert loop.state.knobs.learning_rate == decided.new


def test_nothing_of_a_trial_is_left_behind(searched):
    """Catches a noise scale read from diverging runs, and progress, checkpoints or evaluations of
    trials that lost.
    """
    loop = searched[0]
    steps = loop.state.monitor.arrays()["steps"]
    assert len(steps) == len(set(steps.tolist())) and steps.max() < MIN_TRIAL
    events = [r["event"] for r in loop.run.journal.records]
    assert [event for event in events if event not in ("horizon", "trial")] == [
        "started",
        "decided",
    ]
    assert loop.state.held_out.evaluated_step is None and loop.dispatcher.num_in_flight == 0


def test_a_trial_writes_no_progress_and_lets_its_rows_go(setup):
    """Catches progress of updates that are taken back, silence after them, and a thread that goes
    on reading.
    """
    loop, before = loop_of(setup), set(threading.enumerate())
    late = time.perf_counter() + 99
    for rate in (0.1, 0.2):
        core.turn_knobs(loop, (Trial(learning_rate=rate, num_steps=20),))
        assert not loop.writer.is_due(late, ends_epoch=True)
    (reader,) = set(threading.enumerate()) - before
    core.turn_knobs(loop, (EndTrials(keep_best=False),))
    assert loop.writer.is_due(late, ends_epoch=False)
    assert not reader.is_alive()


def at_start(loop):
    state = loop.state
    assert_array_equal(params(loop), np.zeros(3))
    assert (state.progress.num_steps, int(state.device.step), loop.trouble) == (0, 0, None)
    assert len(state.monitor.arrays()["steps"]) == 0
    return state.knobs == loop.setup.first_settings()


def test_where_every_rate_diverges_it_stands_at_the_start(setup, monkeypatch):
    """Catches a run that goes on from parameters that are not finite."""
    loop, decided = search(setup, 1e30, monkeypatch)
    assert decided is None and at_start(loop)
    assert loop.run.last.document["progress"]["num_steps"] == 0
    train(loop)
    assert loop.state.progress.num_steps == 480 and loop.trouble is None


@pytest.mark.parametrize("calm", [0, 1, 3])
def test_an_interrupt_ends_a_search_where_it_began(calm, setup, monkeypatch):
    """Catches a Ctrl-C that waits for all trials, or leaves the run at the end of a rate that
    nothing was compared with.
    """

    def interrupt(loop, number):
        if number == calm:
            loop.interrupts.received = signal.SIGINT

    loop, decided = search(setup, 0.1, monkeypatch, interrupt)
    assert decided is None and at_start(loop)
    assert not loop.state.controllers["learning_rate_search"].is_done
    assert not core.goes_on(loop)


def test_a_time_budget_ends_a_search_with_the_trials_made(monkeypatch):
    """Catches trials that take longer than their share, compiling counted as a part of it, and the
    trial that only times updates compared with the others.
    """
    setup = loops.setup_of(learning_rate="auto", seconds=8.0, **OPTIONS)
    monkeypatch.setattr(Loop, "seconds", property(lambda self: 4.0))

    def late(loop, number):
        loop.trials.seconds = 0.7 * number  # 20 % of 8 s are 1.6

    loop, decided = search(setup, 0.01, monkeypatch, late)
    assert len(decided.inputs["rates"]) == 2  # after the one that times updates
    assert loop.state.progress.num_steps == decided.inputs["steps"]


def test_a_trial_that_only_times_updates_is_not_kept(setup):
    """Catches a state kept that no other was compared with."""
    loop = loop_of(setup)
    trials = Trials(loop.state.copy_to_host())
    for seconds, is_kept in ((0.1, False), (None, True)):
        trials.begin(Trial(0.1, 20, seconds=seconds), lambda: None, keeps=False)
        trials.ended(0.5, loop.state, is_cut_short=False)
        assert (trials.best is not None) is is_kept


def test_a_later_trial_that_was_cut_short_is_not_the_best(setup):
    """Catches a lower loss of fewer updates on other rows kept, and a first trial thrown away."""
    loop = loop_of(setup)
    trials = Trials(loop.state.copy_to_host())
    for loss, step in ((0.5, 3), (0.1, 7)):
        loop.state.progress.num_steps = step
        trials.begin(Trial(0.1, 20), lambda: None, keeps=False)
        trials.ended(loss, loop.state, is_cut_short=True)
        assert trials.best.progress.num_steps == 3
    loop.state.progress.num_steps = 0


def test_rows_are_kept_for_the_next_trial_where_they_are_few():
    """Catches rows of a generator kept in memory without end, or read anew for every trial."""
    endless = dataclasses.replace(loops.setup_of(), num_rows=None)
    assert not kept_rows(endless, 1, 1)
    setup = loops.setup_of()
    assert setup.source.row_bytes == 16
    assert kept_rows(setup, BATCH, (32 << 20) // (16 * BATCH))
    assert not kept_rows(setup, BATCH, (32 << 20) // (16 * BATCH) + 1)


def hinge(model, batch, key):
    return row_losses.hinge(batch[0] @ model["w"], batch[1] > 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, pytest.approx(EDGE, rel=0.15)),
        ({"data": (10 * X, Y)}, pytest.approx(EDGE / 100, rel=0.15)),
        ({"optimizer": "momentum", "momentum": 0.8}, pytest.approx(EDGE / 5, rel=0.15)),
        ({"loss": hinge}, 0.1),  # without curvature at its start
        ({"optimizer": "adam"}, 1e-2),
        ({"optimizer": "schedule_free"}, 1e-2),
        ({"optimizer": "prodigy"}, None),
        ({"optimizer": optax.sgd(0.1)}, None),
    ],
)
def test_where_a_search_begins(options, expected):
    """Catches a rate without the loss's scale, a division by a curvature of 0, and a search for
    what the rule holds or finds by itself.
    """
    assert start_rate(loops.setup_of(**{"learning_rate": "auto"} | options)) == expected
