"""Intervals: of a value with a standard error, by the jackknife, and of a ratio of means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.arrays import TOO_LARGE, Floats

EQUAL = 1e-13  # assumed: a relative spread below this is the rounding of equal terms
LARGE_BIAS = 0.02  # relative change by the correction that is flagged


def jackknife_error(without: Floats) -> float:
    """Jackknife standard error sqrt((n-1)/n sum (t_(i) - mean)^2) of the n delete-one values.

    Source: Tukey 1958; Efron and Stein 1981.
    """
    n = len(without)
    return math.sqrt((n - 1) / n * float(np.sum((without - without.mean()) ** 2)))


def linear_interval(value: float, error: float, freedom: float) -> tuple[float, float]:
    """Interval value -+ t * error."""
    reach = t_quantile(freedom) * error
    return value - reach, value + reach


def log_interval(value: float, error: float, freedom: float) -> tuple[float, float]:
    """Interval of a positive quantity whose logarithm has the standard error `error`."""
    factor = math.exp(min(t_quantile(freedom) * error, 700.0))  # beyond it doubles overflow
    return value / factor, value * factor


def measured(
    value: float, interval: tuple[float, float] | None = None, *, unit: str, **fields: Any
) -> Estimate:
    """An estimate, or "not estimable" if the value is not finite; such ends are left out."""
    if not math.isfinite(value):
        fields.pop("flags", None)
        return not_estimable(TOO_LARGE, unit=unit, **fields)
    lo, hi = interval if interval and all(map(math.isfinite, interval)) else (None, None)
    return Estimate(value=float(value), lo=lo, hi=hi, unit=unit, **fields)


def monotone(
    found: Estimate, formula: Callable[[float], float], *, unit: str, falling: bool = False
) -> Estimate:
    """A monotone function of an estimate: the ends of its interval are mapped like its value."""
    value, lo, hi = (None if x is None else formula(x) for x in (found.value, found.lo, found.hi))
    if falling:
        lo, hi = hi, lo
    return dataclasses.replace(found, value=value, lo=lo, hi=hi, unit=unit)


def as_estimate(value: float | Estimate, *, unit: str) -> Estimate:
    """An estimate without an interval from a number; an estimate unchanged."""
    if isinstance(value, Estimate):
        return value
    if not math.isfinite(value):
        return not_estimable(f"the value given is {value}", unit=unit)
    return Estimate(value=float(value), unit=unit, method="given")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Numerator or denominator of a ratio: an estimate, its standard error and 95 % interval."""

    value: float
    error: float
    lo: float
    hi: float


def plain_part(value: float, error: float, freedom: float) -> Part:
    """Part with the interval value -+ t * error, which may reach below zero."""
    lo, hi = linear_interval(value, error, freedom)
    return Part(value=value, error=error, lo=lo, hi=hi)


def positive_part(value: float, error: float, freedom: float) -> Part:
    """Part known to be positive, with an interval that is symmetric in the logarithm."""
    if value <= 0:
        return plain_part(value, error, freedom)
    factor = math.exp(min(t_quantile(freedom) * error / value, 700.0))
    return Part(value=value, error=error, lo=value / factor, hi=value * factor)


def jackknife_means(terms: Floats) -> tuple[Floats, Floats]:
    """Means of several rows of terms [p, K], and their delete-one jackknife covariance [p, p].

    With m_i the means without term i, K >= 2, it is (K - 1)/K sum_i (m_i - mean m)(m_i - mean m)^T.

    Source: Efron and Stein (1981), The jackknife estimate of variance, equation 1.3.
    """
    num_terms = terms.shape[1]
    means = terms @ np.ones(num_terms) / num_terms
    # mean without i, less the mean: centred before it is squared
    shifts = -(terms - means[:, None]) * (1 / (num_terms - 1))
    shifts = shifts - shifts.mean(axis=1, keepdims=True)
    return means, (num_terms - 1) / num_terms * (shifts @ shifts.T)


