"""Branches in the loop: two batch sizes trained from one state, on planted predictions.

Times are counted and planted too, so nothing depends on the clock. The loss is a noisy line, on
which updates of more examples reach lower at the rate given.
"""

from __future__ import annotations

import dataclasses
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import loops
from downslope.choose import Decision, branch, replay
from downslope.choose.controller import MIN_CALLS_TIMED, NoiseReading, Trial
from downslope.choose.step_time import line_times
from downslope.step.state import State
from downslope.train import calls, compiled_step, saving
from downslope.train.evaluations import evaluate
from downslope.train.observe import LoopInstruments
from downslope.train.trials import Trials, _with_average
from loops import core, loop_of, records, short_calls, train

pytestmark = pytest.mark.usefixtures("quick_compilation", "short_calls", "short_runs")
__all__ = ["short_calls"]

STEPS, START = 3000, 32
LOW = (
    NoiseReading(scale=0.1, lo=0.0, hi=0.2),
    line_times(fixed_seconds=1e-9, seconds_per_example=1e-6),
)  # a quarter of the batch takes a quarter of the time, and its noise is said to do no harm
HIGH = (
    NoiseReading(scale=1e4, lo=1e3, hi=1e5),
    line_times(fixed_seconds=1e-4, seconds_per_example=1e-9),
)  # four times the batch takes as long, and noise is said to be all
WEIGHTS = np.float32([1, -2, 3])


def rows(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)).astype("float32")
    return x, x @ WEIGHTS + rng.normal(size=count).astype("float32")


@pytest.fixture
def short_runs(monkeypatch):
    """Arms that are a tenth as long, time for two branches, and programs that are ready at once."""
    monkeypatch.setattr(branch, "MIN_ARM", 10)
    monkeypatch.setattr(branch, "BRANCH_SHARE", 0.1)
    monkeypatch.setattr(compiled_step, "COUNTED_COMPILE", 1e-4)


@pytest.fixture(scope="module")
def setup():
    return loops.setup_of(
        data=rows(600, 0), batch_size="auto", validation=rows(4000, 1), patience=None, steps=STEPS,
        learning_rate=0.2,
    )  # fmt: skip


def begun(setup, planted, monkeypatch, last=None):
    noise, times = planted
    monkeypatch.setattr(LoopInstruments, "noise", lambda self: noise)
    return loop_of(dataclasses.replace(setup, costs=times), last=last)


def branches(loop):
    found = [r for r in records(loop, "decided") if r["policy"] == "settle_batch_size"]
    return [Decision.from_json(r) for r in found]


def train_to_branch(loop):
    """The run until the first branch is over."""
    core.turn_knobs(loop, core.decide(loop, core.observe_begin(loop)))
    while not branches(loop):
        core._train_on_blocks(loop)
    loop.close()
    return loop


def params(loop):
    return np.asarray(loop.state.device.params["w"])


@pytest.fixture
def low(setup, monkeypatch):
    return train(begun(setup, LOW, monkeypatch))


@pytest.fixture
def high(setup, monkeypatch):
    return train(begun(setup, HIGH, monkeypatch))


