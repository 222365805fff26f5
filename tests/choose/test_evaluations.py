"""When evaluations are due, and how many held-out rows they use."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from downslope.choose import replay
from downslope.choose.evaluations import (
    LATE,
    SAMPLE_ROWS,
    SPACING,
    is_due_by_clock,
    sample_held_out,
    updates_between,
)

SAMPLE = {
    "num_rows": 100_000, "spread": 0.5, "loss": 1.0, "first_loss": 2.0, "tolerance": 1e-3,
    "affordable_rows": math.inf,
}  # fmt: skip


@pytest.mark.parametrize(
    ("epoch_steps", "run_steps", "every"),
    [
        (1000, 200, 16),  # not after each of ten updates
        (1000, 1000, 50),
        (None, 1000, 50),  # no epochs
        (101, 1000, 50),
        (100, 1000, None),  # ten epochs: their ends are frequent enough
        (2000, None, None),
        (2001, None, SPACING),
        (None, None, None),
    ],
)
def test_a_run_is_evaluated_twenty_times_however_long_its_epochs(epoch_steps, run_steps, every):
    """Catches a run of a twentieth of an epoch without one, and a second schedule beside the ends
    of short epochs.
    """
    assert updates_between(step=0, epoch_steps=epoch_steps, run_steps=run_steps) == every


def test_marks_of_a_long_epoch_grow_with_the_run():
    """Catches a spacing that jumps off its own grid, and one that grows faster than the run."""
    step, marks = 0, []
    while step < 100 * LATE:
        every = updates_between(step=step, epoch_steps=1e9, run_steps=None)
        step += every - step % every
        marks.append(step)
        assert step % updates_between(step=step, epoch_steps=1e9, run_steps=None) == 0
    late = [(a, b - a) for a, b in itertools.pairwise(marks) if a >= LATE]
    assert all(a / 32 < gap <= a / 16 for a, gap in late)
    assert marks[:3] == [SPACING, 2 * SPACING, 3 * SPACING]


@pytest.mark.parametrize(
    ("changed", "is_due"),
    [
        ({}, False),
        ({"share_done": 0.05}, True),
        ({"ends_epoch": True}, True),
        ({"ends_epoch": True, "updates": 15}, False),
        ({"share_done": 0.05, "updates": 1}, True),  # of ten seconds each
        ({"share_done": 0.05, "updates": 0}, False),
        ({"share_done": 0.9, "cost_seconds": 0.031}, False),
        ({"ends_epoch": True, "cost_seconds": 0.031}, False),
        ({"ends_epoch": True, "cost_seconds": 0.029}, True),
    ],
)
def test_evaluations_keep_their_share_of_the_time(changed, is_due):
    """Catches epochs that end faster than they are evaluated, and a share of the run taken for
    one of the time.
    """
    given = {
        "ends_epoch": False, "updates": 99, "seconds": 1.0, "cost_seconds": 0.01,
        "share_done": 0.049,
    }  # fmt: skip
    assert is_due_by_clock(**given | changed) == is_due


def test_the_sample_is_the_smallest_that_is_precise_enough():
    """Catches a spread taken for an error, an interval of one row too few, a sample that is no
    power of two, and a loss near 0 that asks for all rows.
    """
    found = sample_held_out(**SAMPLE)
    assert found.new == 4096  # (0.5 / 0.01)^2 is 2,500
    assert 0.5 / math.sqrt(found.new) <= 0.01 < 0.5 / math.sqrt(found.new / 2)
    assert f"{0.5 / 64:.2g}" in found.because and "exceed" not in found.because
    assert sample_held_out(**SAMPLE | {"tolerance": 0.1}).new == SAMPLE_ROWS
    assert sample_held_out(**SAMPLE | {"loss": -4.0}).new == SAMPLE_ROWS
    assert sample_held_out(**SAMPLE | {"loss": 1e-9}) is None
    assert sample_held_out(**SAMPLE | {"loss": 1e-9, "first_loss": 400.0}).new == 256


def test_the_sample_is_affordable():
    """Catches a precise evaluation that takes most of the run, and one of no rows."""
    found = sample_held_out(**SAMPLE | {"affordable_rows": 2047})
    assert found.new == 1024 and "more would exceed 3%" in found.because
    assert sample_held_out(**SAMPLE | {"affordable_rows": 0.5}).new == SAMPLE_ROWS
    assert sample_held_out(**SAMPLE | {"affordable_rows": 2048}).new == 2048
    assert sample_held_out(**SAMPLE | {"num_rows": 4096}) is None
    assert sample_held_out(**SAMPLE | {"num_rows": 4097}).new == 4096


@pytest.mark.parametrize("name", ["spread", "loss"])
def test_no_sample_of_losses_that_are_not_finite(name):
    """Catches a size computed from NaN; all rows then tell which are not finite."""
    for value in (np.nan, np.inf):
        assert sample_held_out(**SAMPLE | {name: value}) is None


def test_the_sample_is_replayed():
    """Catches a decision that no journal can repeat."""
    found = sample_held_out(**SAMPLE)
    assert replay([{"event": "decided", **found.to_json()}]) == [found]
