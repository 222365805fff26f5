"""Held-out losses of a run: the lowest, and the reference for the next gain."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.choose.patience import is_better
from downslope.choose.temperature import gain_scale, stands_out

RISE_ERRORS = 2.0  # standard errors: after a rise the last parameters are not kept


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Results of the evaluations so far.

    The next gain is measured from `reference_loss`: held out, or the training loss of an epoch
    without held-out rows.
    """

    num_rows: int | None = None  # that evaluations use; None before the first one
    evaluated_step: int | None = None  # update of the latest evaluation
    evaluated_seconds: float | None = None  # time of the run at its end
    lowest_loss: float | None = None  # held out
    lowest_step: int = 0  # its update
    params: Any = None  # its parameters, on the host; None if not kept
    reference_loss: float | None = None
    rose: bool = False  # the latest loss is above the reference beyond its noise
    started_step: int = 0  # update of the latest start from the first parameters
    # by metric, all rows minus the sample when that was at a target; see `train.targets`
    offsets: dict[str, float] = dataclasses.field(default_factory=dict)
    reference_losses: np.ndarray | None = None  # of the held-out rows at that evaluation, [n]

    @property
    def is_level(self) -> bool:
        """True if the latest loss is as low as the lowest one, as far as its noise tells."""
        return not self.rose and self.lowest_step > self.started_step  # not of an earlier start

    def evaluated(self, step: int, loss: float | None) -> tuple[HeldOut, bool]:
        """Record after an evaluation, and whether its loss is the lowest so far.

        Args:
            loss: held-out loss, None if it is not finite or there are no held-out rows.
        """
        is_lowest = loss is not None and is_better(loss, self.lowest_loss, 0.0)
        lowest: dict[str, Any] = {"lowest_loss": loss, "lowest_step": step} if is_lowest else {}
        return dataclasses.replace(self, evaluated_step=step, **lowest), is_lowest

    def compared(
        self, loss: float, losses: np.ndarray | None, *, first_loss: float | None, tolerance: float
    ) -> tuple[HeldOut, bool]:
        """Record with a new reference if the loss gained, and whether it did.

        A gain exceeds the noise of the paired differences, and the tolerance; a rise twice that
        noise.
        """
        if self.reference_loss is not None:
            gain = self.reference_loss - loss
            error = error_of_difference(self.reference_losses, losses)
            scale = gain_scale(self.reference_loss, first_loss)
            if not stands_out(gain, error, loss=scale, tolerance=tolerance):
                doubled = error and RISE_ERRORS * error
                rose = stands_out(-gain, doubled, loss=scale, tolerance=tolerance)
                return dataclasses.replace(self, rose=rose), False
        now = dataclasses.replace(self, reference_loss=loss, reference_losses=losses, rose=False)
        return now, True

    def restarted(self, step: int) -> HeldOut:
        """Record after a restart at an update: the lowest loss stays, the reference is cleared."""
        return dataclasses.replace(
            self, reference_loss=None, reference_losses=None, rose=False, started_step=step
        )

    def to_json(self) -> dict[str, Any]:
        """Numbers as plain values; arrays are saved separately."""
        arrays = ("params", "reference_losses")
        names = [f.name for f in dataclasses.fields(self) if f.name not in arrays]
        return {name: getattr(self, name) for name in names}


def error_of_difference(before: Any, after: Any) -> float | None:
    """Standard error of the mean difference of two sets of losses of the same rows."""
    if before is None or after is None or len(before) != len(after) or len(before) < 2:
        return None
    difference = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    error = float(difference.std(ddof=1) / math.sqrt(len(difference)))
    return error if math.isfinite(error) else None
