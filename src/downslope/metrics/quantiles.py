"""Loss and coverage of predicted quantiles, over a stream of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.metrics.intervals import wilson_interval
from downslope.metrics.loss import MeanLoss, checked_weights, mean_estimate, missing, vector
from downslope.metrics.moments import Floats, Moments
from downslope.metrics.results import Results

NOT_FINITE = "a predicted quantile or the target is not finite"


def pinball(gaps: Floats, levels: Floats) -> Floats:
    """Pinball losses [n, K] of targets minus predicted quantiles [n, K] at levels [K]."""
    return np.maximum(levels * gaps, (levels - 1) * gaps)


class QuantileMetrics:
    """Loss of predicted quantiles in the target's unit, and the share of targets below each.

    - `quantile_loss`: pinball loss, mean over rows and levels q of `(q - 1[y < p]) (y - p)`, which
      is least at the quantile q of the target; Student t interval (Koenker and Bassett 1978).
    - `below_<level>`: share of targets at or below the predicted quantile, which should be the
      level, or more where many targets are equal; Wilson interval.
    - `within`, of several levels: share of targets from the lowest to the highest quantile.

    Args:
        target_unit: unit of predictions and targets.
        levels: of the quantiles, between 0 and 1, rising.

    Example:
        >>> metrics = QuantileMetrics("km", (0.25, 0.75))
        >>> y = np.arange(100.0)
        >>> metrics.add(np.zeros(100), np.tile([24.0, 74.0], (100, 1)), y)
        >>> {name: round(estimate.value, 3) for name, estimate in metrics.result().items()
        ...     if name != "loss"}
        {'quantile_loss': 9.375, 'below_0.25': 0.25, 'below_0.75': 0.75, 'within': 0.51}
    """

    def __init__(self, target_unit: str, levels: Sequence[float]):
        self.target_unit, self.levels = target_unit, tuple(levels)
        self._loss = MeanLoss()
        self._moments = Moments(2 + len(self.levels))  # loss, inside, and below each

    def add(
        self,
        losses: ArrayLike,
        predictions: ArrayLike,
        targets: ArrayLike,
        weight: ArrayLike | None = None,
    ) -> None:
        """Add rows: losses and targets [n], predictions [n, K], both in the target's own unit.

        Raises:
            UsageError: shapes that differ, or a negative weight.
        """
        losses = vector(losses, "losses")
        targets = vector(targets, "targets", len(losses))
        found = np.asarray(predictions, np.float64)
        shape = len(losses), len(self.levels)
        if found.shape != shape:
            raise UsageError(f"predictions must have shape {shape}; got {found.shape}")
        weight, keep = checked_weights(weight, len(losses))
        self._loss.add(losses[keep], weight)
        gaps = targets[keep, None] - found[keep]
        level = np.array(self.levels)
        values: Floats = np.empty((2 + len(level), len(gaps)))
        values[0] = pinball(gaps, level).mean(1)
        values[1] = (gaps[:, 0] >= 0) & (gaps[:, -1] <= 0)
        values[2:] = np.where(np.isfinite(gaps), gaps <= 0, np.nan).T
        self._moments.add(values, weight)

    def result(self) -> Results:
        """The metrics `loss`, `quantile_loss`, `below_<level>` and `within`."""
        loss = mean_estimate(self._moments, self.target_unit, NOT_FINITE, low=0.0)
        found = {"loss": self._loss.estimate(), "quantile_loss": loss}
        for place, level in enumerate(self.levels):
            found[f"below_{level:g}"] = self._share(2 + place)
        if len(self.levels) > 1:
            found["within"] = self._share(1)
        return Results(found, higher_is_better=("within",))

    def _share(self, component: int) -> Estimate:
        unit, moments = "share of rows", self._moments
        if reason := missing(moments, NOT_FINITE):
            return not_estimable(reason, unit=unit)
        share = min(1.0, max(0.0, float(moments.mean[component])))
        lo, hi = wilson_interval(share, moments.num_effective)
        return Estimate(
            value=share, lo=lo, hi=hi, num_examples=moments.count, unit=unit,
            method="Wilson score interval, effective sample size",
        )  # fmt: skip
