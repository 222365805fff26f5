"""A number with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One measured quantity with its 95 % interval, or the reason why it has no value.

    Three kinds, told apart by `value` and `reason`:

    - measured: `value` is finite; `lo` and `hi` are None where the data do not give an interval.
    - unresolved: no `value`, but a bound: `lo` (at least) or `hi` (at most), with a `reason`.
    - not estimable: neither value nor bounds, with a `reason`.

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
        """Whether there is a value."""
        return self.value is not None

    def flagged(self, *flags: str) -> Estimate:
        """The same with more flags."""
        return dataclasses.replace(self, flags=(*self.flags, *flags))

    def to_json(self) -> dict[str, Any]:
        """The fields as a plain dictionary; what is missing is null."""
        return {**dataclasses.asdict(self), "flags": list(self.flags)}

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.value is not None:
            if self.lo is None or self.hi is None:
                return f"{_short(self.value)}{unit}"
            return f"{_short(self.value)} ({_short(self.lo)} to {_short(self.hi)}){unit}"
        if self.lo is not None:
            return f"at least {_short(self.lo)}{unit} ({self.reason})"
        if self.hi is not None:
            return f"at most {_short(self.hi)}{unit} ({self.reason})"
        return f"not estimable: {self.reason}"


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


def _short(number: float) -> str:
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"
