"""A number with its uncertainty, and the interval formulas behind it.

Everything here is floats in, floats out. An interval that cannot be estimated is
`None`, never a guess: with one example, or when every value is the same, the data
say nothing about the spread.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
Interval = tuple[float | None, float | None]
NO_INTERVAL: Interval = (None, None)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One measured number with its 95 % interval.

    Args:
        value: the estimate, always finite.
        lo, hi: ends of the 95 % interval; both None where it cannot be estimated.
        num_examples: rows of positive weight behind it.
        unit: unit of value, lo and hi.
        method: how the value and the interval were found.
        note: what else a reader should know, or None.

    >>> accuracy = Estimate(value=0.972, lo=0.961, hi=0.981, num_examples=1000,
    ...                     unit="share of examples", method="Wilson score interval")
    >>> str(accuracy)
    '0.972 (0.961 to 0.981)'
    """

    value: float
    lo: float | None
    hi: float | None
    num_examples: int
    unit: str
    method: str
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as a plain dictionary; a missing interval is null."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        if self.lo is None or self.hi is None:
            return f"{self.value:.4g}"
        style = _style((self.hi - self.lo) / 2)
        return f"{self.value:{style}} ({self.lo:{style}} to {self.hi:{style}})"


class Results(dict[str, Estimate]):
    """Estimates by metric name; `.reasons` says by name why others are missing.

    `.losses` holds what is minimised for every held-out row [n], where an evaluation left it:
    two evaluations of the same rows differ by much less than either is uncertain.

    >>> results = Results({"auc": "only class 1 is present"})
    >>> results.get("auc"), results.reasons["auc"]
    (None, 'only class 1 is present')
    >>> print(results)
    auc: not estimable, only class 1 is present
    """

    def __init__(self, found: Mapping[str, Estimate | str]):
        """Splits what was found into estimates and reasons (the strings)."""
        super().__init__({k: v for k, v in found.items() if isinstance(v, Estimate)})
        self.reasons = {k: v for k, v in found.items() if isinstance(v, str)}
        self.losses: Any = None

    def __str__(self) -> str:
        lines = [f"{name}: {found}, {found.unit}" for name, found in self.items()]
        lines += [f"{name}: not estimable, {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines)


def t_quantile(freedom: float) -> float:
    """97.5 % point of Student's t for `freedom` > 0 degrees of freedom, fractions allowed.

    Expansion in 1/freedom (Abramowitz and Stegun 1964, equation 26.7.5). It is low by 11 % at
    1 degree of freedom, by 0.8 % at 2 and by less than 0.2 % from 3 on.

    >>> round(t_quantile(10), 3)
    2.228
    """
    z, d = Z95, freedom
    return (
        z
        + (z**3 + z) / (4 * d)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * d**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * d**4)
    )


def mean_interval(value: float, error: float, freedom: float, low: float = -math.inf) -> Interval:
    """value -+ t * error, cut at `low`, the least value the quantity can have.

    Args:
        error: standard error of value; zero (no spread was seen) gives no interval.
        freedom: degrees of freedom, effective sample size - 1.
    """
    if not _usable(error, freedom):
        return NO_INTERVAL
    reach = t_quantile(freedom) * error
    return _finite(max(value - reach, low), value + reach)


def log_interval(value: float, error: float, freedom: float) -> Interval:
    """The delta-method interval of a positive quantity, symmetric in its logarithm.

    The standard error of log(value) is error / value, to first order. In simulation this covered
    closer to 95 % than value -+ t * error for root mean square errors and for ratios of variances,
    and it cannot go below zero.
    """
    if value <= 0 or not _usable(error, freedom):
        return NO_INTERVAL
    reach = t_quantile(freedom) * error / value
    return _finite(value * _exp(-reach), value * _exp(reach))


def logit_interval(value: float, error: float, freedom: float) -> Interval:
    """The delta-method interval of a quantity between 0 and 1, symmetric in its log odds.

    The standard error of log(v / (1 - v)) is error / (v (1 - v)), to first order.
    """
    if not 0 < value < 1 or not _usable(error, freedom):
        return NO_INTERVAL
    odds, reach = value / (1 - value), t_quantile(freedom) * error / (value * (1 - value))
    low, high = odds * _exp(-reach), _exp(-reach) / odds  # the second: odds of 1 - v
    return low / (1 + low), 1 / (1 + high)


def wilson_interval(share: float, num_effective: float) -> Interval:
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


def _finite(low: float, high: float) -> Interval:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else NO_INTERVAL


def _style(half_width: float) -> str:
    """Format that shows the interval's half-width to two significant digits."""
    if half_width <= 0:
        return ".4g"
    decimals = 1 - math.floor(math.log10(half_width) + 1e-9)
    return f".{max(decimals, 0)}f" if -7 < decimals < 9 else ".4g"
