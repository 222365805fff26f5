"""Tail index by Hill's estimator, with a choice of the number of tail points.

All functions take positive numbers x_i, one per example: `deviation_norms` of per-example
gradients, or absolute projections of batch gradients. Pooled coordinates of a gradient imitate a
heavy tail. A tail P(x > t) ~ t^-alpha has moments below alpha only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.arguments import whole
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import NOT_FINITE, Floats, array, centred
from downslope.noise.statistics.intervals import linear_interval, measured

MIN_TAIL_POINTS = 30  # smallest k scanned; assumed
MAX_CANDIDATES = 400  # values of k tried; between them the curve is smooth
GIVEN_K = "the interval holds for this k: choosing k by the data makes it too narrow"
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HillCurve:
    """Hill's estimate by number of tail points, and the fit of a power law to each.

    Attributes:
        num_tail: k [c], rising.
        alpha: Hill's estimate at each k [c].
        distance: Kolmogorov-Smirnov distance of the k tail points from the power law [c].
    """

    num_tail: Indices
    alpha: Floats
    distance: Floats

    @property
    def best(self) -> int:
        """Number of tail points at the smallest distance."""
        return int(self.num_tail[int(np.argmin(self.distance))])


def deviation_norms(gradients: ArrayLike) -> Floats:
    """|g_i - mean| of each row of [n, d], shape [n]; NaN throughout if a gradient is not finite.

    Raises:
        UsageError: gradients are not [n, d].

    Example:
        >>> deviation_norms([[0.0, 0.0], [6.0, 8.0]]).tolist()
        [5.0, 5.0]
    """
    rows = array("gradients", gradients, 2)
    deviation = centred(rows, 1)
    if isinstance(deviation, str):
        return np.full(len(rows), np.nan if not np.isfinite(rows).all() else 0.0)
    scale = np.abs(deviation).max()
    return np.linalg.norm(deviation / scale, axis=1) * scale


def hill(x: ArrayLike, num_tail: int | None = None) -> Estimate:
    """Tail index alpha by Hill's estimator, from the k largest values.

    alpha = 1 / mean over i <= k of ln(x_(i) / x_(k+1)), standard deviation alpha / sqrt(k). By
    default k is that of the smallest Kolmogorov-Smirnov distance, from 30 to n/10; the interval is
    conditional on it, and for Student's t covered the truth in about half the samples.

    Args:
        x: [n], 0 or more.
        num_tail: k, from 2 to n - 1; None chooses it, and needs n >= 300.

    Raises:
        UsageError: x is not [n], or num_tail is out of range.

    Example:
        >>> x = np.random.default_rng(0).pareto(2.5, 5000) + 1
        >>> print(hill(x, 500))
        2.30 (2.10 to 2.50)

    Source: Hill 1975; choice of k: Clauset, Shalizi and Newman 2009, section 3.3.
    """
    values = array("x", x, 1)
    fields = {"unit": "", "num_examples": len(values)}
    if reason := unusable(values):
        return not_estimable(reason, **fields)
    flags: tuple[str, ...] = ()
    choice = "k given"
    if num_tail is None:
        curve = hill_curve(values)
        if isinstance(curve, str):
            return not_estimable(curve, **fields)
        num_tail, flags = curve.best, (GIVEN_K,)
        choice = "k of the smallest Kolmogorov-Smirnov distance"
    k = whole("num_tail", num_tail, least=2, most=len(values) - 1)
    logs = tail_logs(values, k)
    if isinstance(logs, str):
        return not_estimable(logs, **fields)
    alpha = 1 / float(logs.mean())
    interval = linear_interval(alpha, alpha / math.sqrt(k), math.inf)
    return measured(alpha, interval, method=f"Hill, k = {k} ({choice})", flags=flags, **fields)


def hill_curve(x: ArrayLike) -> HillCurve | str:
    """Hill's estimate for k from 30 to n/10, for a plot and for the choice of k.

    Args:
        x: [n], n >= 300.

    Returns:
        A `HillCurve`, or the reason why there is none.

    Raises:
        UsageError: x is not [n].

    Example:
        >>> x = np.random.default_rng(0).pareto(2.5, 5000) + 1
        >>> curve = hill_curve(x)
        >>> print(curve.num_tail[0], curve.num_tail[-1], f"{curve.alpha[-1]:.2f}")
        30 500 2.30
    """
    values = array("x", x, 1)
    if reason := unusable(values):
        return reason
    most = len(values) // 10
    if most < MIN_TAIL_POINTS:
        return f"needs at least {10 * MIN_TAIL_POINTS} values; got {len(values)}"
    tries = np.arange(MIN_TAIL_POINTS, most + 1)
    if len(tries) > MAX_CANDIDATES:
        tries = np.unique(np.geomspace(MIN_TAIL_POINTS, most, MAX_CANDIDATES).astype(np.int64))
    top = -np.sort(-np.partition(values, -most - 1)[-most - 1 :])
    tries = tries[(top[tries] > 0) & (top[tries] < top[0])]
    if not len(tries):
        return "the largest values are all the same, or 0"
    logs = np.log(top[top > 0])
    alpha = 1 / (np.cumsum(logs)[tries - 1] / tries - logs[tries])
    distance = [_distance(logs[:k] - logs[k], a) for k, a in zip(tries, alpha, strict=True)]
    return HillCurve(num_tail=tries, alpha=alpha, distance=np.array(distance))


def unusable(values: Floats) -> str | None:
    """Reason why the values have no tail to look at, or None."""
    if len(values) < 2:
        return f"needs at least 2 values; got {len(values)}"
    if not np.isfinite(values).all():
        return NOT_FINITE
    if (values < 0).any():
        return "values below 0: take absolute values or norms first"
    return None if values.any() else "every value is 0"


def tail_logs(values: Floats, k: int) -> Floats | str:
    """ln(x_(i) / x_(k+1)) of the k largest values, largest first, or the reason for none."""
    top = -np.sort(-np.partition(values, -k - 1)[-k - 1 :])
    if top[k] <= 0:
        return f"fewer than {k + 1} values above 0"
    logs = np.log(top[:k]) - math.log(top[k])
    return logs if logs[0] > 0 else "the tail values are all the same"


def _distance(logs: Floats, alpha: float) -> float:
    """Kolmogorov-Smirnov distance of logs (largest first) from the exponential of rate alpha."""
    k = len(logs)
    above, steps = np.exp(-alpha * logs), np.arange(k) / k
    return float(max((above - steps).max(), (steps + 1 / k - above).max()))
