"""Blocks of a table: buffers of rows with their windows, in the order of an `Order`.

A block of a source that is in memory and in random order is a view, without a copy; other rows
are read or gathered into a small ring of aligned buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from downslope.data.arrays import Arrays
from downslope.data.order import Order
from downslope.data.source import Source
from downslope.data.stream import Block, Position, Ring, Stream
from downslope.data.windows import split_buffer
from downslope.tree import Rows, empty_rows, map_arrays, pad

EXPECTED = 2  # buffers announced to the disk in advance; one hardly hides a seek


def table_stream(
    source: Source,
    order: Order,
    *,
    batch_rows: int,
    step_rows: int,
    start: Position = Position(),  # noqa: B008 - immutable
    num_epochs: int | None = None,
    spare: list[Ring] | None = None,
) -> Stream:
    """The blocks of a source from any position on, read ahead.

    Args:
        source: where the rows come from.
        order: the order of every epoch.
        batch_rows: rows per update.
        step_rows: rows the device takes at once, at most `batch_rows`.
        start: position to begin at.
        num_epochs: stop before this epoch; None never stops.
        spare: rings of earlier streams of this source and order, to use again; the ring of this
            stream is added when it closes.
    """
    template = source.read(0, 1)
    ring = spare.pop() if spare else Ring(lambda: empty_rows(template, order.buffer_rows))
    reader = _Reader(source, order, batch_rows, step_rows, ring)
    return Stream(reader.blocks(start, num_epochs), ring, spare)


@dataclass
class _Reader:
    source: Source
    order: Order
    batch_rows: int
    step_rows: int
    ring: Ring
    _scratch: Rows = None

    def blocks(self, start: Position, num_epochs: int | None) -> Iterator[Block]:
        epoch, row = start
        while num_epochs is None or epoch < num_epochs:
            first = row // self.order.buffer_rows
            for index in range(first, self.order.num_buffers):
                self._expect(epoch, index, EXPECTED if index == first else 1)
                yield self._block(epoch, index, row)
            epoch, row = epoch + 1, 0

    def _expect(self, epoch: int, index: int, count: int) -> None:
        """Announce the last `count` of the next `EXPECTED` buffers."""
        last = min(index + EXPECTED, self.order.num_buffers - 1)
        for each in range(index + 1 + EXPECTED - count, last + 1):
            for start, stop in self.order.ranges(epoch, each):
                self.source.expect(start, stop)

    def _block(self, epoch: int, index: int, row: int) -> Block:
        """Buffer `index` of an epoch, without windows that end at or before `row`."""
        order = self.order
        first_row = index * order.buffer_rows
        windows = split_buffer(
            first_row,
            order.length(index),
            order.num_rows,
            batch_rows=self.batch_rows,
            step_rows=self.step_rows,
            buffer_rows=order.buffer_rows,
        )
        rows_after = first_row + windows.highs.astype(np.int64)
        windows = windows.after(row - first_row)
        rows, slot = self._rows(epoch, index)
        return Block(
            rows=rows,
            windows=windows,
            epoch=epoch,
            rows_after=rows_after,
            ends_epoch=index == order.num_buffers - 1,
            slot=slot,
        )

    def _rows(self, epoch: int, index: int) -> tuple[Rows, int | None]:
        """The buffer's rows: a view where they are contiguous in memory, else a copy."""
        order, source = self.order, self.source
        ranges = order.ranges(epoch, index)
        whole = order.length(index) == order.buffer_rows
        is_view = isinstance(source, Arrays) and not order.mix
        if is_view and whole and len(ranges) == 1:
            return source.read(*ranges[0]), None
        slot = self.ring.take()
        out = self.ring.slots[slot]
        permutation = order.permutation(epoch, index)
        if permutation is None:
            _read_ranges(source, ranges, out)
        elif isinstance(source, Arrays):
            numbers = np.concatenate([np.arange(a, b) for a, b in ranges])[permutation]
            _gather(source.tree, numbers, out)
        else:
            if self._scratch is None:
                self._scratch = self.ring.empty()
            _read_ranges(source, ranges, self._scratch)
            _gather(self._scratch, permutation, out)
        pad(out, order.length(index))
        return out, slot


def _read_ranges(source: Source, ranges: list[tuple[int, int]], out: Rows) -> None:
    filled = 0
    for start, stop in ranges:
        low, high = filled, filled + stop - start
        source.read(start, stop, map_arrays(lambda o, i=low, j=high: o[i:j], out))
        filled = high


def _gather(tree: Rows, numbers: np.ndarray, out: Rows) -> None:
    def take(a: np.ndarray, o: np.ndarray) -> None:
        # mode="clip" lets NumPy write straight into `out`; the numbers are in range
        np.take(a, numbers, axis=0, out=o[: len(numbers)], mode="clip")

    map_arrays(take, tree, out)