@pytest.mark.slow
def test_a_prediction_that_misleads_is_refused(low):
    """Catches a change that is made as predicted whatever it does, the loser's work kept, a size
    that is proposed again at once, and a share done that counts the updates taken back.
    """
    first, *later = branches(low)
    assert (first.old, first.new, first.inputs["candidate"]) == (START, START, START // 4)
    assert first.inputs["difference"] > 2 * first.inputs["error"] > 0
    assert "refused" in first.because and "predicted critical batch 0.1 (0 to 0.2)" in first.because
    assert low.steps.current.batch_rows == low.state.knobs.batch_size == START
    assert int(low.state.device.step) == low.state.progress.num_steps == STEPS
    assert all(d.new == START and d.inputs["was_refused"] for d in later)
    made = [r["step"] for r in records(low, "trial") if r["batch_size"] == START]
    assert len(made) >= 2 and made[1] >= 1.9 * (made[0] + first.inputs["num_steps"])


@pytest.mark.slow
def test_a_prediction_that_holds_is_confirmed(high):
    """Catches a candidate that never wins, or wins and is not trained with."""
    first = branches(high)[0]
    assert (first.old, first.new) == (START, 4 * START)
    assert first.inputs["difference"] < -2 * first.inputs["error"] and "confirmed" in first.because
    assert high.steps.current.batch_rows >= 4 * START
    assert first in replay(high.run.journal.records)


@pytest.mark.parametrize("planted", [LOW, HIGH], ids=["refused", "confirmed"])
def test_the_winner_is_gone_on_with_as_if_it_had_trained_alone(planted, setup, monkeypatch):
    """Catches arms from different states or rows, the other arm's end, and counts of both."""
    kept = {}
    arm_ended = Trials.arm_ended

    def keep(trials, losses, last, state):
        kept[state.knobs.batch_size] = state.copy_to_host()
        if "start" not in kept:
            kept["start"] = trials.start.copy_to_host()
        done = [each.horizon.at(each.progress.num_steps) for each in (trials.start, state)]
        assert 0 < done[0] == pytest.approx(done[1], abs=1e-6)  # no cool-down of its own
        return arm_ended(trials, losses, last, state)

    monkeypatch.setattr(Trials, "arm_ended", keep)
    loop = begun(setup, planted, monkeypatch)
    train_to_branch(loop)
    (decided,) = branches(loop)
    winner, start = kept[decided.new], kept["start"]
    assert_array_equal(params(loop), winner.device.params["w"])
    clock = {"seconds": 0, "update_seconds": 0}
    assert loop.state.progress.to_json() | clock == winner.progress.to_json() | clock
    num_steps = {r["batch_size"]: r["num_steps"] for r in records(loop, "trial")}
    assert winner.progress.num_steps == start.progress.num_steps + num_steps[decided.new]
    sample = loop.setup.sample_evaluator(loop.state.held_out.num_rows)
    before = sample(start.device.params).losses
    for size, name in ((START, "gain"), (decided.inputs["candidate"], "candidate_gain")):
        fell = before - sample(kept[size].device.params).losses
        assert decided.inputs[name] == pytest.approx(fell.mean(dtype=float), abs=1e-7)
        error = fell.std(ddof=1, dtype=float) / len(fell) ** 0.5
        assert decided.inputs[f"{name}_error"] == pytest.approx(error, rel=1e-3)
    assert loop.fraction == pytest.approx(winner.progress.num_steps / STEPS)
    assert loop.state.horizon.at(loop.state.progress.num_steps) == pytest.approx(loop.fraction)
    # about the same time in both, and the rows from the same place on
    costs = planted[1]
    seconds = [costs.predict(size) * count for size, count in num_steps.items()]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.05)
    alone = begun(setup, planted, monkeypatch)
    alone.state.return_to(start)
    size = decided.new
    core.turn_knobs(alone, (loops.decision("batch_size", size),))
    monkeypatch.setattr(core, "decide", lambda loop, seen: ())
    object.__setattr__(alone.setup, "num_steps", winner.progress.num_steps)
    while core.goes_on(alone):
        core._train_on_blocks(alone)
    assert_array_equal(params(alone), params(loop))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(setup, high, monkeypatch):
    """Catches arms whose length follows the clock though no time was given."""
    again = train(begun(setup, HIGH, monkeypatch))
    assert branches(again) == branches(high) and len(branches(high)) >= 1
    assert_array_equal(params(again), params(high))


@pytest.mark.parametrize("arm", [1, 2])
def test_a_run_interrupted_in_an_arm_repeats_the_branch(arm, setup, monkeypatch):
    """Catches an arm that is saved as the run, a branch that is forgotten, arms of another length,
    and sizes that a resumed run has not compiled.
    """
    whole = train_to_branch(begun(setup, HIGH, monkeypatch))
    monkeypatch.setattr(saving, "MAX_COPY_SHARE", 1e9)  # good states are copied at evaluations
    loop = begun(setup, HIGH, monkeypatch)
    ended = []

    def interrupt(trials, losses, last, state):
        ended.append(state.knobs.batch_size)
        return arm_ended(trials, losses, last, state)

    arm_ended = Trials.arm_ended
    monkeypatch.setattr(Trials, "arm_ended", interrupt)
    core.turn_knobs(loop, core.decide(loop, core.observe_begin(loop)))
    while loop.trials is None or len(ended) < arm - 1:
        core._train_on_blocks(loop)
    loop.interrupts.received = signal.SIGINT
    killed = loop.run.last  # what is left of a run that is killed here
    while core.goes_on(loop):
        core._train_on_blocks(loop)
    start = records(loop, "trial")[0]["step"]
    assert loop.state.progress.num_steps == start and not branches(loop)
    assert loop.state.knobs.batch_size == START == loop.steps.current.batch_rows
    saving.save(loop)
    loop.close()
    for last in (killed, loop.run.last):
        assert last.document["progress"]["num_steps"] == start
        assert last.document["knobs"]["batch_size"] == START
        stored = json.loads(json.dumps(last.document))  # as a file gives it back
        last = dataclasses.replace(last, document=stored)
        again = train_to_branch(begun(setup, HIGH, monkeypatch, last=last))
        assert branches(again) == branches(whole)
        assert_array_equal(params(again), params(whole))


