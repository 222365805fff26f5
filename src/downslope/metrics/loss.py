"""Mean loss with its uncertainty, and what the accumulators share: input checks and reasons."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.metrics.intervals import mean_interval
from downslope.metrics.moments import Floats, Moments
from downslope.metrics.results import Results

NOT_FINITE = "the loss is not finite"


class MeanLoss:
    """Mean loss over rows, with an interval from its standard error.

    >>> mean_loss = MeanLoss()
    >>> mean_loss.add(np.array([1.0, 2.0]), None)
    >>> mean_loss.add(np.array([3.0, 2.5, 1.5]), None)
    >>> print(mean_loss.result()["loss"])
    2.00 (1.02 to 2.98)
    """

    def __init__(self):
        self._moments = Moments(1)

    def add(self, losses: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Add rows: losses [n], weight [n] or None for ones."""
        losses = vector(losses, "losses")
        weight, keep = checked_weights(weight, len(losses))
        self._moments.add(losses[keep][None], weight)

    def result(self) -> Results:
        """The metric `loss`."""
        return Results({"loss": self.estimate()})

    def estimate(self) -> Estimate:
        """The mean loss."""
        return mean_estimate(self._moments, "", NOT_FINITE)


def mean_estimate(
    moments: Moments,
    unit: str,
    fault: str,
    *,
    component: int = 0,
    low: float = -np.inf,
    flags: tuple[str, ...] = (),
) -> Estimate:
    """The mean of one component with its Student t interval, or the reason why there is none.

    Args:
        fault: what was wrong with the rows that could not be used, as a clause.
        low: least value that the mean can have.
    """
    if reason := missing(moments, fault):
        return not_estimable(reason, unit=unit)
    value = float(moments.mean[component])
    error = float(np.sqrt(moments.covariance_of_mean()[component, component]))
    lo, hi = mean_interval(value, error, moments.freedom, low)
    return Estimate(
        value=value, lo=lo, hi=hi, num_examples=moments.count, unit=unit,
        method="mean; Student t interval", flags=flags,
    )  # fmt: skip


def missing(moments: Moments, fault: str) -> str | None:
    """The reason why no value can be given, or None."""
    if moments.num_bad:
        return f"{moments.num_bad:,} of {moments.count + moments.num_bad:,} rows: {fault}"
    if moments.count == 0:
        return "no examples"
    if not np.isfinite(moments.mean).all():
        return "the values are too large to add up"
    return None


def vector(values: ArrayLike, name: str, num: int | None = None) -> Floats:
    """Values as float64 [n]; raises UsageError for another shape."""
    values = np.asarray(values)
    if values.ndim != 1 or num not in (None, len(values)):
        size = "n" if num is None else num
        raise UsageError(f"{name} must have shape [{size}]; got {list(values.shape)}")
    return values.astype(np.float64)


def checked_weights(
    weight: ArrayLike | None, num: int
) -> tuple[Floats | None, slice | NDArray[np.bool_]]:
    """Positive weights [n'] (None if all are 1), and which of the `num` rows they belong to."""
    everything = slice(None)
    if weight is None:
        return None, everything
    weight = vector(weight, "weight", num)
    if (weight == 1).all():
        return None, everything
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise UsageError("weight must be finite and not negative")
    keep = weight > 0
    return (weight, everything) if keep.all() else (weight[keep], keep)
