"""Execution of controllers' orders: the only place where knobs are turned."""

from __future__ import annotations

import dataclasses

from downslope.choose import controllers
from downslope.choose.controller import (
    EndTrials,
    Observation,
    Order,
    Prepare,
    Trial,
    decision_on,
)
from downslope.choose.decision import Decision
from downslope.data.stream import Replay
from downslope.errors import StopReason
from downslope.train.collect import collect
from downslope.train.evaluations import last_losses
from downslope.train.horizon import Horizon
from downslope.train.loop import Loop, change_step, follow_horizon
from downslope.train.saving import mark_good, returned, save, undo
from downslope.train.trials import Trials, kept_rows

STOPS = {
    "converged": StopReason.CONVERGED,
    "target reached": StopReason.TARGET_REACHED,
    "diverged": StopReason.DIVERGED,
}


def decide(loop: Loop, observation: Observation) -> tuple[Order, ...]:
    """Orders of all controllers for an observation."""
    loop.state.controllers, orders = controllers.update(loop.state.controllers, observation)
    return orders


def turn_knobs(loop: Loop, orders: tuple[Order, ...]) -> None:
    """Carry out the orders one after the other; after a diverged step, from the last good state."""
    recovers = orders and loop.trials is None and not decision_on(orders, "stop")
    if recovers and loop.trouble is not None:
        what, loop.stop_reason = loop.trouble[0], None
        undo(loop)
        loop.run.journal.write("undone", step=loop.state.progress.num_steps, what=what)
    for order in orders:
        if isinstance(order, Trial):
            _begin_trial(loop, order)
        elif isinstance(order, EndTrials):
            _end_trials(loop, order)
        elif isinstance(order, Prepare):
            state = loop.state
            clock = None if loop.context.has_clock else loop.counted_seconds
            position, knobs = state.progress.position, state.device_knobs()
            loop.steps.prepare(order.batch_size, state.device, position, knobs, clock)
        else:
            _turn(loop, order)


def _turn(loop: Loop, decision: Decision) -> None:
    """Record a decision and turn its knob."""
    state = loop.state
    loop.run.journal.write(
        "decided", step=state.progress.num_steps, seconds=loop.seconds, **decision.to_json()
    )
    if decision.knob == "stop":
        loop.stop_reason = STOPS[decision.new]
        return
    state.knobs = dataclasses.replace(state.knobs, **{decision.knob: decision.new})
    collect(loop)  # updates made with the old knobs
    if decision.knob == "batch_size":
        change_step(loop, loop.steps.change(decision.new))
        follow_horizon(loop, within=0.0)
    elif decision.knob == "clip_norm" and not loop.steps.current.clips:
        change_step(loop, loop.steps.clip())
    elif decision.from_start:
        _start_again(loop)


def _start_again(loop: Loop) -> None:
    """Restart from the first parameters and a fresh optimizer; all counts continue."""
    state = loop.state
    state.device = loop.setup.start()._replace(step=state.device.step)
    state.held_out = state.held_out.restarted(state.progress.num_steps)
    mark_good(loop)  # a diverged step returns here, not to the earlier start


def _begin_trial(loop: Loop, trial: Trial) -> None:
    state, size = loop.state, trial.batch_size
    if loop.trials is None:
        losses = None
        if size is not None:
            save(loop)  # a run that is killed in a branch repeats it from here
            losses = last_losses(loop)
        loop.trials = Trials(state.copy_to_host(), losses)
    else:
        state.return_to(loop.trials.start)
        returned(loop)
    start = loop.trials.start
    state.knobs = dataclasses.replace(state.knobs, learning_rate=trial.learning_rate)
    if size is None:
        # its schedule is that of the run, over its own updates
        state.horizon = Horizon(step=state.progress.num_steps, per_step=1 / trial.num_steps)
    else:
        state.knobs = dataclasses.replace(state.knobs, batch_size=size)
        change_step(loop, loop.steps.change(size))
        state.horizon = start.horizon.held(state.progress.num_steps)
        if loop.setup.training.average == "tail":
            state.arm_from = int(start.device.step)
    step, position = loop.steps.current, state.progress.position
    loop.trials.begin(
        trial,
        lambda: Replay(step.open_stream(position)),
        keeps=size is None and kept_rows(loop.setup, step.batch_rows, trial.num_steps),
    )
    loop.writer.pause()


def _end_trials(loop: Loop, order: EndTrials) -> None:
    """Continue from the end of the best trial or of an arm, or from where they began."""
    trials = loop.trials
    assert trials is not None
    loop.trials = None
    trials.close()
    end = trials.best if order.batch_size is None else trials.arms.get(order.batch_size)
    loop.state.return_to(end if order.keep_best and end is not None else trials.start)
    loop.state.knobs, loop.state.arm_from = trials.start.knobs, None
    change_step(loop, loop.steps.change(loop.state.knobs.batch_size))
    returned(loop)
    if order.keep_best:
        mark_good(loop)
