"""An exact shuffle, in two passes, of more rows than memory holds.

Each row goes to a random bucket; then the buckets, each small enough for memory, are permuted and
read one after the other. That gives every permutation the same probability (the sizes of the
buckets are multinomial, as in a uniform permutation cut at random). Rows stay in memory up to a
budget, so that a small table is written only once; beyond it all buckets are appended to one file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from downslope.tree import aligned_empty

BUDGET_BYTES = 1 << 28  # rows in memory before they are written to the file
BUCKET_BYTES = 1 << 25  # intended size of a bucket
MAX_BUCKETS = 1 << 13
_PIECE_BYTES = 1 << 21  # read from the file at once


class Buckets:
    """Rows of float32 by bucket, partly in memory and partly in the file at `path`."""

    def __init__(self, path: Path, width: int, num_buckets: int):
        self._path, self._width = path, width
        self._fd: int | None = None
        self._memory: list[list[np.ndarray]] = [[] for _ in range(num_buckets)]
        self._spills: list[np.ndarray] = []  # for each, where every bucket begins in the file
        self._held_bytes = self._file_bytes = 0
        self.counts = [0] * num_buckets

    def add(self, rows: np.ndarray, counts: np.ndarray) -> None:
        """Add `rows` [n, width]: the first counts[0] to bucket 0, the next to 1, and so on.

        The array is kept, not copied.
        """
        start = 0
        for bucket, count in enumerate(counts.tolist()):
            if count:
                self._memory[bucket].append(rows[start : start + count])
                self.counts[bucket] += count
                start += count
        self._held_bytes += rows.nbytes
        if self._held_bytes > BUDGET_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        edges = np.full(len(self._memory) + 1, self._file_bytes, np.int64)
        for bucket, pieces in enumerate(self._memory):
            for piece in pieces:
                write_all(self._fd, piece, self._file_bytes)
                self._file_bytes += piece.nbytes
            edges[bucket + 1] = self._file_bytes
            pieces.clear()
        self._spills.append(edges)
        self._held_bytes = 0

    def take(self, bucket: int, places: np.ndarray) -> np.ndarray:
        """All rows of a bucket, [count, width], the i-th that was added at places[i]."""
        rows = aligned_empty((self.counts[bucket], self._width), np.float32)
        at = 0
        for piece in self.pieces(bucket):
            rows[places[at : at + len(piece)]] = piece
            at += len(piece)
        return rows

    def pieces(self, bucket: int) -> Iterator[np.ndarray]:
        """The rows of a bucket in the order in which they were added, some [n, width] at a time."""
        row_bytes = 4 * self._width
        rows_at_once = max(1, _PIECE_BYTES // row_bytes)
        for edges in self._spills:
            assert self._fd is not None
            offset, rows = int(edges[bucket]), int(edges[bucket + 1] - edges[bucket]) // row_bytes
            for start in range(0, rows, rows_at_once):
                piece = np.empty((min(rows_at_once, rows - start), self._width), np.float32)
                view = piece.reshape(-1).view(np.uint8).data
                read_all(self._fd, view, offset + start * row_bytes)
                yield piece
        yield from self._memory[bucket]
        self._memory[bucket].clear()

    def close(self) -> None:
        """Remove the file."""
        if self._fd is not None:
            os.close(self._fd)
            os.unlink(self._path)
            self._fd = None


def write_all(fd: int, array: np.ndarray, offset: int) -> None:
    """Write the whole array at `offset`, in as many calls as the system needs."""
    view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def read_all(fd: int, view: memoryview, offset: int) -> None:
    """Fill `view` from `offset` on; raises EOFError if the file is shorter."""
    while view:
        count = os.preadv(fd, [view], offset)
        if not count:
            raise EOFError("the file ends early")
        view, offset = view[count:], offset + count
