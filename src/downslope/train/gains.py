"""What evaluations gained, and whether that is more than their noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from downslope.choose.anneal import FIFTH, SLOW, WAIT, stands_out
from downslope.metrics import Results
from downslope.train.flight import Flight
from downslope.train.logbook import Progress

OF_THE_FIRST = 0.01  # of the first batch's loss; assumed


class Gains:
    """Keeps account of the loss that decides.

    Args:
        flight: the run in the air.
        now: where the account is written.

    Attributes:
        best_losses: of the held-out rows at the loss that a gain is measured from, or None.
    """

    def __init__(self, flight: Flight, now: Progress):
        self.flight, self.now = flight, now
        self.best_losses: Any = None

    def take_in(self, results: Results | None) -> bool:
        """Adds an evaluation; False where it has no loss to decide by."""
        loss, now = self._loss(results), self.now
        if loss is None:
            return False
        if self._gained(loss, results):
            now.without_gain, now.gained_step = 0, now.evaluated_step
        else:
            now.without_gain += 1
        if now.best_loss is not None:
            now.path.append([now.evaluated_step, now.best_loss])
            if now.path[0][1] - now.best_loss > SLOW * self._scale(now.best_loss):
                now.anneals = 0
        return True

    def _loss(self, results: Results | None) -> float | None:
        """The loss to decide by: held out, or of the last epoch where nothing is held out."""
        if results is None and self.flight.engine.evaluate is None:
            return self.flight.tally.last_epoch_loss
        if results is None:
            return None
        if "loss" not in results:  # not finite on some held-out row, or a scorer without it
            return self.flight.tally.last_epoch_loss
        return float(results["loss"])

    def _gained(self, loss: float, results: Results | None) -> bool:
        """Whether the loss is lower than the lowest by more than its noise; notes it if so."""
        now, losses = self.now, None
        if results is not None and "loss" in results:  # else the gain is one of the training loss
            losses = results.losses
        if now.best_loss is not None:
            gain = now.best_loss - loss
            error = _error_of_difference(self.best_losses, losses)
            tolerance = self.flight.training.tolerance
            scale = self._scale(now.best_loss)
            if not stands_out(gain, error, loss=scale, tolerance=tolerance):
                return False
        now.best_loss, self.best_losses = loss, losses
        return True

    def fitted_share(self) -> float | None:
        """Training loss of the last epoch over that of the first batch."""
        first, last = self.flight.tally.first_losses[:1], self.flight.tally.last_epoch_loss
        return last / first[0] if first and last is not None and first[0] > 0 else None

    def share_without(self) -> float:
        """Of the updates of this start, those since the last gain or change."""
        steps, now = self.flight.tally.num_steps, self.now
        return (steps - now.gained_step) / max(1, steps - now.started_step)

    def recent(self) -> float | None:
        """Relative gain over the latest fifth of this start's updates, None where that is mixed."""
        now, steps = self.now, self.flight.tally.num_steps
        since = steps - FIFTH * (steps - now.started_step)
        before = [loss for step, loss in now.path if step <= since]
        if not before or len(now.path) - len(before) < WAIT or now.best_loss is None:
            return None
        scale = self._scale(now.best_loss)
        return (before[-1] - now.best_loss) / scale if scale else None

    def _scale(self, loss: float) -> float:
        """What gains are measured by: the loss, or a hundredth of the first where it is below that.

        Else a loss that falls to 0 would never cease to gain.
        """
        first = self.flight.tally.first_losses[:1] or [0.0]
        return max(abs(loss), OF_THE_FIRST * abs(first[0]))

    def little_is_left(self, loss: float) -> bool:
        """Whether the loss is next to nothing beside the first."""
        first = self.flight.tally.first_losses[:1]
        return bool(first) and abs(loss) < OF_THE_FIRST * abs(first[0])


def _error_of_difference(before: Any, after: Any) -> float | None:
    """Standard error of the mean difference of two sets of losses of the same rows."""
    if before is None or after is None or len(before) != len(after) or len(before) < 2:
        return None
    difference = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    error = float(difference.std(ddof=1) / math.sqrt(len(difference)))
    return error if math.isfinite(error) else None
