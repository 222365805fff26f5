"""Collection of finished calls into the state of a run, and its progress records."""

from __future__ import annotations

from collections import deque

from downslope.choose.controller import ArmEnd
from downslope.noise.online.monitor import Readings
from downslope.train.calls import Call
from downslope.train.dispatch import Collected
from downslope.train.loop import Loop, follow_horizon
from downslope.train.spending import COMPILING, MEASURING, SEARCH, UPDATES
from downslope.train.state import restore_device

MAX_CALLS_TIMED = 32  # latest calls of each batch size whose time per update is kept
WORSE = 1.1  # times the loss of a good state, on the same rows; assumed


def dispatch(loop: Loop, call: Call) -> None:
    """Send a call to the device, then collect the one before."""
    state = loop.state
    if loop.setup.training.seconds is not None and loop.trials is None:
        follow_horizon(loop)
    knobs = state.device_knobs()
    step, kind = loop.steps.current, UPDATES if loop.trials is None else SEARCH
    with loop.spending.on(COMPILING if loop.dispatcher.is_first_call(step) else kind):
        state.device = loop.dispatcher.dispatch(step, state.device, call, knobs)
    while loop.dispatcher.num_in_flight > 1:
        take_in(loop, loop.dispatcher.collect())


def collect(loop: Loop) -> None:
    """Wait for all calls in flight and collect them."""
    while loop.dispatcher.num_in_flight:
        take_in(loop, loop.dispatcher.collect())


def take_in(loop: Loop, seen: Collected) -> None:
    """Add the results of a call to the state of the run; ignore those after a diverged step."""
    state, progress = loop.state, loop.state.progress
    if seen.seconds > 0 and seen.call.num_steps:
        size = loop.steps.current.batch_rows
        times = loop.step_seconds.setdefault(size, deque(maxlen=MAX_CALLS_TIMED))
        times.append(seen.seconds / seen.call.num_steps)
    if loop.trouble is not None:
        return
    if seen.bad_step is not None:
        loop.trouble = "not finite", progress.num_steps + seen.bad_step
        return
    if state.monitor is not None and len(seen.probes):
        state.monitor.add(seen.probe_steps, seen.probes)
    progress.add(seen.loss_sums, seen.sizes, seen.call.num_steps, seen.call.position, seen.seconds)
    if state.monitor is not None and seen.point is not None:
        state.monitor.trajectory.add(seen.point, progress.num_steps)
    progress.seconds = loop.seconds
    if progress.jumped and not progress.leapt and not _is_worse(loop):
        progress.calm()
    if progress.exploded:
        loop.trouble = "exploded", progress.num_steps
    elif loop.writer.is_due(seen.time, ends_epoch=seen.call.ends_epoch):
        write_progress(loop, seen.time)


def _is_worse(loop: Loop) -> bool:
    """True if the loss of a fixed sample is above that of the last good state.

    Losses of single batches may be as high by chance if a few rows dominate.
    """
    good = restore_device(loop.good, loop.setup, "checkpoint")[0].params
    before, now = (loop.setup.sample_loss(p) for p in (good, loop.state.device.params))
    return not now <= WORSE * before


def write_progress(loop: Loop, now: float) -> None:
    """Write a progress record and, less often, a record of measurements."""
    assert loop.dispatcher.blocks is not None
    loop.writer.write(
        now,
        loop.state.progress,
        loop.dispatcher.blocks,
        fraction=loop.fraction,
        batch_size=loop.steps.current.batch_rows,
        # as given to the device: 0 if the optimizer holds its own
        learning_rate=float(loop.state.device_knobs().learning_rate) or None,
    )
    if loop.writer.measures_now(now, loop.state.progress.seconds):
        with loop.spending.on(MEASURING):
            write_measured(loop)
        loop.writer.measured(now)


def write_measured(loop: Loop) -> Readings | None:
    """Write a record of the measured updates and return the readings, if there are any."""
    state = loop.state
    if state.monitor is None:
        return None
    readings = state.monitor.read()
    if readings.step is not None:
        found = {name: m.to_json() for name, m in readings.measurements().items()}
        loop.run.journal.write(
            "measured",
            step=state.progress.num_steps,
            num_examples=state.progress.num_examples,
            seconds=state.progress.seconds,
            batch_size=loop.steps.current.batch_rows,
            stability=readings.stability,
            # drop missing fields, keep zeros
            **{
                name: {k: v for k, v in record.items() if v is not None and v not in ("", [])}
                for name, record in found.items()
            },
        )
    return readings


def write_step_seconds(loop: Loop) -> None:
    """Write the time per update of each batch size in the latest calls."""
    if loop.step_seconds:
        loop.run.journal.write(
            "timed",
            step=loop.state.progress.num_steps,
            batch_sizes=list(loop.step_seconds),
            step_seconds=[list(times) for times in loop.step_seconds.values()],
        )


def write_trial(loop: Loop, loss: float, arm: ArmEnd | None) -> None:
    """Write a record of a trial that ended; its step is that from which all trials began."""
    assert loop.trials is not None
    start, now = loop.trials.start.progress, loop.state.progress
    first = list(now.first_losses)[:1] if not start.first_losses else list(start.last_losses)[-1:]
    loop.run.journal.write(
        "trial",
        step=start.num_steps,
        learning_rate=loop.trials.trial.learning_rate,
        num_steps=now.num_steps - start.num_steps,
        first_loss=first[0] if first else None,
        loss=loss,
        held_out_loss=None if arm is None else arm.loss,
        batch_size=loop.steps.current.batch_rows,
        span_seconds=now.update_seconds - start.update_seconds,
        seconds=loop.seconds,
    )
