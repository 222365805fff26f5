"""Formulas of 95 % intervals: floats in, floats out.

An interval that cannot be estimated is `(None, None)`, never a guess: with one example, or
when every value is the same, the data say nothing about the spread.
"""

from __future__ import annotations

import math

from downslope.estimate import Z95, t_quantile

Ends = tuple[float | None, float | None]
NO_INTERVAL: Ends = (None, None)


def mean_interval(value: float, error: float, freedom: float, low: float = -math.inf) -> Ends:
    """value -+ t * error, cut at `low`, the least value the quantity can have.

    Args:
        error: standard error of value; zero (no spread was seen) gives no interval.
        freedom: degrees of freedom, effective sample size - 1.
    """
    if not _usable(error, freedom):
        return NO_INTERVAL
    reach = t_quantile(freedom) * error
    return _finite(max(value - reach, low), value + reach)


def log_interval(value: float, error: float, freedom: float) -> Ends:
    """The delta-method interval of a positive quantity, symmetric in its logarithm.

    The standard error of log(value) is error / value, to first order. In simulation this covered
    closer to 95 % than value -+ t * error for root mean square errors and for ratios of variances,
    and it cannot go below zero.
    """
    if value <= 0 or not _usable(error, freedom):
        return NO_INTERVAL
    reach = t_quantile(freedom) * error / value
    return _finite(value * _exp(-reach), value * _exp(reach))


def logit_interval(value: float, error: float, freedom: float) -> Ends:
    """The delta-method interval of a quantity between 0 and 1, symmetric in its log odds.

    The standard error of log(v / (1 - v)) is error / (v (1 - v)), to first order.
    """
    if not 0 < value < 1 or not _usable(error, freedom):
        return NO_INTERVAL
    odds, reach = value / (1 - value), t_quantile(freedom) * error / (value * (1 - value))
    low, high = odds * _exp(-reach), _exp(-reach) / odds  # the second: odds of 1 - v
    return low / (1 + low), 1 / (1 + high)


def wilson_interval(share: float, num_effective: float) -> Ends:
    """Score interval of a proportion (Wilson 1927, equation 5 ff.), none for one example.

    It stays inside 0 to 1 and keeps a width at 0 and 1, where share -+ z * error has none.

    >>> tuple(round(end, 4) for end in wilson_interval(0.9, 100))
    (0.8256, 0.9448)
    """
    if num_effective <= 1 + 1e-9:
        return NO_INTERVAL
    n, z2 = num_effective, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # at the ends of the range the formula gives exactly 0 and 1, but for rounding
    return max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share))


def _usable(error: float, freedom: float) -> bool:
    return math.isfinite(error) and error > 0 and freedom > 1e-9


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf  # math.exp raises where the double overflows


def _finite(low: float, high: float) -> Ends:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else NO_INTERVAL
