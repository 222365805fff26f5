"""A source of batches drawn by a function, for problems that sample their points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from downslope.data.arrays import narrowed
from downslope.data.stream import Block, Position, Ring, Stream
from downslope.data.windows import split_buffer
from downslope.errors import UsageError
from downslope.tree import Rows, arrays, empty_rows, map_arrays, pad, row_bytes

BLOCK_BYTES = 8 << 20
MAX_BATCHES = 64  # in one block: the first step should not wait for more
ENDLESS = 2**62


class Generator:
    """Rows drawn by `draw(rng, num_rows) -> rows`, without end.

    Each batch has a random generator of its own, a pure function of the seed and of the
    batch's number, so a resumed run draws exactly what an uninterrupted one would have drawn.

    Args:
        draw: takes a `numpy.random.Generator` and a number of rows; returns an array, or
            tuples and dicts of arrays, with that many rows.

    Example:
        >>> points = Generator(lambda rng, n: rng.uniform(-1, 1, (n, 2)).astype("float32"))
        >>> points.batch(seed=0, number=3, num_rows=5).shape
        (5, 2)
    """

    def __init__(self, draw: Callable[[np.random.Generator, int], Rows]):
        self.draw = draw

    @property
    def fingerprint(self) -> str:
        """The function's name, since its rows cannot be compared without drawing them."""
        return f"generator {getattr(self.draw, '__qualname__', type(self.draw).__name__)}"

    def batch(self, *, seed: int, number: int, num_rows: int) -> Rows:
        """Batch `number` as arrays of at most 32-bit numbers.

        Raises:
            UsageError: the function returned another number of rows.
        """
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number))))
        rows = map_arrays(narrowed, self.draw(rng, num_rows))
        lengths = {a.shape[0] if a.ndim else None for a in arrays(rows)}
        if lengths != {num_rows}:
            raise UsageError(
                f"the generator must return arrays of {num_rows} rows; "
                f"got {', '.join(sorted(map(str, lengths)))}"
            )
        return rows

    def unpack(self, rows: Any) -> Any:
        """The rows as they are."""
        return rows


def generator_stream(
    source: Generator, *, batch_rows: int, step_rows: int, seed: int, start: Position
) -> Stream:
    """Blocks of drawn batches; a position is the number of rows drawn in an endless epoch 0."""
    template = source.batch(seed=seed, number=0, num_rows=1)
    batches = BLOCK_BYTES // max(1, batch_rows * row_bytes(template))
    batches = min(max(1, batches), MAX_BATCHES)
    buffer_rows = batches * math.ceil(batch_rows / step_rows) * step_rows
    ring = Ring(lambda: empty_rows(template, buffer_rows))

    def blocks() -> Iterator[Block]:
        number = start.row // batch_rows
        while True:
            slot = ring.take()
            for place in range(batches):
                rows = source.batch(seed=seed, number=number + place, num_rows=batch_rows)
                _write(rows, ring.slots[slot], place * batch_rows)
            length = batches * batch_rows
            pad(ring.slots[slot], length)
            windows = split_buffer(
                number * batch_rows, length, ENDLESS,
                batch_rows=batch_rows, step_rows=step_rows, buffer_rows=buffer_rows,
            )  # fmt: skip
            yield Block(
                rows=ring.slots[slot],
                windows=windows.after(start.row - number * batch_rows),
                epoch=0,
                rows_after=number * batch_rows + windows.highs.astype(np.int64),
                ends_epoch=False,
                slot=slot,
            )
            number += batches

    return Stream(blocks(), ring)


def _write(rows: Rows, out: Rows, first: int) -> None:
    map_arrays(lambda a, o: np.copyto(o[first : first + len(a)], a), rows, out)
