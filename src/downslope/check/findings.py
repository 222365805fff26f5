"""What every check gives back: how bad it is, one sentence with the numbers, what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from downslope.errors import UsageError
from downslope.estimate import Estimate

Severity = Literal["error", "warning", "note", "fine"]
SEVERITIES: tuple[str, ...] = get_args(Severity)  # the worst first
NAME_WIDTH = 40  # characters of a column's name that a sentence shows


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found before training began.

    Attributes:
        name: the check.
        severity: "fine"; "note", worth knowing; "warning", likely to spoil the result;
            "error", training would be meaningless.
        sentence: what was found, on one line, with numbers, units and intervals.
        remedy: what to do about it, or None.
        rows: which rows were looked at, or None where that does not matter.
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
        return {**dataclasses.asdict(self), "values": plain(self.values)}

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


def shown(names: Sequence[str], limit: int = 3) -> str:
    r"""Names as a sentence shows them: quoted, on one line, cut where long or many.

    Example:
        >>> print(shown(["a", "two\nlines", "c", "d"]))
        'a', 'two\nlines', 'c' and 1 more
    """
    quoted = [_cut(repr(str(name))) for name in names[:limit]]
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(quoted) + more


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


def plain(value: Any) -> Any:
    """The value as what JSON holds: measurements become dictionaries, arrays become lists."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= NAME_WIDTH else f"{text[: NAME_WIDTH - 4]}...{text[-1]}"
