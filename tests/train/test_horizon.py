"""Horizon: the share of a run that is done, under each limit."""

from __future__ import annotations

import numpy as np
import pytest

import downslope
from downslope.config import Training
from downslope.data.stream import Position
from downslope.train.horizon import NO_HORIZON, Horizon, horizon_of

SEEN = {
    "num_steps": None, "num_rows": 1000, "has_end": True, "batch_rows": 64, "step": 24,
    "position": Position(1, 512), "update_seconds": 2.0, "seconds": 3.0,
    "step_seconds": {64: (0.2, 0.1, 0.3)},
}  # fmt: skip


def horizon(limits, **seen):
    limit = limits.get("seconds")
    return horizon_of(Training(**limits), seconds_limit=limit, **SEEN | seen)


@pytest.mark.parametrize(
    ("limits", "seen", "now", "after"),
    [
        ({"steps": 48}, {"num_steps": 48}, 0.5, 1 / 48),
        ({"epochs": 3}, {}, 1.512 / 3, 1 / 48),  # 16 updates an epoch, the last of them short
        ({"seconds": 12.0}, {}, 2 / 11, 0.2 / 11),  # a second was no update,
        ({"seconds": 12.0, "steps": 48}, {"num_steps": 48}, 0.5, 1 / 48),
        ({"seconds": 12.0, "steps": 480}, {"num_steps": 480}, 2 / 11, 0.2 / 11),
    ],
)
def test_the_limit_that_ends_first_draws_the_line(limits, seen, now, after):
    """Catches a limit that is left out, epochs without their short batch, and a mean of times."""
    found = horizon(limits, **seen)
    assert found.at(24) == pytest.approx(now)
    assert found.at(25) - found.at(24) == pytest.approx(after)
    assert found.at(10**6) == 1.0 and found.offset + 24 * found.per_step == pytest.approx(now)


@pytest.mark.parametrize(
    ("limits", "seen"),
    [({"epochs": 9}, {"has_end": False}), ({"seconds": 9.0}, {"step_seconds": {}})],
)
def test_without_a_pace_there_is_none(limits, seen):
    """Catches a bound taken for an end, and a schedule that begins before a call was timed."""
    assert horizon(limits, **seen) == NO_HORIZON


def test_a_line_that_is_held_stays_and_still_knows_of_an_end():
    """Catches a share of 0, by which a warm-up would begin anew, and an end invented."""
    line = Horizon(step=10, done=0.2, per_step=0.01)
    held = line.held(30)
    assert held.at(30) == pytest.approx(0.4) == held.at(10_000) - 1e-9 * 9970
    assert held.per_step > 0
    assert NO_HORIZON.held(30) == NO_HORIZON


def loss(model, batch, key):
    return 0.5 * (batch[0] @ model - batch[1]) ** 2


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(512, 4)).astype("float32")
    return x, (x @ np.arange(4)).astype("float32")


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_schedule_ends_with_the_seconds(schedule, data):
    """Catches a schedule that is not over when the time is, and one that counts compiling.

    Of three runs one must do: a process that is stopped near its end can foresee nothing.
    """

    def shares():
        result = downslope.fit(
            loss, np.zeros(4, "float32"), data, learning_rate=0.01, schedule=schedule, seconds=2.0,
            batch_size=8, patience=None, measure_every=None,
        )  # fmt: skip
        lines = [r for r in result.history if r["event"] == "horizon"]
        first, last = (Horizon(**{n: line[n] for n in ("step", "done", "per_step")})
                       for line in (lines[0], lines[-1]))  # fmt: skip
        return first.done, last.at(result.num_steps)

    assert any(first < 0.3 and last > 0.9 for first, last in (shares() for _ in range(3)))
