"""Findings of a benchmark, and the table for the README."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.timing import Ratio, Samples


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        ours: downslope's figure with its unit.
        peer: the package it is compared with, and its figure.
        ratio: the figure that the bar applies to.
        bar: the bar in words.
        met: whether it is met; None without a bar.
    """

    what: str
    ours: str
    peer: str = ""
    ratio: Ratio | float | str = ""
    bar: str = ""
    met: bool | None = None


@dataclass(kw_only=True)
class Findings:
    """Findings of one benchmark: rows of the table, remarks, and every sample in seconds."""

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
