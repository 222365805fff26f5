"""Where rows come from: anything that can hand over a contiguous range of them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from downslope.tree import Rows


@runtime_checkable
class Source(Protocol):
    """A fixed number of rows, read by contiguous range.

    `shuffled` says that the rows already lie in random order, so that contiguous ranges
    are as good as random ones. A source whose rows are batches of their own, such as those of a
    contrastive loss, may say so by an attribute `examples_per_row`; a run then begins with fewer.
    """

    num_rows: int
    row_bytes: int
    shuffled: bool

    @property
    def fingerprint(self) -> str:
        """Hex digest that changes when the rows do; a resumed run compares it."""
        ...

    def read(self, start: int, stop: int, out: Rows | None = None) -> Rows:
        """Rows `start` to `stop`, as a tree of arrays with leading axis `stop - start`.

        With `out`, a tree of arrays of that shape, the rows are written there and `out`
        is returned; without it, a view may be returned instead of a copy.
        """
        ...

    def expect(self, start: int, stop: int) -> None:
        """Announces that these rows will be read soon, so that a disk can begin."""
        ...

    def unpack(self, rows: Any) -> Any:
        """The batch that a loss sees, from stored rows.

        Only slices and casts, so that it works on NumPy and on traced JAX arrays alike.
        """
        ...

    def close(self) -> None:
        """Releases files; reading afterwards raises ValueError."""
        ...
