"""Result of a check: severity, one sentence with numbers, remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.metrics.intervals import wilson_interval

Severity = Literal["error", "warning", "note", "fine"]
SEVERITIES: tuple[str, ...] = get_args(Severity)  # the worst first
NAME_WIDTH = 40  # characters of a column's name that a sentence shows
NUM_NAMES = 3  # columns that a sentence names


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check made before training.

    Attributes:
        name: the check.
        severity: "fine"; "note", worth knowing; "warning", likely to spoil the result;
            "error", training would be meaningless.
        sentence: the result on one line, with numbers, units and intervals.
        remedy: what to do about it, or None.
        rows: which rows were examined, or None where that does not matter.
        values: the numbers behind the sentence, plain values for JSON.

    Raises:
        UsageError: a severity of another name.

    Example:
        >>> print(Finding(name="missing", severity="note", sentence="'age' lacks 62 % of its "
        ...               "values", remedy="see why they are missing", rows="all 500 rows"))
        note     missing      'age' lacks 62 % of its values [all 500 rows]; see why they
        are missing
    """

    name: str
    severity: Severity
    sentence: str
    remedy: str | None = None
    rows: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise UsageError(
                f"severity must be one of {', '.join(SEVERITIES)}; got {self.severity!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**dataclasses.asdict(self), "values": _plain(self.values)}

    def __str__(self) -> str:
        rows = f" [{self.rows}]" if self.rows else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.severity:<9}{self.name:<12} {self.sentence}{rows}{remedy}"


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, the worst first, in their own order where equally bad.

    Example:
        >>> fine = Finding(name="scale", severity="fine", sentence="-")
        >>> bad = Finding(name="leaks", severity="warning", sentence="-")
        >>> [found.name for found in by_severity([fine, bad])]
        ['leaks', 'scale']
    """
    return tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity)))


def shown(*names: str) -> str:
    r"""Names as a sentence shows them: quoted, on one line, shortened where long or many.

    Example:
        >>> print(shown("a", "two\nlines", "c", "d"))
        'a', 'two\nlines', 'c' and 1 more
    """
    quoted = [repr(str(name)) for name in names[:NUM_NAMES]]
    short = [q if len(q) <= NAME_WIDTH else f"{q[: NAME_WIDTH - 4]}...{q[-1]}" for q in quoted]
    more = f" and {len(names) - NUM_NAMES:,} more" if len(names) > NUM_NAMES else ""
    return ", ".join(short) + more


def counted(number: int, noun: str) -> str:
    """The number with its noun: "1 column", "2,000 columns"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def share(part: float, whole: float = 1.0) -> str:
    """A share in per cent, with as many digits as a reader needs.

    Example:
        >>> share(1, 3), share(0.00123), share(0)
        ('33 %', '0.12 %', '0 %')
    """
    percent = 100 * part / whole if whole else 0.0
    if 99.5 <= percent < 100:  # not "100 %" of what has exceptions
        return f"{percent:.4g} %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def share_of_rows(part: int, whole: int) -> Estimate:
    """A share of rows with its Wilson score interval."""
    lo, hi = wilson_interval(part / whole, whole)
    return Estimate(
        value=part / whole, lo=lo, hi=hi, unit="share of rows", num_examples=whole,
        method="Wilson score interval",
    )  # fmt: skip


def percent(of: Estimate) -> str:
    """An estimate of a share in per cent, with its interval where it has one."""
    return share(float(of)) if of.lo == of.hi else str(of.scaled(100.0, unit="%"))


def bare(of: Estimate) -> str:
    """An estimate with its interval and without its unit."""
    return str(dataclasses.replace(of, unit=""))


def _plain(value: Any) -> Any:
    """The value as JSON holds it: estimates become dictionaries, arrays become lists."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
