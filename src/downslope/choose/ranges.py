"""A number that a decision rests on or predicts, with its range, or why there is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Range:
    """One number with the ends of its 95 % interval, or the reason why it has no value.

    Attributes:
        value: the number, or None.
        lo, hi: ends of the interval; None where nothing tells them, or where there is no end.
        unit: unit of all three.
        reason: why there is no value; None when there is one.

    Example:
        >>> print(Range(value=224.0, lo=180.0, hi=260.0, unit="examples"))
        224 (180 to 260) examples
        >>> print(Range(value=0.0185, lo=0.017, unit="s"))
        18.5 (at least 17) ms
        >>> print(Range(value=None, unit="s", reason="no step was timed"))
        not estimable: no step was timed
    """

    value: float | None
    lo: float | None = None
    hi: float | None = None
    unit: str
    reason: str | None = None

    def __post_init__(self):
        if (self.value is None) == (self.reason is None):
            raise ValueError("a range has either a value or a reason")
        for number in (self.value, self.lo, self.hi):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a range is finite; got {number}")

    def to_json(self) -> dict[str, Any]:
        """The fields as a plain dictionary; what is missing is null."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return f"not estimable: {self.reason}"
        size, unit = _readable(self.value) if self.unit == "s" else (1.0, self.unit)
        value, lo, hi = (
            None if each is None else short(each / size) for each in (self.value, self.lo, self.hi)
        )
        ends = ""
        if lo is not None and hi is not None:
            ends = f" ({lo} to {hi})"
        elif lo is not None or hi is not None:
            ends = f" (at least {lo})" if hi is None else f" (at most {hi})"
        return f"{value}{ends}{' ' + unit if unit else ''}"


def percentiles(drawn: Sequence[float]) -> tuple[float, float]:
    """The 2.5 % and 97.5 % points of resampled numbers, between neighbours in proportion.

    Example:
        >>> percentiles(range(201))
        (5.0, 195.0)
    """
    ordered = sorted(drawn)
    ends = []
    for share in (0.025, 0.975):
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        ends.append(ordered[below] + (place - below) * (ordered[above] - ordered[below]))
    return ends[0], ends[1]


def short(number: float) -> str:
    """A number in three digits, thousands apart.

    Example:
        >>> short(12345.6), short(0.0012345)
        ('12,346', '0.00123')
    """
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"


def spoken(seconds: float) -> str:
    """Seconds in the unit that a person would take.

    Example:
        >>> spoken(0), spoken(2.5e-5), spoken(0.0063), spoken(12.34), spoken(5400), spoken(2e5)
        ('0 s', '25 us', '6.3 ms', '12.3 s', '90 min', '55.6 h')
    """
    size, unit = _readable(seconds)
    return f"{short(seconds / size)} {unit}"


def _readable(seconds: float) -> tuple[float, str]:
    """The unit in which so many seconds are a plain number, and its seconds."""
    for least, size, unit in (
        (7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"),
        (1e-7, 1e-6, "us"),
    ):  # fmt: skip
        if seconds >= least:
            return size, unit
    return 1.0, "s"
