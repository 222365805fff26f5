"""A number with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
SMALLEST = 5e-324  # of the doubles above 0
LARGEST = 1e308  # the same: a width may overflow where its ends do not
# Seconds are shown in the largest of these units that they reach, as (least seconds, size, name).
_TIMES = (
    (7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"),
    (1e-7, 1e-6, "µs"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One measured quantity with its 95 % interval, or the reason why it has no value.

    There are three kinds, distinguished by `value` and `reason`:

    - measured: `value` is finite; `lo` and `hi` are None where the data do not give an interval.
    - unresolved: no `value`, but a bound: `lo` (at least) or `hi` (at most), with a `reason`.
    - not estimable: neither value nor bounds, with a `reason`.

    Printed, value and interval have as many decimals as show two significant digits of the
    interval's half-width; `float` gives the value, or raises ValueError with the reason.

    Attributes:
        value: the estimate, or None.
        lo, hi: ends of the 95 % interval, in the unit of value.
        unit: unit of value, lo and hi.
        num_examples: examples behind it, or None where examples are not what was counted.
        num_steps: steps (or pairs of batches) behind it, or None.
        method: how the value and the interval were found.
        flags: what else a reader must know, one sentence each.
        reason: why there is no value; None when there is one.

    Example:
        >>> print(Estimate(value=44.9, lo=38.2, hi=52.9, unit="examples", num_examples=500,
        ...                   method="per-example gradients"))
        44.9 (38.2 to 52.9) examples
        >>> print(Estimate(value=0.01851, lo=0.01702, hi=0.0205, unit="s"))
        18.5 (17.0 to 20.5) ms
        >>> print(not_estimable("one example has no variance", unit="examples"))
        not estimable: one example has no variance
    """

    value: float | None
    lo: float | None = None
    hi: float | None = None
    unit: str
    num_examples: int | None = None
    num_steps: int | None = None
    method: str = ""
    flags: tuple[str, ...] = ()
    reason: str | None = None

    def __post_init__(self):
        if (self.value is None) == (self.reason is None):
            raise ValueError("an estimate has either a value or a reason")
        for number in (self.value, self.lo, self.hi):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"an estimate is finite; got {number}")

    @property
    def is_measured(self) -> bool:
        """True if there is a value."""
        return self.value is not None

    @property
    def is_bounded(self) -> bool:
        """True if there is a value or a bound."""
        return not self.value is self.lo is self.hi is None

    def flagged(self, *flags: str) -> Estimate:
        """The same with more flags."""
        return dataclasses.replace(self, flags=(*self.flags, *flags))

    def scaled(self, factor: float, *, unit: str) -> Estimate:
        """The value and its interval times a factor of 0 or more, in another unit."""
        ends = (self.value, self.lo, self.hi)
        value, lo, hi = (None if end is None else end * factor for end in ends)
        return dataclasses.replace(self, value=value, lo=lo, hi=hi, unit=unit)

    def to_json(self) -> dict[str, Any]:
        """The fields as a plain dictionary; what is missing is null."""
        return {**dataclasses.asdict(self), "flags": list(self.flags)}

    @classmethod
    def from_json(cls, found: Any) -> Estimate:
        """The inverse of `to_json`; fields that are missing or malformed are left out.

        Older files hold one `note` in place of `flags`.

        Example:
            >>> Estimate.from_json({"value": 0.5, "lo": None, "hi": "x", "unit": "nats"}).lo
            >>> print(Estimate.from_json({"lo": 310.0, "unit": "examples"}))
            at least 310 examples (only a bound is known)
        """
        found = found if isinstance(found, Mapping) else {}
        value, lo, hi = (_finite(found.get(name)) for name in ("value", "lo", "hi"))
        flags = found.get("flags")
        flags = flags if isinstance(flags, (list, tuple)) else [found.get("note")]
        why = _text(found.get("reason")) or (
            "not measured" if lo is hi is None else "only a bound is known"
        )
        return cls(
            value=value, lo=lo, hi=hi, unit=_text(found.get("unit")),
            num_examples=_count(found.get("num_examples")),
            num_steps=_count(found.get("num_steps")), method=_text(found.get("method")),
            flags=tuple(flag for flag in flags if isinstance(flag, str)),
            reason=why if value is None else None,
        )  # fmt: skip

    def __float__(self) -> float:
        if self.value is None:
            raise ValueError(str(self))
        return float(self.value)

    def __str__(self) -> str:
        if not self.is_bounded:
            return f"not estimable: {self.reason}"
        size, unit = 1.0, self.unit
        if unit == "s":
            largest = max(abs(end) for end in (self.value, self.lo, self.hi) if end is not None)
            size, unit = time_unit(abs(self.value) if self.value is not None else largest)
        value, lo, hi = (
            None if number is None else number / size for number in (self.value, self.lo, self.hi)
        )
        unit = f" {unit}" if unit else ""
        if value is None:
            bound = f"at most {short(hi or 0.0)}" if lo is None else f"at least {short(lo)}"
            return f"{bound}{unit} ({self.reason})"
        if lo is not None and hi is not None and lo < hi:
            value, lo, hi = in_digits((value, lo, hi), hi / 2 - lo / 2)
            return f"{value} ({lo} to {hi}){unit}"
        ends = "" if lo is None or lo == hi else f" (at least {short(lo)})"
        ends = ends if hi is None or lo is not None else f" (at most {short(hi)})"
        return f"{short(value)}{ends}{unit}"


