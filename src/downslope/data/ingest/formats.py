"""Readers of Parquet, Arrow and NumPy files: a schema, and batches of the columns asked for."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from downslope.errors import DataError

Batches = Generator[pa.RecordBatch, None, None]


class Opened(NamedTuple):
    """A readable file: `read(columns, rows)` gives batches of about `rows` rows."""

    schema: pa.Schema
    num_rows: int | None
    read: Callable[[list[str], int], Batches]


def open_parquet(path: Path) -> Opened:
    """A Parquet file; page checksums, where the writer left them, are verified."""
    with _parquet(path) as file:
        schema, num_rows = file.schema_arrow, file.metadata.num_rows

    def read(columns: list[str], rows: int) -> Batches:
        with _parquet(path) as file:
            yield from file.iter_batches(rows, columns=columns)

    return Opened(schema, num_rows, read)


def _parquet(path: Path) -> pq.ParquetFile:
    # Mapped and not pre-buffered: a row group may be larger than the memory we may use.
    return pq.ParquetFile(path, memory_map=True, pre_buffer=False, page_checksum_verification=True)


def open_arrow(path: Path) -> Opened:
    """An Arrow IPC file (random access or stream)."""
    schema = None
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
            schema = reader.schema
            counts = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
            return Opened(schema, sum(counts), lambda columns, _: _file_batches(path, columns))
        except pa.ArrowInvalid:
            source.seek(0)
            schema = pa.ipc.open_stream(source).schema
    return Opened(schema, None, lambda columns, _: _stream_batches(path, columns))


def _file_batches(path: Path, columns: list[str]) -> Batches:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            batch.validate(full=True)  # a flipped offset must not read beyond a buffer
            yield batch.select(columns)


def _stream_batches(path: Path, columns: list[str]) -> Batches:
    with pa.memory_map(str(path)) as source:
        for batch in pa.ipc.open_stream(source):
            batch.validate(full=True)
            yield batch.select(columns)


# --- NumPy ---------------------------------------------------------------------------


def open_npy(path: Path) -> Opened:
    """A two-dimensional `.npy` array; columns are named "0", "1", ..."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2:
        raise DataError(
            f"an array of shape {array.shape} is not a table",
            path=path,
            remedy="give an array of rows by columns",
        )
    names = [str(i) for i in range(array.shape[1])]
    schema = pa.schema([(name, _arrow_type(array.dtype, path)) for name in names])

    def read(columns: list[str], rows: int) -> Batches:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        places = [int(name) for name in columns]
        for start in range(0, len(array), rows):
            part = np.array(array[start : start + rows])  # one read of the rows, then columns
            yield pa.record_batch([_arrow_array(part[:, j]) for j in places], names=columns)

    return Opened(schema, len(array), read)


class _Member(NamedTuple):
    """An array inside an `.npz` file."""

    name: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def open_npz(path: Path) -> Opened:
    """An `.npz` file whose arrays share their first axis; two-dimensional ones are lists."""
    with zipfile.ZipFile(path) as archive:
        members = [_member(archive, info.filename, path) for info in archive.infolist()]
    if not members:
        raise DataError("no arrays", path=path)
    num_rows = members[0].shape[0] if members[0].shape else 0
    for member in members:
        if len(member.shape) not in (1, 2) or member.shape[0] != num_rows:
            raise DataError(
                f"array {member.name!r} has shape {member.shape}, not {num_rows:,} rows",
                path=path,
                remedy="give arrays of one or two dimensions with equal rows",
            )
    fields = []
    for member in members:
        kind = _arrow_type(member.dtype, path)
        flat = len(member.shape) == 1
        fields.append((member.name, kind if flat else pa.list_(kind, member.shape[1])))

    def read(columns: list[str], rows: int) -> Batches:
        chosen = [next(m for m in members if m.name == name) for name in columns]
        with zipfile.ZipFile(path) as archive:
            parts = [_member_rows(archive, member, rows) for member in chosen]
            for arrays in zip(*parts, strict=True):
                yield pa.record_batch([_arrow_array(a) for a in arrays], names=columns)

    return Opened(pa.schema(fields), num_rows, read)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)


def _member(archive: zipfile.ZipFile, filename: str, path: Path) -> _Member:
    if not filename.endswith(".npy"):
        raise DataError(f"{filename!r} in it is not an array", path=path)
    with archive.open(filename) as file:
        shape, fortran, dtype = _header(file)
    return _Member(filename[: -len(".npy")], shape, fortran, dtype)


def _member_rows(archive: zipfile.ZipFile, member: _Member, rows: int) -> Iterator[np.ndarray]:
    """The array in pieces, decompressed as they are asked for."""
    with archive.open(member.name + ".npy") as file:
        if member.fortran and len(member.shape) == 2:  # columns follow each other: no streaming
            whole = np.lib.format.read_array(archive.open(member.name + ".npy"), allow_pickle=False)
            for start in range(0, len(whole), rows):
                yield np.ascontiguousarray(whole[start : start + rows])
            return
        _header(file)
        row_bytes = member.dtype.itemsize * int(np.prod(member.shape[1:]))
        for start in range(0, member.shape[0], rows):
            count = min(rows, member.shape[0] - start)
            data = file.read(count * row_bytes)
            if len(data) < count * row_bytes:
                raise EOFError("the file ends early")
            yield np.frombuffer(data, member.dtype).reshape(count, *member.shape[1:])
        file.read(1)  # reaching the end makes zipfile compare its checksum


def _arrow_type(dtype: np.dtype, path: Path) -> pa.DataType:
    if dtype.kind not in "biufUM" or (dtype.itemsize > 8 and dtype.kind == "f"):
        raise DataError(f"an array of {dtype} is not a table", path=path)
    if dtype.kind == "U":
        return pa.string()
    return pa.from_numpy_dtype(dtype.newbyteorder("="))


def _arrow_array(values: np.ndarray) -> pa.Array:
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 1:
        return pa.array(np.ascontiguousarray(values))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
