"""What a benchmark found, and the table that goes into the README."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.timing import Ratio, Samples


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        ours: downslope's figure with its unit.
        peer: who it is compared with, and their figure.
        ratio: the figure that the bar is about.
        bar: the bar in words.
        met: it is met; None where there is no bar.
    """

    what: str
    ours: str
    peer: str = ""
    ratio: Ratio | float | str = ""
    bar: str = ""
    met: bool | None = None


@dataclass(kw_only=True)
class Findings:
    """What one benchmark found: rows of the table, remarks, and every sample in seconds."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)


HEADINGS = ("Measured", "downslope", "beside it", "ratio", "bar", "met")


def markdown(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    return "\n".join(lines + [_line(row) for row in rows])


def _line(row: Row) -> str:
    number = f"{row.ratio:.3g}" if isinstance(row.ratio, float) else str(row.ratio)
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    return f"| {row.what} | {row.ours} | {row.peer} | {number} | {row.bar} | {met} |"
