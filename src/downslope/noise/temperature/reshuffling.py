"""Share of the stationary variance of SGD that is left under reshuffled epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from downslope.arguments import number, whole


@dataclass(frozen=True, kw_only=True)
class ReshufflingRatio:
    """Stationary variance under reshuffled epochs over that of drawing with replacement.

    Attributes:
        epoch_average: averaged over the positions in an epoch; near x n / 3 for x n << 1.
        end_of_epoch: right after an epoch, where it is least; near (x n)^2 / 12 for x n << 1.
    """

    epoch_average: float
    end_of_epoch: float


def reshuffling_ratio(rate_times_curvature: float, batches_per_epoch: int) -> ReshufflingRatio:
    """Share of the stationary variance along one direction that reshuffling leaves.

    Without momentum. The noise of the n batches of an epoch adds up to 0, so slow directions
    (x n << 1 with x = eta lambda) hardly feel it. With S^2 = C n/(n - 1) and
    w_i = eta (1 - x)^(j-1-i) the variance after j batches of an epoch is
    V_j = (1 - x)^(2j) V_0 + S^2 (sum w^2 - (sum w)^2 / n)
    with V_n = V_0; it is divided by C eta / (lambda (2 - x)).

    Args:
        rate_times_curvature: x = eta lambda, between 0 and 2.
        batches_per_epoch: n = N / B, 2 or more.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> ratio = reshuffling_ratio(0.01, 100)
        >>> round(ratio.epoch_average, 8), round(ratio.end_of_epoch, 4)
        (0.26793532, 0.0772)

    Source: Kuehn and Rosenow 2023, for the anti-correlation over an epoch.
    """
    x = float(number("rate_times_curvature", rate_times_curvature, above=0, below=2))
    n = whole("batches_per_epoch", batches_per_epoch, least=2)
    # 1 - (1 - x)^j for j = 0..n; the weights (eta = 1) are 1 - lost
    steps = np.arange(n + 1)
    lost = -np.expm1(steps * math.log1p(-x)) if x < 1 else 1 - (1 - x) ** steps
    kept = 1 - lost
    deviation = lost[:-1] - lost[:-1].mean()  # the weights' own, without their common 1
    start = float(deviation @ deviation) / (lost[-1] * (1 + kept[-1]))
    # V_1 ... V_(n-1): there the two sums do not cancel; V_n = V_0
    squares, sums = np.cumsum(kept[:-1] ** 2), lost[1:] / x
    after = kept[1:] ** 2 * start + squares - sums**2 / n
    after[-1] = start
    # S^2 over C, divided by the variance with replacement, 1 / (x (2 - x)) for eta = C = 1
    factor = n / (n - 1) * x * (2 - x)
    return ReshufflingRatio(
        epoch_average=float(after.mean()) * factor,
        end_of_epoch=float(start) * factor,
    )