@pytest.mark.slow
def test_without_held_out_rows_nothing_is_branched(monkeypatch):
    """Catches a comparison of training losses, of which one is of rows just trained on."""
    setup = loops.setup_of(data=rows(600, 0), batch_size="auto", patience=None, steps=STEPS)
    loop = train(begun(setup, HIGH, monkeypatch))
    assert not records(loop, "trial") and not branches(loop)
    assert loop.steps.current.batch_rows > START


def test_an_arm_by_the_clock_is_timed_from_its_start(setup):
    """Catches a limit that the updates before the branch have used up already."""
    loop = loop_of(dataclasses.replace(setup, costs=None))
    evaluate(loop)  # a branch begins there
    loop.state.progress.update_seconds = before = 100.0
    core.turn_knobs(loop, (Trial(0.2, 10**6, 0.05, START // 4),))
    with loop.open_blocks() as blocks:
        for call in calls.calls(blocks, loop.dispatcher.call_length, loop.steps_left):
            core.dispatch(loop, call)
            if core.is_over(loop):
                break
        core.collect(loop)
    loop.close()
    assert 0.05 <= loop.state.progress.update_seconds - before < 60.0
    assert len(loop.step_seconds[START // 4]) >= MIN_CALLS_TIMED


def downhill(model, batch, key):
    """A slope of -1: descent at rate 1 adds 1 to the parameter with every update."""
    return -model["a"] * batch


def test_each_arm_is_judged_by_an_average_of_its_own(monkeypatch):
    """Catches an average that reaches back before the arms, and so lags behind further where
    batches are larger, and one of an arm alone that the run goes on with.
    """
    ones = np.ones(600, "float32")
    setup = loops.assemble(
        downhill, {"a": np.float32(0)}, ones,
        loops.plain.training(optimizer="sgd", learning_rate=1.0, batch_size="auto", patience=None,
                             steps=STEPS, average="tail"),
        validation=np.ones(300, "float32"),
    )  # fmt: skip
    loop = begun(setup, LOW, monkeypatch)
    ends, arm_ended = {}, Trials.arm_ended

    def keep(trials, losses, last, state):
        found = arm_ended(trials, losses, last, state)
        first = trials.start.progress.num_steps
        ends[found.batch_size] = first, found.num_steps, -found.loss
        return found

    monkeypatch.setattr(Trials, "arm_ended", keep)
    train_to_branch(loop)
    assert len(ends) == 2
    for first, count, own in ends.values():
        assert own - first == pytest.approx(tail(count), rel=0.03)
    first, count, own = ends[loop.state.knobs.batch_size]
    average = float(loop.state.device.average["a"])
    assert average == pytest.approx(tail(first + count), rel=0.01) and average < own - 2
    assert loop.state.arm_from is None and loop.state.device_knobs().average_from == 0


@pytest.mark.parametrize(("before", "made"), [(1000, 50), (400, 100), (0, 80)])
def test_the_average_of_an_arm_is_merged_into_that_of_the_run(before, made):
    """Catches a run that goes on with the average of an arm alone, or with that from before it:
    parameters that are as large as the number of the update.
    """

    def at(step, average):
        device = State(**dict.fromkeys(State._fields))._replace(
            step=np.int32(step), average={"a": np.float32(average)}
        )
        return SimpleNamespace(device=device, average_from=0)

    start = at(before, tail(before) if before else 0.0)
    merged = _with_average(at(before + made, before + tail(made)), start)
    assert merged.average["a"] == pytest.approx(tail(before + made), rel=0.015)
    assert merged.average["a"].dtype == np.float32


def tail(count):
    """Mean of 1 to count, weighted by the tenth power of the number."""
    numbers = np.arange(1, count + 1, dtype=float)
    return np.average(numbers, weights=numbers**10)
