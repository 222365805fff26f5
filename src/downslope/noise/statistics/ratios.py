"""Interval of a ratio of means whose denominator may be indistinguishable from zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.estimate import Estimate, not_estimable, t_quantile

EQUAL = 1e-13  # assumed: a relative spread below this is the rounding of equal terms
LARGE_BIAS = 0.02  # relative change by the correction that is flagged


@dataclass(frozen=True, kw_only=True)
class Part:
    """Numerator or denominator of a ratio: an estimate, its standard error and 95 % interval."""

    value: float
    error: float
    lo: float
    hi: float


def plain_part(value: float, error: float, freedom: float) -> Part:
    """Part with the interval value -+ t * error, which may reach below zero."""
    reach = t_quantile(freedom) * error
    return Part(value=value, error=error, lo=value - reach, hi=value + reach)


def positive_part(value: float, error: float, freedom: float) -> Part:
    """Part known to be positive, with an interval that is symmetric in the logarithm."""
    if value <= 0:
        return plain_part(value, error, freedom)
    factor = math.exp(min(t_quantile(freedom) * error / value, 700.0))
    return Part(value=value, error=error, lo=value / factor, hi=value * factor)


def jackknife_means(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of several rows of terms [p, K], and their delete-one jackknife covariance [p, p].

    With m_i the means without term i, K >= 2, it is (K - 1)/K sum_i (m_i - mean m)(m_i - mean m)^T.

    Example:
        >>> means, covariance = jackknife_means(np.array([[1.0, 2.0, 3.0, 4.0]]))
        >>> means.tolist(), round(float(covariance[0, 0]), 4)
        ([2.5], 0.4167)

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
    unit: str,
    denominator: str = "the denominator",
    method: str = "",
    num_examples: int | None = None,
    num_steps: int | None = None,
) -> Estimate:
    """Ratio top / bottom, with the interval that follows from the intervals of both.

    On the log scale, with x = log top and y = log bottom, the ends are x - y -+ reach, where
    reach^2 = a^2 + b^2 - 2 rho a b, and a and b are the distances from x and y to the relevant
    ends of their intervals. To first order this is the jackknife of the logarithm; near the limit
    of resolution, where an end of the denominator's interval comes close to 0, it is wider: at a
    relative error of 0.4 in the denominator it covered 95 to 98 %, the jackknife of the logarithm
    91 to 93 %, and both 94 to 96 % at 0.2 and below. If the numerator's interval includes 0,
    Fieller's interval is used.

    The plain ratio is too high by about the relative variance of the denominator. Beale's factor
    (1 + cov/(top bottom)) / (1 + error^2/bottom^2) removes that to first order: at a relative
    error of 0.24 in the denominator, a bias of +7 % became -1 %. A flag reports a change of the
    value by more than 2 %. The interval needs no such factor.

    Returns:
        Unresolved, with a lower bound, where the denominator's interval includes 0.

    Source: Zou and Donner (2008), Construction of confidence limits about effect measures, for
    the join; Fieller (1954) for a numerator of either sign; Tin (1965), Comparison of some ratio
    estimators, for Beale's factor.
    """
    named: dict[str, Any] = dict(
        unit=unit, method=method, num_examples=num_examples, num_steps=num_steps
    )
    if bottom.hi <= 0:
        return not_estimable(f"{denominator} is estimated at or below 0", **named)
    if bottom.lo <= 0 or bottom.value <= 0:
        reason = f"{denominator} cannot be told from 0"
        if top.lo <= 0:
            return not_estimable(reason, **named)
        return Estimate(value=None, lo=top.lo / bottom.hi, reason=reason, **named)
    plain = top.value / bottom.value
    value = (plain + covariance / bottom.value**2) / (1 + (bottom.error / bottom.value) ** 2)
    if _no_spread(top) and _no_spread(bottom):
        return Estimate(value=value, flags=("all terms are equal: no interval",), **named)
    lo, hi = (_log_ends if top.lo > 0 else _fieller_ends)(top, bottom, covariance)
    lo, hi = min(lo, value), max(hi, value)
    change = abs(value / plain - 1) if top.lo > 0 else 0.0  # no percentage of what may be 0
    flags = (f"corrected by {change:.0%} for the bias of a ratio",) if change > LARGE_BIAS else ()
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return Estimate(value=value, flags=(*flags, "too few terms for an interval"), **named)
    return Estimate(value=value, lo=lo, hi=hi, flags=flags, **named)


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
