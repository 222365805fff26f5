"""Evaluations of a run: when they are due, on which rows, and what they cost."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from downslope.choose.evaluations import (
    ALL_ROWS,
    COMPILE_SHARE,
    EVALUATION_SHARE,
    FINAL_SHARE,
    FORWARD_SHARE,
    MIN_UPDATES_BETWEEN,
    NUM_EVALUATIONS,
    SAMPLE_ROWS,
    is_due_by_clock,
    sample_held_out,
    updates_between,
)
from downslope.metrics import Results
from downslope.objective import Params
from downslope.step.state import State
from downslope.train.calls import Call
from downslope.train.collect import collect
from downslope.train.evaluate import Evaluate
from downslope.train.loop import Loop
from downslope.train.spending import COMPILING, EVALUATION


def evaluate(loop: Loop) -> Results | None:
    """Metrics of held-out rows at the parameters to keep, None without such rows."""
    collect(loop)
    setup, state = loop.setup, loop.state
    if loop.trouble is not None:
        return None
    step = state.progress.num_steps
    if setup.evaluate is None:
        state.held_out, _ = state.held_out.evaluated(step, None)
        return None
    params = setup.kept_params(state.device)
    num_rows = state.held_out.num_rows
    if num_rows is None:  # decided once, so that evaluations are compared on the same rows
        num_rows = _choose_rows(loop, params)
    results = _timed(loop, params, num_rows)
    loop.results = (step, results) if num_rows == setup.num_held_out else None
    loss = float(results["loss"]) if "loss" in results else None
    state.held_out, is_lowest = state.held_out.evaluated(step, loss)
    state.held_out = dataclasses.replace(
        state.held_out, num_rows=num_rows, evaluated_seconds=loop.seconds
    )
    if is_lowest and setup.training.patience:
        state.held_out = dataclasses.replace(state.held_out, params=jax.device_get(params))
    _write(loop, results, num_rows)
    return results


def compare(loop: Loop, results: Results | None) -> bool:
    """Compare the loss of an evaluation, or of the last epoch, to the reference; did it gain?"""
    state, losses = loop.state, None
    loss = state.progress.last_epoch_loss
    if results is not None and "loss" in results:
        loss, losses = float(results["loss"]), results.losses
    if loss is None:
        return False
    state.held_out, gained = state.held_out.compared(
        loss,
        losses,
        first_loss=state.progress.first_loss,
        tolerance=loop.setup.training.tolerance,
    )
    return gained


def evaluate_all(loop: Loop) -> Results:
    """Metrics of all held-out rows at the parameters of the latest evaluation."""
    setup = loop.setup
    assert setup.evaluate is not None
    with evaluating(loop, setup.evaluate):
        results = setup.evaluate(setup.kept_params(loop.state.device))
    loop.results = loop.state.progress.num_steps, results
    _write(loop, results, setup.num_held_out)
    return results


def arm_losses(loop: Loop) -> np.ndarray | None:
    """Losses of the rows that evaluations use at the end of an arm, [n]; None if not finite.

    At the average over the arm's own last updates, or at the last parameters: an average that
    reaches back before the arm lags behind further where updates are fewer.
    """
    state = loop.state
    return last_losses(loop) if state.arm_from is None else _losses_at(loop, state.device)


def last_losses(loop: Loop) -> np.ndarray | None:
    """Losses of the rows that evaluations use at the last parameters, without an average, [n]."""
    return _losses_at(loop, loop.state.device._replace(average=None))


def _losses_at(loop: Loop, device: State) -> np.ndarray | None:
    num_rows = loop.state.held_out.num_rows
    assert num_rows is not None  # a branch begins at an evaluation
    losses = _timed(loop, loop.setup.kept_params(device), num_rows).losses
    return losses if np.isfinite(losses).all() else None


@contextlib.contextmanager
def evaluating(loop: Loop, evaluator: Evaluate) -> Iterator[None]:
    """Count the time inside as evaluation, except for that of compiling the evaluator."""
    before = evaluator.compile_seconds
    with loop.spending.on(EVALUATION):
        yield
    loop.spending.move(evaluator.compile_seconds - before, EVALUATION, COMPILING)


def _write(loop: Loop, results: Results, num_rows: int | None) -> None:
    loop.run.journal.write(
        "evaluated",
        step=loop.state.progress.num_steps,
        epoch=loop.state.progress.position.epoch,
        seconds=loop.seconds,
        num_rows=num_rows,
        metrics={name: estimate.to_json() for name, estimate in results.items()},
        missing=results.reasons,
    )


def is_due(loop: Loop, call: Call) -> bool:
    """True if an evaluation is due after a call that was sent last."""
    if loop.setup.training.seconds is not None:
        loop.evaluations.final_seconds = _final_seconds(loop)
    if "patience" not in loop.context.free and call.ends_epoch:
        return True
    if not _is_inside_epochs(loop):
        return call.ends_epoch
    held_out = loop.state.held_out
    step = loop.state.progress.num_steps + call.num_steps
    updates = step - (held_out.evaluated_step or 0)
    if loop.setup.training.seconds is not None and loop.setup.evaluate is not None:
        return _is_due_by_clock(loop, step, updates, ends_epoch=call.ends_epoch)
    if call.ends_epoch:
        return updates >= MIN_UPDATES_BETWEEN
    if loop.setup.evaluate is None or not is_marked(loop, call):
        return False
    every = _updates_between(loop, step)
    return every is not None and updates >= every // 2


def is_marked(loop: Loop, call: Call) -> bool:
    """True if a call ends at an update that is evaluated by its count; see `next_mark`."""
    step = loop.state.progress.num_steps + call.num_steps
    every = _updates_between(loop, step)
    return every is not None and step % every == 0


def next_mark(loop: Loop) -> Callable[[int], int | None]:
    """Function that gives the updates left until an evaluation inside an epoch, or None.

    Its argument is the number of updates in calls since now. Calls end at these marks, so that
    evaluations do not depend on how long calls take.
    """
    begun = loop.state.progress.num_steps
    if loop.trials is not None:
        return lambda _: None

    def left(made: int) -> int | None:
        every = _updates_between(loop, begun + made)
        return None if every is None else every - (begun + made) % every

    return left


def _is_inside_epochs(loop: Loop) -> bool:
    """True if evaluations may lie inside an epoch; a given patience counts ends of epochs only."""
    return "patience" in loop.context.free or bool(loop.setup.training.until)


def _updates_between(loop: Loop, step: int) -> int | None:
    """Updates between evaluations inside an epoch, by counts; None if a clock decides."""
    setup, training = loop.setup, loop.setup.training
    if training.seconds is not None or not _is_inside_epochs(loop):
        return None
    if setup.evaluate is None and not training.until:
        return None
    epoch_steps, run_steps = _epoch_steps(loop), None
    if not setup.open_ended:
        run_steps = setup.num_steps
        if run_steps is None and training.epochs and epoch_steps is not None:
            run_steps = training.epochs * epoch_steps
    return updates_between(step=step, epoch_steps=epoch_steps, run_steps=run_steps)


def _epoch_steps(loop: Loop) -> int | None:
    num_rows = loop.setup.num_rows
    return None if num_rows is None else math.ceil(num_rows / loop.steps.current.batch_rows)


def _is_due_by_clock(loop: Loop, step: int, updates: int, *, ends_epoch: bool) -> bool:
    held_out, known = loop.state.held_out, loop.evaluations.latest_seconds
    horizon = loop.state.horizon
    share_done = horizon.at(step) - horizon.at(held_out.evaluated_step or 0)
    compiling = loop.dispatcher.compile_seconds or 0.0
    if not known and compiling > COMPILE_SHARE * _seconds_of_updates(loop):
        share_done = 0.0  # an evaluator takes its time to compile too
    since = loop.state.progress.update_seconds
    if held_out.evaluated_seconds is not None:
        since = loop.seconds - held_out.evaluated_seconds
    return is_due_by_clock(
        ends_epoch=ends_epoch,
        updates=updates,
        seconds=since,
        cost_seconds=min(known) if known else _expected_seconds(loop, _first_rows(loop)),
        share_done=share_done,
    )


def _seconds_of_updates(loop: Loop) -> float:
    """Time for the updates of a run with a time budget, past and left."""
    limit = loop.setup.training.seconds
    assert limit is not None
    return loop.state.progress.update_seconds + max(0.0, limit - loop.seconds)


def _expected_seconds(loop: Loop, num_rows: int) -> float:
    """Time to evaluate rows, from the time of an update; 0 before one was timed."""
    size = loop.steps.current.batch_rows
    times = loop.step_seconds.get(size)
    return FORWARD_SHARE * num_rows * statistics.median(times) / size if times else 0.0


def _final_seconds(loop: Loop) -> float:
    """Time set aside for the evaluations at the end, a tenth at most: of the sample and of all."""
    setup, evaluations = loop.setup, loop.evaluations
    if setup.evaluate is None or setup.training.seconds is None:
        return 0.0
    total = setup.num_held_out or 0
    seconds = _expected_seconds(loop, total)
    if evaluations.latest_seconds and evaluations.num_rows:
        rows = total if evaluations.num_rows == total else total + evaluations.num_rows
        seconds = statistics.median(evaluations.latest_seconds) * rows / evaluations.num_rows
        if evaluations.in_use is not None and not setup.evaluate.compile_seconds:
            seconds += evaluations.in_use.compile_seconds  # about as long as that of all rows
    return min(seconds, FINAL_SHARE * setup.training.seconds)


def _first_rows(loop: Loop) -> int:
    """Rows of the first evaluation."""
    total = loop.setup.num_held_out or 0
    if total <= SAMPLE_ROWS:
        return total
    affordable = _expected_seconds(loop, total) <= _spare(loop)
    return total if total <= ALL_ROWS and affordable else SAMPLE_ROWS


def _choose_rows(loop: Loop, params: Params) -> int:
    """Number of held-out rows for the evaluations of this run, decided once."""
    setup, progress = loop.setup, loop.state.progress
    total, evaluator = setup.num_held_out or 0, setup.sample_evaluator
    by_clock = setup.training.seconds is not None
    if evaluator is None or total <= SAMPLE_ROWS:
        return total
    if total <= ALL_ROWS and (not by_clock or _expected_seconds(loop, total) <= _spare(loop)):
        return total
    first = evaluator(SAMPLE_ROWS)
    with evaluating(loop, first):
        losses = first(params).losses
        begin = time.perf_counter()
        first(params)  # timed apart from compiling
        cost = time.perf_counter() - begin
    if by_clock:
        affordable = SAMPLE_ROWS * _spare(loop) / cost
    else:
        updates = _updates_between(loop, progress.num_steps) or _epoch_steps(loop) or 1
        rows = updates * loop.steps.current.batch_rows
        affordable = EVALUATION_SHARE * rows / FORWARD_SHARE
    decision = sample_held_out(
        num_rows=total,
        spread=float(np.std(losses, ddof=1, dtype=np.float64)),
        loss=float(np.mean(losses, dtype=np.float64)),
        first_loss=progress.first_loss,
        tolerance=setup.training.tolerance,
        affordable_rows=affordable,
    )
    if decision is None:
        return total
    step = progress.num_steps
    loop.run.journal.write("decided", step=step, seconds=loop.seconds, **decision.to_json())
    return decision.new


def _spare(loop: Loop) -> float:
    """Time for one evaluation of a run with a time budget."""
    return EVALUATION_SHARE * _seconds_of_updates(loop) / NUM_EVALUATIONS


def _timed(loop: Loop, params: Params, num_rows: int) -> Results:
    """Metrics of a sample or of all held-out rows; keeps the time, without that of compiling."""
    setup, evaluations = loop.setup, loop.evaluations
    if evaluations.in_use is None or evaluations.num_rows != num_rows:
        evaluations.num_rows, evaluations.in_use = num_rows, setup.evaluate
        if setup.sample_evaluator is not None and num_rows != setup.num_held_out:
            evaluations.in_use = setup.sample_evaluator(num_rows)
    evaluator = evaluations.in_use
    assert evaluator is not None
    begin, compiled = time.perf_counter(), evaluator.compile_seconds
    with evaluating(loop, evaluator):
        results = evaluator(params)
    spent = time.perf_counter() - begin - (evaluator.compile_seconds - compiled)
    evaluations.latest_seconds.append(spent)
    return results
