"""Learning rate at which mini-batch noise makes the mean square of the error grow.

Rows that disagree about the curvature multiply the error by a random matrix at every step, which
lowers the largest stable rate below that of the full batch. Above the bound the mean square
grows, carried by rare large excursions; the median run can still shrink. Additive noise never
moves the bound. For plain SGD.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import Floats, array
from downslope.noise.statistics.intervals import jackknife_error, log_interval
from downslope.noise.temperature.dynamics import Sampling, population_factor

UNIT = "parameter^2 / loss"
ABOVE = "above it: rare large excursions, not steady divergence"


def necessary_limit(
    curvatures: ArrayLike,
    batch_size: int,
    *,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
) -> Estimate:
    """Upper bound on learning rates that keep the mean square of the error from growing.

    min over directions u of 2a / (a^2 + f Var_i(u' H_i u)), a = u' H u; f Var is S^2 (1/B - 1/N)
    for reshuffled epochs, S^2 / B for streams, S^2 the sample variance. One side only: stability
    below it is not promised.

    Args:
        curvatures: u' H_i u, [n >= 3 rows, k directions]
            (`downslope.noise.curvature.directional_curvatures`), u the top eigenvectors of H.
        batch_size: B.
        num_rows: N, for reshuffled epochs and for drawing with replacement.
        sampling: how mini-batches are drawn.

    Returns:
        The limit of the binding direction, with a delete-one jackknife interval on the log scale;
        exact where the sample is the whole data set.

    Raises:
        UsageError: shapes or sizes that do not fit.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 1))
        >>> print(necessary_limit(x**2, 4))  # 2 / (1 + 2/4) for Gaussian inputs
        1.355 (1.289 to 1.424) parameter^2 / loss

    Source: Rayleigh quotient at u u' of the operator in Mulayoff and Michaeli 2024.
    """
    values = array("curvatures", curvatures, 2)
    num, factor = len(values), _variance_factor(batch_size, num_rows, sampling)
    if num_rows is not None and num > num_rows:
        raise UsageError(f"curvatures must have at most num_rows ({num_rows}) rows; got {num}")
    if values.shape[1] == 0:
        raise UsageError("curvatures must have at least one direction; got none")
    if num < 3:
        return not_estimable("fewer than 3 rows", unit=UNIT, num_examples=num)
    if not np.isfinite(values).all():
        return not_estimable("a curvature is not finite", unit=UNIT, num_examples=num)
    mean, variance = values.mean(axis=0), values.var(axis=0, ddof=1)
    rising = mean > 0
    if not rising.any():
        return not_estimable("no direction curves up", unit=UNIT, num_examples=num)
    flags = (ABOVE,)
    if not rising.all():
        flags += (f"{int((~rising).sum())} directions that curve down were left out",)
    limits = np.full(len(mean), math.inf)
    limits[rising] = 2 * mean[rising] / (mean[rising] ** 2 + factor * variance[rising])
    best = int(np.argmin(limits))
    limit = float(limits[best])
    method = f"necessary bound, binding direction {best + 1} of {values.shape[1]}"
    if num == num_rows:
        lo = hi = limit
        method += "; every row was used"
    else:
        lo, hi = _interval(values[:, best], factor, limit)
        method += "; delete-one jackknife on the log scale"
    return Estimate(
        value=limit, lo=lo, hi=hi, unit=UNIT, num_examples=num, method=method, flags=flags
    )


def _variance_factor(batch_size: int, num_rows: int | None, sampling: Sampling) -> float:
    """Factor from the sample variance S^2 of the rows to f Var_i of the population."""
    factor = population_factor(batch_size, num_rows, sampling) / batch_size
    if sampling == "streaming" or num_rows is None:
        return factor
    return factor * (num_rows - 1) / num_rows


def _interval(row: Floats, factor: float, limit: float) -> tuple[float | None, float | None]:
    num, mean = len(row), row.mean()
    deviation = row - mean
    means = mean - deviation / (num - 1)
    scatter = deviation @ deviation - deviation**2 * num / (num - 1)
    left_out = 2 * means / (means**2 + factor * scatter / (num - 2))
    if (left_out <= 0).any() or not np.isfinite(left_out).all():
        return None, None
    return log_interval(limit, jackknife_error(np.log(left_out)), num - 1)
