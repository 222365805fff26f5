"""Observations for controllers, and results of runs that have ended."""

from __future__ import annotations

import dataclasses
from collections import deque
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import loops
from downslope import StopReason
from downslope.choose.clipping import MIN_NORMS
from downslope.choose.evaluations import MIN_UPDATES_BETWEEN
from downslope.metrics import MeanLoss, Results
from downslope.noise.online.monitor import NoiseMonitor
from downslope.train.finish import finish
from downslope.train.observe import LoopInstruments, observe
from downslope.train.saving import mark_good
from loops import BATCH, X, Y, loop_of, planted, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
__all__ = ["planted", "short_calls"]

CALL = SimpleNamespace(num_steps=5, ends_epoch=True)


@pytest.fixture(scope="module")
def setup():
    return loops.setup_of(validation=(X, Y), steps=90)


def evaluating(loop, *evaluations, has_loss=True):
    """A loop whose evaluations find these losses of the held-out rows."""
    left = iter(evaluations)

    def evaluate(params):
        accumulator, losses = MeanLoss(), np.asarray(next(left), np.float32)
        accumulator.add(losses=losses)
        found = accumulator.result() if has_loss else Results({"loss": "not finite"})
        found.losses = losses
        return found

    evaluate.compile_seconds = 0.0
    loop.setup = dataclasses.replace(loop.setup, evaluate=evaluate)
    return loop


@pytest.mark.parametrize(
    ("patience", "step", "last", "call", "evaluates"),
    [
        (3, 0, None, {}, True),  # given in evaluations: each epoch is one
        (3, 0, None, {"ends_epoch": False, "num_steps": 999}, False),
        ("auto", 0, None, {"num_steps": MIN_UPDATES_BETWEEN - 1}, False),
        ("auto", 0, None, {"num_steps": MIN_UPDATES_BETWEEN}, True),
        ("auto", 110, 100, {"num_steps": 5}, False),
        ("auto", 110, 100, {"num_steps": 6}, True),
        ("auto", 110, 100, {"num_steps": 999, "ends_epoch": False}, False),
    ],
)
def test_evaluations_are_at_ends_of_epochs_and_not_too_often(
    patience, step, last, call, evaluates, setup
):
    """Catches one after each of many short epochs, and one in the middle of one."""
    asked = loops.plain.training(patience=patience)
    loop = evaluating(loop_of(setup, asked=asked), [1.0, 2.0])
    loop.state.progress.num_steps = step
    loop.state.held_out = dataclasses.replace(loop.state.held_out, evaluated_step=last)
    seen = observe(loop, SimpleNamespace(**vars(CALL) | call))
    assert seen.moment == ("evaluated" if evaluates else "collected")


def test_an_evaluation_is_compared_with_the_loss_to_gain_on(setup):
    """Catches a gain within the tolerance, a reference that follows it, the mean training loss in
    the place of the held-out one, and an update of the evaluation that is not kept.
    """
    loop = evaluating(loop_of(setup), *([m, m] for m in (2.0, 1.0, 0.9999, 0.5)))
    loop.state.progress.first_losses, loop.state.progress.last_epoch_loss = [4.0], 3.0
    found = []
    for step in (10, 20, 30, 40):
        loop.state.progress.num_steps = step
        seen = observe(loop, CALL)
        found.append((seen.held_out_loss, seen.gained, seen.reference_loss))
        assert (seen.loss, seen.epoch_loss, seen.first_loss) == (seen.held_out_loss, 3.0, 4.0)
        assert loop.state.held_out.evaluated_step == step == loop.results[0]
    assert [gained for _, gained, _ in found] == [True, True, False, True]
    assert [reference for *_, reference in found] == [2.0, 1.0, 1.0, 0.5]
    written = [r["metrics"]["loss"]["value"] for r in records(loop, "evaluated")]
    assert written == pytest.approx([loss for loss, *_ in found])


@pytest.mark.parametrize(("rows", "gained"), [((1.95, 1.95), True), ((3.9, 0.0), False)])
def test_a_gain_within_the_noise_of_its_rows_is_none(rows, gained, setup):
    """Catches the same gain in the mean taken for one whether all rows have it or a few."""
    loop = evaluating(loop_of(setup), (2.0, 2.0) if gained else (0.0, 4.0), rows)
    found = []
    for loop.state.progress.num_steps in (10, 20):
        found.append(observe(loop, CALL))
    assert [seen.loss for seen in found] == pytest.approx([2.0, 1.95])
    assert [seen.gained for seen in found] == [True, gained]


