"""Horizon of a run: the share that is done, as a line over its updates.

Schedules are functions of that share, so they end with the run whatever limits it: updates,
epochs or seconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from downslope.config import Training
from downslope.data.stream import Position

HELD = 1e-9  # share per update of a line that stays where it is: 0 would mean an unknown end
MAX_DEVIATION = 0.01  # of a share that follows the clock, before its line is drawn anew


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """Share done: `done + (t - step) * per_step` before update number t, from 0 to 1.

    Attributes:
        step, done: an update, and the share that was done before it.
        per_step: share that an update adds; 0 if the end is not known (yet).
    """

    step: int = 0
    done: float = 0.0
    per_step: float = 0.0

    def at(self, step: int) -> float:
        """Share done before this update."""
        return min(1.0, max(0.0, self.done + (step - self.step) * self.per_step))

    def agrees_with(self, other: Horizon, step: int, *, within: float) -> bool:
        """True if both say the same of this update, and both know an end or neither does."""
        known = (self.per_step > 0) == (other.per_step > 0)
        return known and abs(self.at(step) - other.at(step)) < within

    def held(self, step: int) -> Horizon:
        """Line that stays at the share done before this update."""
        if not self.per_step:  # the end is not known
            return self
        return Horizon(step=step, done=self.at(step), per_step=HELD)

    @property
    def offset(self) -> float:
        """Value of the line before the first update, below 0 if updates became faster."""
        return self.done - self.step * self.per_step


NO_HORIZON = Horizon()  # the end is not known


def first_to_end(horizons: Sequence[Horizon], step: int) -> Horizon:
    """Of several limits the one that is reached first; one without a pace counts as never.

    Example:
        >>> steps, time = Horizon(per_step=0.01), Horizon(step=50, done=0.8, per_step=0.002)
        >>> first_to_end([steps, time], 50) is steps, first_to_end([steps, time], 99) is steps
        (True, True)
        >>> first_to_end([Horizon(per_step=0.001), time], 50) is time
        True
    """
    paced = [each for each in horizons if each.per_step > 0]
    if not paced:
        return NO_HORIZON
    return min(paced, key=lambda each: (1 - each.at(step)) / each.per_step)


def horizon_of(
    training: Training,
    *,
    num_steps: int | None,
    num_rows: int | None,
    has_end: bool,
    batch_rows: int,
    step: int,
    position: Position,
    update_seconds: float,
    seconds: float,
    seconds_limit: float | None,
    step_seconds: Mapping[int, Sequence[float]],
) -> Horizon:
    """Horizon of a run as it stands.

    Args:
        num_steps: updates of the whole run, None where epochs, time or the loss decide.
        num_rows: rows of an epoch; None for a generator.
        has_end: a limit was given; else the epochs are a bound not meant to be reached.
        batch_rows: examples per update.
        step, position: updates made, and place in the data.
        update_seconds, seconds: time spent on updates, and on everything. What else was done,
            such as compiling and trials, was before the updates and is no part of their schedule.
        seconds_limit: time at which training ends; None without a time budget.
        step_seconds: by batch size, the time of an update in each of the latest calls.
    """
    if not has_end:
        return NO_HORIZON
    found = []
    if num_steps:
        found.append(Horizon(per_step=1 / num_steps))
    elif training.epochs and num_rows:
        done = (position.epoch + position.row / num_rows) / training.epochs
        epoch_steps = math.ceil(num_rows / batch_rows)
        found.append(Horizon(step=step, done=done, per_step=1 / (training.epochs * epoch_steps)))
    if seconds_limit is not None and step_seconds.get(batch_rows):
        whole = update_seconds + max(0.0, seconds_limit - seconds)
        pace = statistics.median(step_seconds[batch_rows])
        done = update_seconds / whole if whole else 1.0
        found.append(Horizon(step=step, done=done, per_step=pace / max(whole, pace)))
    return first_to_end(found, step)
