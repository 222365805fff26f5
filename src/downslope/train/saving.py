"""Checkpoints on disk, and the last good state to return to."""

from __future__ import annotations

import time

from downslope.choose.controller import Observation
from downslope.train.collect import collect
from downslope.train.loop import Loop, change_step, follow_horizon
from downslope.train.spending import SAVING

MAX_COPY_SHARE = 0.01  # share of the time for copies of good states


def save_if_due(loop: Loop) -> None:
    """Save a checkpoint when the last one is old enough; none in a trial."""
    age = time.perf_counter() - loop.saved_at
    if loop.trials is None and age >= loop.setup.training.checkpoint_seconds:
        save(loop)


def save(loop: Loop) -> None:
    """Save a checkpoint, unless the run has diverged or nothing is new."""
    collect(loop)
    progress = loop.state.progress
    moment = (progress.num_steps, loop.state.held_out.evaluated_step)
    if loop.trouble is not None or moment == loop.saved_moment:
        return
    loop.saved_moment = moment
    with loop.spending.on(SAVING):
        progress.seconds, progress.spent_seconds = loop.seconds, loop.spending.so_far()
        checkpoint = loop.state.to_checkpoint(loop.setup.fingerprint)
        loop.run.checkpoint(progress.num_steps, checkpoint)
    loop.saved_at = time.perf_counter()
    if loop.run.folder:
        loop.run.journal.write("saved", step=progress.num_steps, seconds=progress.seconds)


def keep_good_state(loop: Loop, seen: Observation) -> None:
    """Copy the state after an evaluation to return to, if copying takes little of the time.

    There is no copy where a branch begins, which has other knobs by then.
    """
    if seen.moment != "evaluated" or seen.loss is None or loop.trials is not None:
        return
    begin = time.perf_counter()
    wait = loop.good_copy_seconds / MAX_COPY_SHARE
    if begin - loop.good_at < wait or loop.state.progress.rises:
        return
    collect(loop)
    with loop.spending.on(SAVING):
        mark_good(loop)
    loop.good_at = time.perf_counter()
    loop.good_copy_seconds = loop.good_at - begin


def mark_good(loop: Loop) -> None:
    """Make the current state the one that a diverged step returns to."""
    collect(loop)
    loop.run.last = loop.state.to_checkpoint(loop.setup.fingerprint)


def undo(loop: Loop) -> None:
    """Return to the last good state."""
    loop.state.undo(loop.good, loop.setup, loop.context)
    returned(loop)


def returned(loop: Loop) -> None:
    """Clean up after a return to another state: nothing of the updates since is left."""
    change_step(loop, loop.steps.current)
    loop.trouble = loop.results = loop.saved_moment = None
    loop.writer.begin(loop.state.progress.num_examples)
    follow_horizon(loop, within=0.0)