def ratio(
    top: Part,
    bottom: Part,
    *,
    covariance: float = 0.0,
    denominator: str = "the denominator",
    **fields: Any,
) -> Estimate:
    """Ratio top / bottom, with the interval that follows from the intervals of both.

    On the log scale, with x = log top and y = log bottom, the ends are x - y -+ reach, where
    reach^2 = a^2 + b^2 - 2 rho a b, and a and b are the distances from x and y to the relevant
    ends of their intervals. To first order this is the jackknife of the logarithm; near the limit
    of resolution it is wider: at a relative error of 0.4 in the denominator it covered 95 to 98 %,
    the jackknife of the logarithm 91 to 93 %. If the numerator's interval includes 0, Fieller's
    interval is used.

    The plain ratio is too high by about the relative variance of the denominator. Beale's factor
    (1 + cov/(top bottom)) / (1 + error^2/bottom^2) removes that to first order; a flag reports a
    change by more than 2 %.

    Returns:
        Unresolved, with a lower bound, where the denominator's interval includes 0.

    Source: Zou and Donner (2008), Construction of confidence limits about effect measures, for
    the join; Fieller (1954) for a numerator of either sign; Tin (1965), Comparison of some ratio
    estimators, for Beale's factor.
    """
    if bottom.hi <= 0:
        return not_estimable(f"{denominator} is estimated at or below 0", **fields)
    if bottom.lo <= 0 or bottom.value <= 0:
        reason = f"{denominator} cannot be told from 0"
        if top.lo <= 0:
            return not_estimable(reason, **fields)
        return Estimate(value=None, lo=top.lo / bottom.hi, reason=reason, **fields)
    plain = top.value / bottom.value
    value = (plain + covariance / bottom.value**2) / (1 + (bottom.error / bottom.value) ** 2)
    if _no_spread(top) and _no_spread(bottom):
        return Estimate(value=value, flags=("all terms are equal: no interval",), **fields)
    lo, hi = (_log_ends if top.lo > 0 else _fieller_ends)(top, bottom, covariance)
    lo, hi = min(lo, value), max(hi, value)
    change = abs(value / plain - 1) if top.lo > 0 else 0.0  # no percentage of what may be 0
    flags = (f"corrected by {change:.0%} for the bias of a ratio",) if change > LARGE_BIAS else ()
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return Estimate(value=value, flags=(*flags, "too few terms for an interval"), **fields)
    return Estimate(value=value, lo=lo, hi=hi, flags=flags, **fields)


def _no_spread(part: Part) -> bool:
    return part.error <= EQUAL * abs(part.value)


def _log_ends(top: Part, bottom: Part, covariance: float) -> tuple[float, float]:
    errors = top.error * bottom.error
    rho = min(max(covariance / errors, -1.0), 1.0) if errors > 0 else 0.0
    value = top.value / bottom.value

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * rho * a * b, 0.0))

    down = reach(math.log(top.value / top.lo), math.log(bottom.hi / bottom.value))
    up = reach(math.log(top.hi / top.value), math.log(bottom.value / bottom.lo))
    return value * math.exp(-down), value * math.exp(up) if up < 700 else math.inf


def _fieller_ends(top: Part, bottom: Part, covariance: float) -> tuple[float, float]:
    """Ends of the set of ratios v for which top - v bottom lies within its error of 0."""
    t = (bottom.hi - bottom.value) / bottom.error if bottom.error > 0 else 1.96
    if top.error > 0:
        t = (top.hi - top.value) / top.error
    a = bottom.value**2 - (t * bottom.error) ** 2
    half = top.value * bottom.value - t * t * covariance
    c = top.value**2 - (t * top.error) ** 2
    root = math.sqrt(max(half * half - a * c, 0.0))
    if a <= 0:
        return -math.inf, math.inf
    return (half - root) / a, (half + root) / a