@pytest.mark.parametrize("holds_out", [True, False])
def test_without_a_held_out_loss_that_of_the_last_epoch_decides(holds_out, setup):
    """Catches a run that never ends because there is no loss to look at, and the noise of one loss
    taken for that of another: no gain would stand out.
    """
    loop = evaluating(loop_of(setup), *[np.arange(9.0)] * 3, has_loss=False)
    if not holds_out:
        loop.setup = dataclasses.replace(loop.setup, evaluate=None)
    assert observe(loop, CALL).loss is None
    for step, loss in ((20, 1.0), (40, 0.9)):
        loop.state.progress.num_steps, loop.state.progress.last_epoch_loss = step, loss
        seen = observe(loop, CALL)
        assert (seen.moment, seen.loss, seen.held_out_loss, seen.gained) == (
            "evaluated", loss, None, True,
        )  # fmt: skip
        assert loop.state.held_out.reference_losses is None
        assert loop.state.held_out.evaluated_step == step


def test_an_evaluation_that_meets_a_diverged_step_is_none(setup):
    """Catches metrics of parameters that are not finite, and a decision on them."""
    loop = evaluating(loop_of(setup), [1.0])
    loop.trouble = "not finite", 3
    assert observe(loop, CALL).moment == "in_trouble"
    assert records(loop, "evaluated") == []


def planted_norms(loop, norms):
    loop.state.monitor = SimpleNamespace(norms=lambda: np.asarray(norms))
    return LoopInstruments(loop).norms()


def test_the_tail_of_the_norms(setup):
    """Catches a tail told from too few norms, few of many norms used, a threshold of 0, and shares
    of the wrong side.
    """
    loop = loop_of(setup)
    heavy = np.abs(np.random.default_rng(0).standard_cauchy(500))
    found = planted_norms(loop, heavy)
    assert found.num_norms == 500 and found.largest == heavy.max()
    assert (heavy > found.threshold).sum() == 50 and found.clipped_share == 0.1
    clipped = np.where(heavy > found.threshold, found.threshold, heavy)
    assert found.length_lost == pytest.approx((heavy - clipped).sum() / heavy.sum())
    assert found.tail_index_upper < 2
    long = np.abs(np.random.default_rng(1).standard_cauchy(5000))  # of tail index 1
    assert planted_norms(loop, long).tail_index_upper == pytest.approx(1.0, abs=0.3)
    assert planted_norms(loop, heavy[: MIN_NORMS - 1]) is None
    assert planted_norms(loop, heavy[:MIN_NORMS]) is not None
    assert planted_norms(loop, np.zeros(500)) is None
    equal = planted_norms(loop, np.ones(500))  # at the threshold, and so left as they are
    assert (equal.threshold, equal.clipped_share, equal.length_lost) == (1.0, 0.0, 0.0)
    loop.state.monitor = None
    assert LoopInstruments(loop).norms() is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_readings_are_those_of_the_monitor_and_read_once(
    optimizer, planted, short_calls, monkeypatch
):
    """Catches one end of an interval for the other, the Euclidean scale for Adam's steps, and a
    pass over the measurements for every controller that asks.
    """
    setup = loops.setup_of(optimizer=optimizer, steps=200, measure_every=2)
    loop = train(loop_of(setup))
    truth = loop.state.monitor.read()
    name = "preconditioned_noise_scale" if optimizer == "adam" else "noise_scale"
    read, asked = NoiseMonitor.read, []
    monkeypatch.setattr(NoiseMonitor, "read", lambda self: asked.append(1) or read(self))
    instruments = LoopInstruments(loop)
    for _ in range(3):
        found, scale = instruments.noise(), truth.measurements()[name]
        assert found.is_preconditioned == (optimizer == "adam")
        assert (found.scale, found.lo, found.hi) == (scale.value, scale.lo, scale.hi)
        assert found.lo is not None and found.equilibrium_ratio == truth.equilibrium.value
    assert len(asked) == 1
    loop.state.monitor = None
    assert LoopInstruments(loop).noise().scale is None


def test_rows_that_are_not_finite_are_looked_for_at_the_last_good_state(setup):
    """Catches rows named at broken parameters, where every loss is not finite."""
    data = X.copy(), Y
    data[0][[7, 99], 1] = np.nan
    loop = loop_of(loops.setup_of(data))
    loop.state.device = loop.state.device._replace(params={"w": jnp.full(3, jnp.nan)})
    assert LoopInstruments(loop).nonfinite_rows() == (7, 99)


