"""A table on disk for the benchmarks, and the bare costs of reading it."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from downslope.errors import CapacityError
from downslope.tree import aligned_empty

WIDTH = 64  # inputs; a stored row holds the target and a weight beside them
ROW_BYTES = 4 * (WIDTH + 2)
PIECE = 8 << 20  # bytes of one read: as many as downslope reads at once
GROUP_ROWS = 1 << 17


@contextlib.contextmanager
def scratch(needed_bytes: float) -> Iterator[Path]:
    """Folder that is removed even after an error or SIGTERM; caches go there too."""
    folder = Path(tempfile.mkdtemp(prefix="downslope-benchmark-"))
    before = os.environ.get("DOWNSLOPE_CACHE")
    old = signal.signal(signal.SIGTERM, _leave)
    try:
        if shutil.disk_usage(folder).free < needed_bytes:
            raise CapacityError(f"{folder} has not the {needed_bytes / 1e9:.0f} GB that are needed")
        os.environ["DOWNSLOPE_CACHE"] = str(folder / "cache")
        yield folder
    finally:
        signal.signal(signal.SIGTERM, old)
        if before is None:
            del os.environ["DOWNSLOPE_CACHE"]
        else:
            os.environ["DOWNSLOPE_CACHE"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def planted(width: int = WIDTH) -> np.ndarray:
    """Weights of the logistic model that the classes are drawn from."""
    return np.random.default_rng(7).standard_normal(width).astype(np.float32) / 4


def write_parquet(path: Path, num_rows: int) -> None:
    """Normal inputs f0, f1, ... and a class y drawn from a logistic model."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw, weights = np.random.default_rng(0), planted()
    names = [f"f{j}" for j in range(WIDTH)]
    schema = pa.schema([(name, pa.float32()) for name in names] + [("y", pa.int8())])
    # No dictionary for the inputs: hardly a value comes twice, and looking for it costs most.
    with pq.ParquetWriter(path, schema, use_dictionary=["y"]) as file:
        for start in range(0, num_rows, GROUP_ROWS):
            count = min(GROUP_ROWS, num_rows - start)
            x = draw.standard_normal((WIDTH, count), dtype=np.float32)
            y = (weights @ x + draw.logistic(size=count) > 0).astype(np.int8)
            file.write_table(pa.table([*x, y], schema=schema))


def decode(path: Path) -> float:
    """Seconds in which pyarrow alone decodes every column into NumPy."""
    import pyarrow.parquet as pq

    begin = time.perf_counter()
    for part in sorted(path.iterdir()):
        for batch in pq.ParquetFile(part).iter_batches(batch_size=1 << 16):
            for column in batch.columns:
                column.to_numpy()
    return time.perf_counter() - begin


def read(path: Path, ahead: int = 0) -> float:
    """Seconds to read a file from its first byte to its last into one buffer.

    Args:
        ahead: pieces that the kernel is told of before they are needed.
    """
    out = memoryview(aligned_empty((PIECE,), np.uint8))
    fd = os.open(path, os.O_RDONLY)
    try:
        begin, at = time.perf_counter(), 0
        while True:
            if ahead:
                os.posix_fadvise(fd, at + PIECE, ahead * PIECE, os.POSIX_FADV_WILLNEED)
            count = os.preadv(fd, [out], at)
            if not count:
                return time.perf_counter() - begin
            at += count
    finally:
        os.close(fd)


def evict(path: Path) -> float:
    """Drop a file from the page cache as far as the kernel allows; returns what is left."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)  # a page that still has to be written stays
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return _resident(fd)
    finally:
        os.close(fd)


def _resident(fd: int) -> float:
    """Share of a file's pages in the page cache."""
    size = os.fstat(fd).st_size
    pages = -(-size // mmap.PAGESIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    place = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    found = np.zeros(pages, np.uint8)
    libc.mincore(ctypes.c_void_p(place), ctypes.c_size_t(size), ctypes.c_void_p(found.ctypes.data))
    libc.munmap(ctypes.c_void_p(place), ctypes.c_size_t(size))
    return float((found & 1).mean())
