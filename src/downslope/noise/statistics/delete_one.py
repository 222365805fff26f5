"""Arrays of rows, intervals of a value with a standard error, and the delete-one jackknife."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.ranges import Floats

NOT_FINITE = "a value is not finite"
TOO_LARGE = "the result is too large, or too small, for double precision"


def as_rows(values: ArrayLike, name: str = "gradients") -> Floats:
    """`values` as float64 of shape [n, d].

    Raises:
        UsageError: they do not have two dimensions.

    Example:
        >>> as_rows([[1, 2], [3, 4], [5, 6]]).shape
        (3, 2)
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise UsageError(f"{name} must have shape [n, d]; got {list(rows.shape)}")
    return rows


def as_column(values: ArrayLike, name: str = "values") -> Floats:
    """`values` as float64 of shape [n].

    Raises:
        UsageError: they do not have one dimension.

    Example:
        >>> as_column([1, 2, 3]).tolist()
        [1.0, 2.0, 3.0]
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise UsageError(f"{name} must have shape [n]; got {list(column.shape)}")
    return column


def centred(rows: Floats, least: int = 2) -> Floats | str:
    """Rows minus their mean, or the reason why they have no spread.

    Example:
        >>> centred(np.array([[1.0, 0.0], [3.0, 0.0]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> centred(np.ones((3, 2)))
        'every row is the same'
    """
    if len(rows) < least or rows.shape[1] == 0:
        return f"needs at least {least} rows, and a column; got {list(rows.shape)}"
    if not np.isfinite(rows).all():
        return NOT_FINITE
    if (rows == rows[0]).all():
        return "every row is the same"
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = rows - rows[0]  # first a row, then the mean: no rounding from a large mean
        deviation -= deviation.mean(axis=0)
    return deviation if np.isfinite(deviation).all() else TOO_LARGE


def jackknife_error(without: Floats) -> float:
    """Jackknife standard error sqrt((n-1)/n sum (t_(i) - mean)^2) of the n delete-one values.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 6.0])
        >>> without = (x.sum() - x) / 3
        >>> round(jackknife_error(without), 6), float(round(x.std(ddof=1) / 2, 6))
        (1.080123, 1.080123)

    Source: Tukey 1958; Efron and Stein 1981.
    """
    n = len(without)
    return math.sqrt((n - 1) / n * float(np.sum((without - without.mean()) ** 2)))


def linear_interval(value: float, error: float, freedom: float) -> tuple[float, float]:
    """Interval value -+ t * error.

    Example:
        >>> tuple(round(end, 2) for end in linear_interval(5.0, 1.0, 9))
        (2.74, 7.26)
    """
    reach = t_quantile(freedom) * error
    return value - reach, value + reach


def log_interval(value: float, error: float, freedom: float) -> tuple[float, float]:
    """Interval of a positive quantity whose logarithm has the standard error `error`.

    Example:
        >>> tuple(round(end, 3) for end in log_interval(5.0, 0.1, 1e9))
        (4.11, 6.083)
    """
    factor = math.exp(min(t_quantile(freedom) * error, 700.0))  # beyond it doubles overflow
    return value / factor, value * factor


def measured(
    value: float, interval: tuple[float, float] | None = None, *, unit: str, **fields: Any
) -> Estimate:
    """An estimate, or "not estimable" if the value is not finite; such ends are left out.

    Example:
        >>> print(measured(2.0, (1.0, 4.0), unit="loss"))
        2.0 (1.0 to 4.0) loss
        >>> print(measured(float("nan"), unit="loss"))
        not estimable: the result is too large, or too small, for double precision
    """
    if not math.isfinite(value):
        fields.pop("flags", None)
        return not_estimable(TOO_LARGE, unit=unit, **fields)
    lo, hi = interval if interval and all(map(math.isfinite, interval)) else (None, None)
    return Estimate(value=float(value), lo=lo, hi=hi, unit=unit, **fields)