def test_a_size_that_does_not_compile_is_written_once(setup):
    """Catches a record with every call, and a failure that nobody hears of."""
    loop = loop_of(setup)
    loop.steps.failures = lambda: {80: ValueError("x" * 999)}
    for _ in range(3):
        observe(loop, SimpleNamespace(num_steps=5, ends_epoch=False))
    (record,) = records(loop, "not compiled")
    assert (record["batch_size"], record["because"]) == (80, "x" * 200)


# --- the end of a run ---


def ended(setup, reason=StopReason.FINISHED, step=40, weights=(1.0, 1.0, 1.0), **more):
    """A loop that stands at an update and has ended."""
    loop = loop_of(setup)
    loop.state.progress.num_steps, loop.stop_reason = step, reason
    loop.state.device = loop.state.device._replace(params={"w": jnp.float32(weights)})
    loop.state.held_out = dataclasses.replace(loop.state.held_out, **more)
    return loop


def test_the_parameters_of_the_lowest_held_out_loss_are_kept(setup):
    """Catches the last ones, held-out metrics of others than those kept, and an evaluation made
    twice.
    """
    best = {"w": np.float32([0, 0, 1])}
    loop = evaluating(
        ended(setup, lowest_loss=1.0, lowest_step=30, params=best, evaluated_step=40), [7.0, 7.0]
    )
    result = finish(loop)
    assert_array_equal(result.params["w"], best["w"])
    assert result.validation["loss"].value == 7.0  # anew: those of update 40 were others
    lower = evaluating(
        ended(setup, lowest_loss=1.0, lowest_step=30, params=best, evaluated_step=30), [0.5, 0.5]
    )
    result = finish(lower)  # evaluated where it ended, once
    assert_array_equal(result.params["w"], [1, 1, 1])
    assert result.validation["loss"].value == 0.5


@pytest.mark.parametrize("patience", [None, 5])
def test_an_evaluation_that_was_made_is_not_made_again(patience):
    """Catches a second pass over large held-out rows, and metrics of an earlier update."""
    setup = loops.setup_of(validation=(X, Y), steps=90, patience=patience)
    for step, at in ((40, 40), (40, 30)):
        loop = evaluating(ended(setup, step=step, evaluated_step=step), [9.0, 9.0])
        known = Results({})
        loop.results = at, known
        result = finish(loop)
        assert (result.validation is known) is (at == step)


def test_a_diverged_run_is_rolled_back_and_says_where(setup):
    """Catches parameters that are not finite handed back, a broken state saved, and times of no
    call.
    """
    loop = ended(setup, StopReason.DIVERGED, weights=(0.5, 0.5, 0.5), step=30)
    mark_good(loop)
    loop.state.progress.num_steps, loop.trouble = 44, ("not finite", 45)
    loop.state.device = loop.state.device._replace(params={"w": jnp.full(3, jnp.nan)})
    result = finish(loop)
    assert (result.diverged_at_step, result.num_steps) == (45, 30)
    assert_array_equal(result.params["w"], [0.5, 0.5, 0.5])
    (record,) = records(loop, "diverged")
    assert (record["step"], record["bad_step"]) == (30, 45)
    assert loop.saved_moment is None and records(loop, "timed") == []


def test_a_result_counts_what_was_done(setup):
    """Catches an epoch's loss in the place of the smoothed one, and a signal told of a run that
    was not interrupted.
    """
    for reason, signal in ((StopReason.INTERRUPTED, 15), (StopReason.FINISHED, None)):
        loop = ended(setup, reason, evaluated_step=40)
        progress = loop.state.progress
        progress.position = progress.position._replace(epoch=1, row=200)
        progress.num_examples, progress.smoothed_loss, progress.last_epoch_loss = 800, 7.0, 3.0
        loop.interrupts.received = 15
        loop.step_seconds[BATCH] = deque([0.5, 0.25])
        result = finish(loop)
        assert (result.num_steps, result.num_examples, result.batch_size) == (40, 800, BATCH)
        assert (result.num_epochs, result.train_loss) == (pytest.approx(1 + 1 / 3), 3.0)
        assert (result.signal, result.stop_reason, result.optimizer) == (signal, reason, "sgd")
        assert result.learning_rate == 0.05 and result.run is None
        (timed,) = records(loop, "timed")
        assert (timed["batch_sizes"], timed["step_seconds"]) == ([BATCH], [[0.5, 0.25]])
        assert loop.saved_moment == (40, 40)
