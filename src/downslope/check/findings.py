"""Result of a check: severity, one sentence with numbers, remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from downslope.arguments import one_of
from downslope.estimate import Estimate, as_json, percent
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
        one_of("severity", self.severity, SEVERITIES)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**dataclasses.asdict(self), "values": as_json(self.values)}

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


def share_of_rows(part: int, whole: int, *, are_all: bool = False) -> Estimate:
    """A share of rows with its Wilson score interval, or exact where these are all rows."""
    lo, hi = (part / whole,) * 2 if are_all else wilson_interval(part / whole, whole)
    return Estimate(
        value=part / whole, lo=lo, hi=hi, unit="share of rows", num_examples=whole,
        method="all rows counted" if are_all else "Wilson score interval",
    )  # fmt: skip


def in_percent(share: Estimate) -> str:
    """An estimate of a share in per cent, with its interval where it has one."""
    return percent(float(share)) if share.lo == share.hi else str(share.scaled(100.0, unit="%"))


def bare(of: Estimate) -> str:
    """An estimate with its interval and without its unit."""
    return str(dataclasses.replace(of, unit=""))
