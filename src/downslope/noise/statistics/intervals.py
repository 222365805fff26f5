"""Intervals of a value with a standard error, and the delete-one jackknife."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.arrays import TOO_LARGE, Floats


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


def as_estimate(value: float | Estimate, *, unit: str) -> Estimate:
    """An estimate without an interval from a number; an estimate unchanged."""
    if isinstance(value, Estimate):
        return value
    if not math.isfinite(value):
        return not_estimable(f"the value given is {value}", unit=unit)
    return Estimate(value=float(value), unit=unit, method="given")
