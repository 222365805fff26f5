"""What a section of the report is made of: charts, tables, figures in words, gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

MOST_ROWS = 60  # of a folded table


@dataclass(frozen=True, kw_only=True)
class Table:
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
    """A picture with its title, what it says in one sentence, and its numbers.

    Attributes:
        name: unique on the page, lower case and hyphens.
        title: what is shown.
        reading: one sentence in plain words.
        table: its numbers.
        draw: puts it on matplotlib's axes.
        height: of the picture, as a share of its width.
    """

    kind: ClassVar[str] = "chart"
    name: str
    title: str
    reading: str
    table: Table
    draw: Callable[[Any], None]
    height: float = 0.64


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What there is nothing to show of.

    Attributes:
        title: what it would be.
        reason: why it is not there, one line.
    """

    kind: ClassVar[str] = "gap"
    title: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Figures by their names.

    Attributes:
        rows: (name, value in words, what else to know about it) each.
        title: over them, or empty.
        is_large: shown as the page's chief figures.
    """

    kind: ClassVar[str] = "facts"
    rows: tuple[tuple[str, str, str], ...]
    title: str = ""
    is_large: bool = False


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Sentences under a heading, numbered or not.

    Attributes:
        title: over them.
        items: (mark, first words, the sentence) each; the mark is a number, a severity or empty.
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
    """A table whose cells are shaded by their share of the row: a confusion table.

    Attributes:
        title: what it shows.
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
        """Per cent of its row that each cell has, in tens."""
        return tuple(
            tuple(round(10 * n / max(sum(row), 1)) * 10 for n in row) for row in self.counts
        )


Block = Table | Chart | Gap | Facts | Notes | Grid


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        name: unique on the page.
        title: its heading.
        lead: one or two sentences on what the part is about.
        blocks: what it holds, in order.
    """

    name: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


def thinned(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> Table:
    """A table of at most 60 rows, evenly taken, first and last among them; it says so.

    Example:
        >>> table = thinned(["step"], [[i] for i in range(600)])
        >>> len(table.rows), table.rows[-1], table.note
        (60, (599,), '60 of 600 rows are shown, evenly taken.')
    """
    count, note = len(rows), ""
    if count > MOST_ROWS:
        places = [round(i * (count - 1) / (MOST_ROWS - 1)) for i in range(MOST_ROWS)]
        rows = [rows[place] for place in places]
        note = f"{MOST_ROWS} of {count:,} rows are shown, evenly taken."
    return Table(head=tuple(head), rows=tuple(map(tuple, rows)), note=note, caption=caption)
