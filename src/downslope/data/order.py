"""The order in which an epoch visits the rows: a pure function of seed, epoch and position.

An epoch is a stream of positions 0 to N-1, divided into buffers of equal size. A buffer is
the unit of reading; batches are consecutive positions inside it.

`plan_order` chooses one of three:

- mixed: the whole table fits into one buffer, and each epoch is a new permutation of the rows;
- rotated: the rows were stored in random order, so contiguous stretches are as good as
  random rows. Each epoch starts at another row and visits the stretches in another order;
- windowed: the order of the rows is unknown. Small units are drawn at random into a buffer and
  the rows are permuted inside it.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

MIXED_BYTES = 32 << 20  # up to this size, permuting all rows in each epoch costs less than a step
BUFFER_BYTES = 16 << 20  # of a stretch: the fixed cost of a call is a hundredth of its time
UNIT_BYTES = 32 << 10  # rows drawn together from a file of unknown order (measured: 16 to 32 KiB)
WINDOW_BYTES = 128 << 20  # upper bound of a windowed buffer
ALIGN_ROWS = 64  # a stretch that begins at a multiple of 64 rows is aligned to 64 bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """The visiting order of every epoch.

    With `shuffle`, each epoch begins at another row and visits units in random order; without, the
    source is read from the first row to the last.
    """

    num_rows: int  # of the source, N
    buffer_rows: int  # positions in a buffer, C; the last buffer of an epoch may have fewer
    unit_rows: int  # consecutive rows that stay together
    mix: bool = False  # permute the rows inside a buffer
    shuffle: bool = True
    seed: int = 0

    @property
    def num_buffers(self) -> int:
        """Buffers in an epoch."""
        return math.ceil(self.num_rows / self.buffer_rows)

    def length(self, index: int) -> int:
        """Rows in buffer `index`."""
        return min(self.buffer_rows, self.num_rows - index * self.buffer_rows)

    def ranges(self, epoch: int, index: int) -> list[tuple[int, int]]:
        """Ranges (start, stop) of source rows for buffer `index`, in reading order."""
        units, shift = _units(self, epoch)
        first = index * self.buffer_rows
        stop = first + self.length(index)
        found: list[tuple[int, int]] = []
        # Only the last unit of an epoch is short, so unit u covers positions u*U to (u+1)*U.
        for place in range(first // self.unit_rows, math.ceil(stop / self.unit_rows)):
            low = max(first, place * self.unit_rows) - place * self.unit_rows
            high = min(stop, (place + 1) * self.unit_rows) - place * self.unit_rows
            begin = int(units[place]) * self.unit_rows
            found += self._rows(begin + low, begin + high, shift)
        return found

    def _rows(self, start: int, stop: int, shift: int) -> list[tuple[int, int]]:
        """Source rows of positions start to stop, rotated by `shift` except for a short tail.

        Rotating a multiple of 64 rows keeps every stretch aligned, also after the wrap;
        the at most 63 rows beyond it stay last in each epoch.
        """
        ring = self.num_rows
        if self.unit_rows % ALIGN_ROWS == 0:
            ring -= ring % ALIGN_ROWS
        found = []
        if start < min(stop, ring):
            size = min(stop, ring) - start
            first = (start + shift) % ring
            found = [(first, min(first + size, ring)), (0, first + size - ring)]
        found.append((max(start, ring), stop))
        return [(a, b) for a, b in found if a < b]

    def permutation(self, epoch: int, index: int) -> np.ndarray | None:
        """Order of the rows inside buffer `index`, int64 [length], or None to keep them."""
        if not self.mix:
            return None
        return _generator(self.seed, epoch, 1 + index).permutation(self.length(index))

    def inflation(self, batch_size: int) -> float:
        """Worst-case factor on the variance of batch means, 1 for a perfect shuffle.

        A file in which each unit has only one value (a sorted file) reaches it: about
        1 + (B - 1)/m with m units per buffer, the mean over an epoch whose last buffer may be
        short. It does not cover a slow drift over more rows than a buffer. Rows read in stored
        order are assumed to be in random order.
        """
        if not self.mix or self.buffer_rows >= self.num_rows:
            return 1.0
        units = self.num_rows / self.num_buffers / self.unit_rows
        return 1.0 + (min(batch_size, self.buffer_rows) - 1) / units

    def describe(self, batch_size: int) -> str:
        """One sentence on the shuffling, and how far it is from perfect."""
        if not self.shuffle:
            return "rows are read in stored order"
        if self.mix and self.buffer_rows >= self.num_rows:
            return "every epoch is a full random permutation of the rows"
        if not self.mix:
            return (
                "rows were shuffled once; every epoch visits stretches of "
                f"{self.buffer_rows:,} rows in a new order from a new first row, "
                "so rows stored side by side stay close to each other"
            )
        return (
            f"rows are drawn in units of {self.unit_rows:,} and mixed inside windows of "
            f"{self.buffer_rows:,}; if the file is sorted, batch means vary up to "
            f"{self.inflation(batch_size):.2f} times as much as under a full shuffle"
        )


def plan_order(
    num_rows: int, row_bytes: int, *, step_rows: int, batch_size: int, shuffled: bool, seed: int
) -> Order:
    """The order for a table, from its size and whether it was stored in random order.

    Buffers are a multiple of `step_rows`, the rows that the device takes at once; a window over a
    sorted file grows with the batch size.
    """
    whole = math.ceil(num_rows / step_rows) * step_rows
    if num_rows * row_bytes <= MIXED_BYTES:
        return Order(num_rows=num_rows, buffer_rows=whole, unit_rows=whole, mix=True, seed=seed)
    if shuffled:
        unit = math.lcm(step_rows, ALIGN_ROWS)
        if unit * row_bytes > 4 * BUFFER_BYTES:
            unit = step_rows  # unaligned stretches are copied, which is only slower
        rows = min(whole, unit * max(1, BUFFER_BYTES // (unit * row_bytes)))
        return Order(num_rows=num_rows, buffer_rows=rows, unit_rows=rows, seed=seed)
    units = min(max(1024, 4 * batch_size), max(1, WINDOW_BYTES // row_bytes))
    unit = max(1, min(UNIT_BYTES, WINDOW_BYTES // units) // row_bytes)
    rows = min(whole, math.ceil(units * unit / step_rows) * step_rows)
    return Order(num_rows=num_rows, buffer_rows=rows, unit_rows=unit, mix=True, seed=seed)


def sequential_order(num_rows: int, row_bytes: int, *, step_rows: int) -> Order:
    """The order of an evaluation, from the first row to the last."""
    whole = math.ceil(num_rows / step_rows) * step_rows
    rows = min(whole, step_rows * max(1, BUFFER_BYTES // (step_rows * row_bytes)))
    return Order(num_rows=num_rows, buffer_rows=rows, unit_rows=rows, shuffle=False)


def _generator(seed: int, epoch: int, role: int) -> np.random.Generator:
    # SeedSequence hashes all three words, so no two (seed, epoch, role) share a stream
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, role))))


@functools.lru_cache(maxsize=8)
def _units(order: Order, epoch: int) -> tuple[np.ndarray, int]:
    """Units in visiting order, the short one last, and the row at which the epoch begins."""
    count = math.ceil(order.num_rows / order.unit_rows)
    # A single unit that is mixed needs no rotation, which would make the order depend on its size:
    # a table in one buffer has the same batches whatever the micro-batch.
    if not order.shuffle or (order.mix and count == 1):
        return np.arange(count), 0
    draw = _generator(order.seed, epoch, 0)
    full = order.num_rows // order.unit_rows
    units = np.concatenate([draw.permutation(full), np.arange(full, count)])
    # Rotating by a multiple of 64 rows keeps stretches aligned; smaller units need no alignment.
    step = ALIGN_ROWS if order.unit_rows % ALIGN_ROWS == 0 else 1
    shift = int(draw.integers(max(1, order.num_rows // step))) * step
    return units, shift