def not_estimable(
    reason: str,
    *,
    unit: str,
    num_examples: int | None = None,
    num_steps: int | None = None,
    method: str = "",
) -> Estimate:
    """The estimate that has neither value nor bounds, with the reason."""
    return Estimate(
        value=None,
        unit=unit,
        num_examples=num_examples,
        num_steps=num_steps,
        method=method,
        reason=reason,
    )


def as_json(value: Any) -> Any:
    """A value as JSON holds it: estimates, arrays and tuples unfolded, numbers not finite as None.

    Example:
        >>> as_json({"shares": (0.5, float("nan")), 3: not_estimable("no rows", unit="")})
        {'shares': [0.5, None], '3': {'value': None, ...}}
    """
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    if hasattr(value, "tolist"):  # arrays and numbers of NumPy
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def t_quantile(freedom: float) -> float:
    """97.5 % point of Student's t: the number of standard errors in half a 95 % interval.

    Args:
        freedom: degrees of freedom above 0, fractions and infinity allowed.

    Example:
        >>> round(t_quantile(9), 4), round(t_quantile(math.inf), 4)
        (2.2622, 1.96)
    """
    from scipy.special import stdtrit  # takes longer to import than all else here

    return float(stdtrit(freedom, 0.975))


def short(number: float) -> str:
    """A number without an interval: three digits, thousands apart.

    Example:
        >>> short(12345.6), short(0.0012345), short(3.0)
        ('12,346', '0.00123', '3')
    """
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"


def spoken(seconds: float) -> str:
    """A time without an interval, in a readable unit.

    Example:
        >>> spoken(0), spoken(2.5e-5), spoken(0.0063), spoken(12.34), spoken(5400), spoken(2e5)
        ('0 s', '25 µs', '6.3 ms', '12.3 s', '90 min', '55.6 h')
    """
    size, unit = time_unit(seconds)
    return f"{short(seconds / size)} {unit}"


def percent(share: float) -> str:
    """A share without an interval, in per cent: two digits, or those that tell it from 100 %.

    Example:
        >>> percent(0.4337), percent(0.0021), percent(0.0), percent(0.99964)
        ('43 %', '0.21 %', '0 %', '99.96 %')
    """
    found = 100 * share
    if 99.5 <= found < 100:
        return f"{found:.4g} %"
    return f"{found:.0f} %" if found == 0 or abs(found) >= 10 else f"{found:.2g} %"


def counted(count: float, noun: str, plural: str = "") -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "step"), counted(2538, "step"), counted(3, "class", "classes")
        ('1 step', '2,538 steps', '3 classes')
    """
    return f"{count:,.0f} {noun if count == 1 else plural or noun + 's'}"


def bytes_in_words(size: float) -> str:
    """A size in memory, in a readable unit.

    Example:
        >>> bytes_in_words(1536), bytes_in_words(3 << 30), bytes_in_words(12)
        ('1.5 KiB', '3 GiB', '12 B')
    """
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= step:
            return f"{short(size / step)} {unit}"
    return f"{size:.0f} B"


def in_digits(numbers: tuple[float, ...], half_width: float) -> tuple[str, ...]:
    """The numbers to two significant digits of a half-width.

    Example:
        >>> in_digits((0.97213, 0.9612, 0.98131), 0.01)
        ('0.972', '0.961', '0.981')
        >>> in_digits((12345.6, 0.0), 350), in_digits((2.13e-11,), 1e-11)
        (('12,346', '0'), ('2.1e-11',))
    """
    half_width = min(max(half_width, SMALLEST), LARGEST)
    decimals = 1 - math.floor(math.log10(half_width) + 1e-9)
    if -6 < decimals < 9 and max(map(abs, numbers)) < 1e12:
        shown = [f"{number:,.{max(decimals, 0)}f}" for number in numbers]
        return tuple(s.removeprefix("-") if float(s.replace(",", "")) == 0 else s for s in shown)
    return tuple(_scientific(number, decimals) for number in numbers)


def _scientific(number: float, decimals: int) -> str:
    if number == 0:
        return "0"
    if math.isinf(number):  # in the smaller unit that is shown
        return f"{number}"
    digits = decimals + math.floor(math.log10(abs(number)))
    return f"{number:.{min(max(digits, 0), 16)}e}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which a time is a plain number, as its seconds and its name.

    Example:
        >>> time_unit(0.0185), time_unit(5400), time_unit(0)
        ((0.001, 'ms'), (60.0, 'min'), (1.0, 's'))
    """
    found = (unit for least, *unit in _TIMES if seconds >= least)
    size, name = next(found, (1.0, "s"))
    return float(size), str(name)


def _finite(value: Any) -> float | None:
    """The value as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the range of doubles
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
