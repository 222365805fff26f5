"""Held-out losses of a run: the lowest, and the reference for the next gain."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.choose.patience import is_better
from downslope.choose.temperature import gain_scale, stands_out


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Results of the evaluations so far.

    Attributes:
        evaluated_step: update of the latest evaluation, or None.
        lowest_loss, lowest_step: the lowest held-out loss, and its update.
        params: the parameters of that loss, on the host; None if not kept.
        reference_loss: the loss that the next gain is measured from: held out, or the training
            loss of an epoch without held-out rows.
        reference_losses: losses of the held-out rows at that evaluation, [n], or None.
    """

    evaluated_step: int | None = None
    lowest_loss: float | None = None
    lowest_step: int = 0
    params: Any = None
    reference_loss: float | None = None
    reference_losses: np.ndarray | None = None

    def evaluated(self, step: int, loss: float | None) -> tuple[HeldOut, bool]:
        """Record after an evaluation, and whether its loss is the lowest so far.

        Args:
            loss: held-out loss, None if it is not finite or there are no held-out rows.
        """
        is_lowest = loss is not None and is_better(loss, self.lowest_loss, 0.0)
        found = dataclasses.replace(self, evaluated_step=step)
        if is_lowest:
            found = dataclasses.replace(found, lowest_loss=loss, lowest_step=step)
        return found, is_lowest

    def with_params(self, params: Any) -> HeldOut:
        """Record with the parameters of the lowest loss."""
        return dataclasses.replace(self, params=params)

    def compared(
        self, loss: float, losses: np.ndarray | None, *, first_loss: float | None, tolerance: float
    ) -> tuple[HeldOut, bool]:
        """Record with a new reference if the loss gained, and whether it did.

        A gain exceeds the noise of the paired differences, and the tolerance.
        """
        if self.reference_loss is not None:
            gain = self.reference_loss - loss
            error = _error_of_difference(self.reference_losses, losses)
            scale = gain_scale(self.reference_loss, first_loss)
            if not stands_out(gain, error, loss=scale, tolerance=tolerance):
                return self, False
        return dataclasses.replace(self, reference_loss=loss, reference_losses=losses), True

    def restarted(self) -> HeldOut:
        """Record after a restart: the lowest loss stays, the reference is cleared."""
        return dataclasses.replace(self, reference_loss=None, reference_losses=None)

    def to_json(self) -> dict[str, Any]:
        """Numbers as plain values; arrays are saved separately."""
        names = ("evaluated_step", "lowest_loss", "lowest_step", "reference_loss")
        return {name: getattr(self, name) for name in names}


def _error_of_difference(before: Any, after: Any) -> float | None:
    """Standard error of the mean difference of two sets of losses of the same rows."""
    if before is None or after is None or len(before) != len(after) or len(before) < 2:
        return None
    difference = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    error = float(difference.std(ddof=1) / math.sqrt(len(difference)))
    return error if math.isfinite(error) else None
