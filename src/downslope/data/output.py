"""Parquet files that are either whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from downslope.errors import DataError
from downslope.storage import atomic_file


def write_parquet(
    path: str | os.PathLike[str],
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    overwrite: bool = False,
) -> int:
    """Write a Parquet file, which appears once all rows are on the disk; returns their number.

    Batches are written as they come to a temporary file beside `path`, which is removed if
    anything is raised. Pages have checksums.

    Args:
        path: the file to write, in a folder that exists.
        schema: the schema of every batch.
        batches: record batches of any sizes.
        overwrite: replace an existing file.

    Raises:
        DataError: `path` exists, or its folder does not.
        CapacityError: the disk is full or a quota is reached.

    >>> import tempfile
    >>> batch = pa.record_batch({"prediction": [0.5, 1.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_parquet(f"{folder}/predictions.parquet", batch.schema, [batch])
    2
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    with atomic_file(path) as scratch:
        return _write(scratch, schema, batches)


def check_writable(path: Path, *, overwrite: bool = False) -> None:
    """Check, before costly work, that a file can be written to a path.

    Raises:
        DataError: the path exists, or its folder does not, or it cannot be written to.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            "already exists", path=path, remedy="choose another name, or remove it first"
        )
    if not path.parent.is_dir():
        raise DataError("no such folder", path=path.parent, remedy="make it first")
    if not os.access(path.parent, os.W_OK):
        raise DataError("no permission to write in it", path=path.parent)


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    rows = 0
    with open(path, "wb") as file:
        with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        file.flush()
        os.fsync(file.fileno())
    return rows
