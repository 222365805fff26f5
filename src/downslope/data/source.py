"""The protocol of a source: anything that can read a contiguous range of rows."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from downslope.tree import Rows


@runtime_checkable
class Source(Protocol):
    """A fixed number of rows, read by contiguous range.

    `shuffled` means that the rows are in random order already, so that contiguous ranges are as
    good as random ones. If each row is a batch by itself, as for a contrastive loss, the source
    may have an attribute `examples_per_row`; a run then begins with fewer rows.
    """

    num_rows: int
    row_bytes: int
    shuffled: bool

    @property
    def fingerprint(self) -> str:
        """Hex digest that changes with the rows; a resumed run compares it."""
        ...

    def read(self, start: int, stop: int, out: Rows | None = None) -> Rows:
        """Rows `start` to `stop` as a tree of arrays with leading axis `stop - start`.

        With `out`, a tree of arrays of that shape, the rows are written there and `out`
        is returned; without it, a view may be returned instead of a copy.
        """
        ...

    def expect(self, start: int, stop: int) -> None:
        """Announce that these rows will be read soon, so that a disk can begin."""
        ...

    def unpack(self, rows: Any) -> Any:
        """The batch for a loss, from stored rows.

        It must only slice and cast, so that it works on NumPy and on traced JAX arrays alike.
        """
        ...
