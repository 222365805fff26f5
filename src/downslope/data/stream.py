"""Blocks read ahead by one thread, in bounded memory.

The thread is at most `AHEAD` blocks ahead. It fills buffers of a ring, which return to the ring
once nothing on the device reads them any more.
"""

from __future__ import annotations

import dataclasses
import itertools
import queue
import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import numpy as np

from downslope.data.ahead import ReadAhead
from downslope.data.windows import Windows
from downslope.tree import Rows, aligned_copy, map_arrays

AHEAD = 2  # blocks read in advance; two hide the time to read a block and its jitter


class Position(NamedTuple):
    """The position of a run: an epoch, and the number of its rows that have been used."""

    epoch: int = 0
    row: int = 0


@dataclasses.dataclass(kw_only=True)
class Block:
    """A buffer of rows [C, ...], with the same C in every block, and its windows."""

    rows: Rows
    windows: Windows  # the updates, or parts of updates, in these rows
    epoch: int
    rows_after: np.ndarray  # position in the epoch after each window, int [M]
    ends_epoch: bool
    slot: int | None  # number of the ring's buffer with the rows, or None for a view

    def position_after(self, window: int) -> Position:
        """The position of the run when the windows before `window` are done."""
        if self.ends_epoch and window == self.windows.first + self.windows.count:
            return Position(self.epoch + 1, 0)
        return Position(self.epoch, int(self.rows_after[window - 1]))


class Closed(Exception):
    """The stream was closed while its thread waited for a buffer."""


class Ring:
    """A few buffers, each allocated by `empty()` when first needed and then reused."""

    # one being filled, AHEAD waiting, one in use, and one in use by the call before
    SIZE = AHEAD + 3

    def __init__(self, empty: Callable[[], Rows]):
        self.empty = empty
        self.slots: list[Rows] = []
        self.reopen()

    def take(self) -> int:
        """The number of a free buffer, waiting for one if necessary.

        Raises:
            Closed: the stream was closed meanwhile.
        """
        if self._free.empty() and len(self.slots) < self.SIZE:
            self.slots.append(self.empty())
            return len(self.slots) - 1
        begin = time.perf_counter()
        slot = self._free.get()
        self.seconds_waited += time.perf_counter() - begin
        if slot is None:
            raise Closed
        return slot

    def close(self) -> None:
        """End the wait for a buffer."""
        self._free.put(None)

    def give(self, slot: int) -> None:
        """Free a buffer."""
        self._free.put(slot)

    def reopen(self) -> None:
        """Free all buffers for another stream; nothing may use them any more."""
        self._free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for slot in range(len(self.slots)):
            self._free.put(slot)
        self.seconds_waited = 0.0


class Stream:
    """Blocks in order, read ahead. Use as a context manager and iterate.

    `seconds_waited` is the time that the caller has spent waiting for data. `seconds_read` is the
    time of reading, ordering and gathering, mostly concurrent with the caller's own work, without
    the wait for a free buffer.

    Args:
        blocks: the blocks; runs in the reading thread.
        ring: the buffers of their rows.
        spare: list to which the ring is added when the stream closes. The system does not clear
            reused memory again, which would take longer than filling it.
    """

    def __init__(self, blocks: Iterator[Block], ring: Ring, spare: list[Ring] | None = None):
        self.seconds_waited = self.seconds_read = 0.0
        self._ring, self._spare = ring, spare
        # AHEAD blocks wait to be taken while one more is made
        self._ahead = ReadAhead(self._timed(blocks), AHEAD + 1, wake=ring.close)

    def __enter__(self) -> Stream:
        self._ahead.__enter__()
        return self

    def __exit__(self, *fault: object) -> None:
        self._ahead.__exit__(*fault)
        if self._spare is not None:
            self._ring.reopen()
            self._spare.append(self._ring)

    def __iter__(self) -> Iterator[Block]:
        blocks = iter(self._ahead)
        while True:
            begin = time.perf_counter()
            block = next(blocks, None)
            self.seconds_waited += time.perf_counter() - begin
            if block is None:
                return
            yield block

    def release(self, block: Block) -> None:
        """Free the buffer of a block; call this once nothing reads its rows any more."""
        if block.slot is not None:
            self._ring.give(block.slot)

    def _timed(self, blocks: Iterator[Block]) -> Generator[Block, None, None]:
        begin, idle = time.perf_counter(), self._ring.seconds_waited
        for block in blocks:
            # updated once per block, so that it never decreases during a wait for a buffer
            idle = self._ring.seconds_waited - idle
            self.seconds_read += time.perf_counter() - begin - idle
            yield block
            begin, idle = time.perf_counter(), self._ring.seconds_waited


class Replay:
    """The first blocks of a stream, for repeated iteration. Use it like the stream.

    Two blocks stay in the ring's buffers; further ones are copied.

    Args:
        stream: the stream to read, which closes with the replay.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self._kept: list[Block] = []
        self._more: Iterator[Block] = iter(())

    def __enter__(self) -> Replay:
        self._more = iter(self._stream.__enter__())
        return self

    def __exit__(self, *fault: object) -> None:
        self._stream.__exit__(*fault)

    def __iter__(self) -> Iterator[Block]:
        for number in itertools.count():
            if number == len(self._kept):
                block = next(self._more, None)
                if block is None:
                    return
                if number >= AHEAD:
                    rows = map_arrays(aligned_copy, block.rows)
                    self._stream.release(block)
                    block = dataclasses.replace(block, rows=rows, slot=None)
                self._kept.append(block)
            yield self._kept[number]

    def release(self, block: Block) -> None:
        """Do nothing: the block is kept for the next iteration."""

    @property
    def seconds_waited(self) -> float:
        """That of the stream."""
        return self._stream.seconds_waited

    @property
    def seconds_read(self) -> float:
        """That of the stream."""
        return self._stream.seconds_read
