"""Parts of the report: sections, and the charts, tables, facts, notes and gaps they consist of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from downslope.report.reading import Record, text
from downslope.report.run_data import RunData

MAX_ROWS = 60  # of a folded table
HEIGHT = 0.64  # of a chart, as a share of its width
NOT_RECORDED = "not examined: the journal holds no such record"


@dataclass(frozen=True, kw_only=True)
class CellTable:
    """Rows under a head.

    Attributes:
        head: what each column holds, with its unit.
        rows: numbers, words or None.
        note: what else a reader must know, such as how many rows were left out.
        caption: what the table shows.
    """

    kind: ClassVar[str] = "table"
    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture with its title, its message in one sentence, and its numbers."""

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    reading: str
    table: CellTable
    draw: Callable[[Any], None]
    height: float = HEIGHT


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A block that has nothing to show, with the reason in one line."""

    kind: ClassVar[str] = "gap"
    title: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Figures by name.

    Attributes:
        rows: (name, value in words, what else to know about it) each.
        is_large: shown as the page's chief figures.
    """

    kind: ClassVar[str] = "facts"
    rows: tuple[tuple[str, str, str], ...]
    title: str = ""
    is_large: bool = False


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Sentences under a heading.

    Attributes:
        items: (mark, first words, the sentence) each; the mark is a number, a severity, "code"
            or empty.
        note: what else a reader must know.
        is_folded: only shown when opened.
        is_broad: over the whole width of the page.
    """

    kind: ClassVar[str] = "notes"
    title: str
    items: tuple[tuple[str, str, str], ...]
    note: str = ""
    is_folded: bool = False
    is_broad: bool = True


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A confusion table: cells shaded by their share of the row.

    Attributes:
        reading: one sentence in plain words.
        names: of rows and columns.
        counts: rows of numbers.
        note: what else a reader must know.
    """

    kind: ClassVar[str] = "grid"
    title: str
    reading: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""

    @property
    def shades(self) -> tuple[tuple[int, ...], ...]:
        """Per cent of its row in each cell, in tens."""
        return tuple(
            tuple(round(10 * n / max(sum(row), 1)) * 10 for n in row) for row in self.counts
        )


Block = CellTable | Chart | Gap | Facts | Notes | Grid


@dataclass(frozen=True, kw_only=True)
class PageSection:
    """A part of the page: its name in links, heading, introduction and blocks in order."""

    name: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class SectionPlan:
    """Recipe for a section on a run.

    Attributes:
        title: its heading, such as "The noise"; in links, its last word.
        lead: one or two sentences of introduction, or what makes them of the run.
        blocks: what makes its blocks, in order; None stands for no block.
    """

    title: str
    lead: str | Callable[[RunData], str]
    blocks: tuple[Callable[[RunData], Block | None], ...]

    @property
    def name(self) -> str:
        """The name in links."""
        return self.title.split()[-1].lower()

    def section(self, run: RunData) -> PageSection:
        """The section on this run."""
        lead = self.lead if isinstance(self.lead, str) else self.lead(run)
        blocks = [block for make in self.blocks if (block := make(run)) is not None]
        return PageSection(name=self.name, title=self.title, lead=lead, blocks=tuple(blocks))


class Shown(NamedTuple):
    """The contents of a chart: message, numbers, drawing, height as a share of the width."""

    reading: str
    table: CellTable
    draw: Callable[[Any], None]
    height: float = HEIGHT


@dataclass(frozen=True, kw_only=True)
class ChartPlan:
    """Recipe for a chart on a run; called, it gives the chart, or a gap with the reason."""

    name: str
    title: str
    make: Callable[[RunData], Shown | str]

    def __call__(self, run: RunData) -> Chart | Gap:
        found = self.make(run)
        if isinstance(found, str):
            return Gap(title=self.title, reason=found)
        return Chart(name=self.name, title=self.title, **found._asdict())


def chart(name: str, title: str) -> Callable[[Callable[[RunData], Shown | str]], ChartPlan]:
    """Decorate a function that returns the contents of a chart, or why there are none.

    Args:
        name: unique on the page, lower case and hyphens.
    """
    return lambda make: ChartPlan(name=name, title=title, make=make)


def why_not(record: Record | None, reason: str = NOT_RECORDED) -> str:
    """The reason why a record that is absent, or holds only a reason, has nothing to show."""
    return text((record or {}).get("reason")) or reason


def thinned(
    head: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "", note: str = ""
) -> CellTable:
    """A table of at most 60 evenly spaced rows, first and last included; its note says so.

    Example:
        >>> table = thinned(["step"], [[i] for i in range(600)])
        >>> len(table.rows), table.rows[-1], table.note
        (60, (599,), '60 of 600 rows are shown, evenly spaced.')
    """
    count = len(rows)
    if count > MAX_ROWS:
        rows = [rows[round(i * (count - 1) / (MAX_ROWS - 1))] for i in range(MAX_ROWS)]
        note = f"{MAX_ROWS} of {count:,} rows are shown, evenly spaced. {note}".strip()
    return CellTable(head=tuple(head), rows=tuple(map(tuple, rows)), note=note, caption=caption)
