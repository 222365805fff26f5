"""Loss, root mean square error, mean absolute error and R2, over a stream of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from downslope.estimate import Estimate, not_estimable
from downslope.metrics.intervals import log_interval
from downslope.metrics.loss import MeanLoss, checked_weights, mean_estimate, missing, vector
from downslope.metrics.moments import Floats, Moments
from downslope.metrics.results import Results

NOT_FINITE = "the prediction, the target or the square of its error is not finite"
R2_UNIT = "share of variance"
SQUARE, ABSOLUTE, TARGET, TARGET_SQUARE = range(4)  # components of the moments


class RegressionMetrics:
    """Loss, rmse, mae and r2 of predictions, the middle two in the target's unit.

    With error e = target - prediction and the target's mean m:

    - `rmse` = sqrt(mean e^2). Delta method: its standard error is se(mean e^2) / (2 rmse).
    - `mae` = mean |e|; Student t interval.
    - `r2` = 1 - q with q = mean e^2 / mean (target - m)^2. Delta method for a ratio of means: the
      standard error of q is that of the mean of (e^2 - q (target - m)^2) / mean (target - m)^2
      (Cochran 1977, Sampling Techniques, section 6.4); m being estimated changes nothing to first
      order.

    The intervals of rmse and q are symmetric in the logarithm. Not estimable: `r2` if the target
    is constant. Values below zero are possible for `r2`: worse than the mean of these rows.

    Args:
        target_unit: unit of predictions and targets.

    >>> metrics = RegressionMetrics("km")
    >>> y, p = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.1, 1.9, 3.2, 3.8])
    >>> metrics.add((y - p) ** 2, p, y)
    >>> {name: round(estimate.value, 3) for name, estimate in metrics.result().items()}
    {'loss': 0.025, 'rmse': 0.158, 'mae': 0.15, 'r2': 0.98}
    """

    def __init__(self, target_unit: str):
        self.target_unit = target_unit
        self._loss = MeanLoss()
        self._moments = Moments(4)
        # Targets are counted from the first one: the cross moments with their squares then lose no
        # digits to an offset, and a constant target has a spread of exactly zero.
        self._origin: float | None = None

    def add(
        self,
        losses: ArrayLike,
        predictions: ArrayLike,
        targets: ArrayLike,
        weight: ArrayLike | None = None,
    ) -> None:
        """Add rows: each argument [n], predictions and targets in the target's own unit.

        Raises:
            UsageError: shapes that differ, or a negative weight.
        """
        losses = vector(losses, "losses")
        predictions = vector(predictions, "predictions", len(losses))
        targets = vector(targets, "targets", len(losses))
        weight, keep = checked_weights(weight, len(losses))
        targets = targets[keep]
        self._loss.add(losses[keep], weight)
        if self._origin is None:
            finite = np.flatnonzero(np.isfinite(targets))
            self._origin = float(targets[finite[0]]) if len(finite) else None
        with np.errstate(over="ignore", invalid="ignore"):  # counted as not finite below
            error = targets - predictions[keep]
            offset = targets - (self._origin or 0.0)
            self._moments.add(np.stack([error**2, abs(error), offset, offset**2]), weight)

    def result(self) -> Results:
        """The metrics `loss`, `rmse`, `mae` and `r2`."""
        mae = mean_estimate(
            self._moments, self.target_unit, NOT_FINITE, component=ABSOLUTE, low=0.0
        )
        loss, rmse, r2 = self._loss.estimate(), self._rmse(), self._r2()
        found = {"loss": loss, "rmse": rmse, "mae": mae, "r2": r2}
        return Results(found, higher_is_better=("r2",))

    def _rmse(self) -> Estimate:
        moments = self._moments
        if reason := missing(moments, NOT_FINITE):
            return not_estimable(reason, unit=self.target_unit)
        value = float(np.sqrt(moments.mean[SQUARE]))
        error = _error_of(moments, np.eye(4)[SQUARE]) / (2 * value) if value > 0 else 0.0
        lo, hi = log_interval(value, error, moments.freedom)
        return Estimate(
            value=value, lo=lo, hi=hi, num_examples=moments.count, unit=self.target_unit,
            method="root of the mean square error; delta method, log scale",
        )  # fmt: skip

    def _r2(self) -> Estimate:
        moments = self._moments
        if reason := missing(moments, NOT_FINITE):
            return not_estimable(reason, unit=R2_UNIT)
        spread = float(moments.variance[TARGET])
        if spread == 0:
            return not_estimable("the target is the same in all rows", unit=R2_UNIT)
        ratio = float(moments.mean[SQUARE]) / spread
        if not np.isfinite(ratio):
            reason = "the target's spread is too small or too large to divide by"
            return not_estimable(reason, unit=R2_UNIT)
        gradient = np.array([1.0, 0.0, 2 * moments.mean[TARGET] * ratio, -ratio]) / spread
        lo, hi = log_interval(ratio, _error_of(moments, gradient), moments.freedom)
        return Estimate(
            value=1 - ratio, lo=None if hi is None else 1 - hi, hi=None if lo is None else 1 - lo,
            num_examples=moments.count, unit=R2_UNIT,
            method="1 - ratio of mean squares; delta method, log scale",
        )  # fmt: skip


def _error_of(moments: Moments, gradient: Floats) -> float:
    """Standard error of gradient @ mean; NaN or zero where no spread was seen."""
    with np.errstate(over="ignore", invalid="ignore"):
        variance = float(gradient @ moments.covariance_of_mean() @ gradient)
    return float(np.sqrt(variance)) if variance > 0 else 0.0
