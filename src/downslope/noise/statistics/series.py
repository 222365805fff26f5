"""Means and ratios of means of a series of steps, with intervals that allow for correlation.

Steps of a run are correlated: 10,000 of them may be worth no more than 50 independent ones. The
series is cut into blocks longer than its memory, and the blocks are compared.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.arrays import Floats, array

NUM_BLOCKS = 16  # measured here on AR(1) series: 8 to 64 blocks cover alike, 93 to 97 %
MIN_STEPS = 8  # for an interval
MAX_BLOCK_CORRELATION = 0.5  # of neighbours; assumed: beyond, blocks are too short


def ratio_of_series(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    scale: float = 1.0,
    unit: str = "",
    what: str = "ratio of means",
) -> Estimate:
    """Ratio of two means over steps, with an interval that holds for correlated steps.

    scale * mean(n) / mean(d): the ratio of means, not the mean of ratios. The error is that of the
    residuals n - R d (R the ratio) averaged over 16 consecutive blocks, with Student's t at 15
    degrees of freedom, widened by (1 + r)/(1 - r) in variance where neighbouring blocks have a
    correlation r > 0.

    Args:
        numerators: [K], any sign.
        denominators: [K], 0 or more: squares.
        scale: a known factor.
        unit: of the ratio times the factor.
        what: name of the ratio, for the method.

    Returns:
        The ratio, with an interval from 8 steps on; flagged where blocks are still correlated.

    Raises:
        UsageError: shapes that differ, or a negative denominator.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> d = rng.exponential(size=2000)
        >>> print(ratio_of_series(3 * d + rng.normal(size=2000), d))
        3.000 (2.949 to 3.052)

    Source: batch means, Law and Kelton, Simulation Modeling and Analysis.
    """
    n, d = array("numerators", numerators, 1), array("denominators", denominators, 1)
    if n.shape != d.shape:
        raise UsageError(
            f"numerators and denominators must have one shape; got {n.shape} and {d.shape}"
        )
    if (d < 0).any():
        raise UsageError(f"denominators must be 0 or more; got {d.min()}")
    num = len(n)
    if num < 2:
        return not_estimable("fewer than 2 steps", unit=unit, num_steps=num)
    if not (np.isfinite(n).all() and np.isfinite(d).all()):
        return not_estimable("a step is not finite", unit=unit, num_steps=num)
    size_n, size_d = float(np.abs(n).max()), float(d.max())
    if size_d == 0:
        return not_estimable("every denominator is 0", unit=unit, num_steps=num)
    # scaled to order 1 first: squares of tiny steps would underflow
    n, d = n / (size_n or 1.0), d / size_d
    factor = scale * (size_n or 1.0) / size_d
    ratio = float(n.mean() / d.mean())
    if not math.isfinite(ratio * factor):
        return not_estimable("the ratio overflows", unit=unit, num_steps=num)
    if num < MIN_STEPS:
        flags = (f"fewer than {MIN_STEPS} steps: no interval",)
        return Estimate(value=ratio * factor, unit=unit, num_steps=num, method=what, flags=flags)
    reach, blocks, flags = _reach(n, d, ratio)
    ends = sorted((factor * (ratio - reach), factor * (ratio + reach)))
    method = f"{what}; means of {blocks} blocks of steps, Student's t"
    return Estimate(
        value=ratio * factor, lo=ends[0], hi=ends[1], unit=unit, num_steps=num, method=method,
        flags=flags,
    )  # fmt: skip


def mean_of_series(
    values: ArrayLike, *, scale: float = 1.0, unit: str = "", what: str = "mean"
) -> Estimate:
    """Mean of a series of steps times a known factor, with an interval for correlated steps."""
    x = array("values", values, 1)
    return ratio_of_series(x, np.ones_like(x), scale=scale, unit=unit, what=what)


def _reach(n: Floats, d: Floats, ratio: float) -> tuple[float, int, tuple[str, ...]]:
    """Half the interval, number of blocks, flags."""
    blocks = min(NUM_BLOCKS, len(n) // 2)
    length = len(n) // blocks
    residual = (n - ratio * d)[len(n) - blocks * length :].reshape(blocks, length).mean(axis=1)
    residual = residual - residual.mean()
    spread = float(residual @ residual)
    if spread == 0:
        return 0.0, blocks, ("no spread was seen between blocks of steps",)
    # the estimate of a correlation from few blocks is low by about 1 / blocks
    correlation = float(residual[1:] @ residual[:-1]) / spread + 1 / blocks
    widen = min(max(correlation, 0.0), 0.9)
    variance = spread / (blocks - 1) / blocks * (1 + widen) / (1 - widen)
    flags = ()
    if correlation > MAX_BLOCK_CORRELATION:
        flags = ("blocks of steps are still correlated: the window is too short for its memory",)
    quantile = t_quantile(blocks - 1)
    return quantile * math.sqrt(variance) / float(d.mean()), blocks, flags
