"""Collection of finished calls into the state of a run, and the records of its progress."""

from __future__ import annotations

from collections import deque

from downslope.noise.online.monitor import Readings
from downslope.train.calls import Call
from downslope.train.dispatch import Collected
from downslope.train.loop import Loop
from downslope.train.state import restore_device

MAX_CALLS_TIMED = 32  # calls whose time of an update is remembered, for each batch size
WORSE = 1.1  # times the loss of a good state, on the same rows; assumed


def dispatch(loop: Loop, call: Call) -> None:
    """Send a call to the device, then take in what the call before saw."""
    state = loop.state
    knobs = state.device_knobs()
    state.device = loop.dispatcher.dispatch(loop.steps.current, state.device, call, knobs)
    while loop.dispatcher.num_in_flight > 1:
        take_in(loop, loop.dispatcher.collect())


def collect(loop: Loop) -> None:
    """Wait for every call in flight and take in what it saw."""
    while loop.dispatcher.num_in_flight:
        take_in(loop, loop.dispatcher.collect())


def take_in(loop: Loop, seen: Collected) -> None:
    """Add what a call saw to the state of the run; nothing after a step that went wrong."""
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
    progress.add(seen.loss_sums, seen.sizes, seen.call.num_steps, seen.call.position)
    if state.monitor is not None and seen.point is not None:
        state.monitor.add_point(seen.point, progress.num_steps)
    progress.seconds = loop.seconds
    if progress.jumped and not progress.leapt and not _is_worse(loop):
        progress.calm()
    if progress.exploded:
        loop.trouble = "exploded", progress.num_steps
    elif loop.writer.is_due(seen.time, ends_epoch=seen.call.ends_epoch):
        write_progress(loop, seen.time)


def _is_worse(loop: Loop) -> bool:
    """Whether the loss of the same rows lies above that at the last good state.

    The losses of other batches may be as high by themselves, where a few rows decide.
    """
    if loop.run.last is None:
        return True
    good = restore_device(loop.run.last, loop.setup, "checkpoint")[0].params
    before, now = (loop.setup.sample_loss(p) for p in (good, loop.state.device.params))
    return not now <= WORSE * before


def write_progress(loop: Loop, now: float) -> None:
    """Write a progress record, and now and then one of what was measured."""
    assert loop.dispatcher.blocks is not None
    loop.writer.write(
        now,
        loop.state.progress,
        loop.dispatcher.blocks,
        fraction=loop.fraction,
        batch_size=loop.steps.current.batch_rows,
        # what the device was given: 0 where the optimizer holds its own
        learning_rate=float(loop.state.device_knobs().learning_rate) or None,
    )
    if loop.writer.measures_now(now, loop.state.progress.seconds):
        write_measured(loop)
        loop.writer.measured(now)


def write_measured(loop: Loop) -> Readings | None:
    """Write a record of what the measured updates say, and give it; None where none is."""
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
            # without what is missing; a zero is a value
            **{
                name: {k: v for k, v in record.items() if v is not None and v not in ("", [])}
                for name, record in found.items()
            },
        )
    return readings


def write_step_seconds(loop: Loop) -> None:
    """Write how long an update of each batch size took in the latest calls."""
    if loop.step_seconds:
        loop.run.journal.write(
            "timed",
            step=loop.state.progress.num_steps,
            batch_sizes=list(loop.step_seconds),
            step_seconds=[list(times) for times in loop.step_seconds.values()],
        )
