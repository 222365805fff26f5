"""Readers of Parquet, Arrow and NumPy files: a schema, and batches of the columns asked for."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from downslope.errors import DataError

Batches = Generator[pa.RecordBatch, None, None]


class TableFile(NamedTuple):
    """A file that can be read: `read(columns, rows)` gives batches of about `rows` rows.

    `odd` counts cells of number columns that the latest reading found to be no numbers.
    """

    schema: pa.Schema
    num_rows: int | None
    read: Callable[[list[str], int], Batches]
    odd: Mapping[str, Counter[str]] = MappingProxyType({})


def open_parquet(path: Path) -> TableFile:
    """A Parquet file, its page checksums verified where the writer left them."""
    with _parquet(path) as file:
        schema, num_rows = file.schema_arrow, file.metadata.num_rows

    def read(columns: list[str], rows: int) -> Batches:
        with _parquet(path) as file:
            yield from file.iter_batches(rows, columns=columns)

    return TableFile(schema, num_rows, read)


def _parquet(path: Path) -> pq.ParquetFile:
    # Mapped and not pre-buffered: a row group may be larger than the memory we may use.
    return pq.ParquetFile(path, memory_map=True, pre_buffer=False, page_checksum_verification=True)


def open_arrow(path: Path) -> TableFile:
    """An Arrow IPC file, with random access or a stream."""
    num_rows = None
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
            num_rows = sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
        schema = reader.schema

    def read(columns: list[str], _: int) -> Batches:
        with pa.memory_map(str(path)) as source:
            if num_rows is None:
                stored = iter(pa.ipc.open_stream(source))
            else:
                file = pa.ipc.open_file(source)
                stored = map(file.get_batch, range(file.num_record_batches))
            for batch in stored:
                batch.validate(full=True)  # a flipped offset must not read beyond a buffer
                yield batch.select(columns)

    return TableFile(schema, num_rows, read)


def open_npy(path: Path) -> TableFile:
    """A two-dimensional `.npy` array; columns are named "0", "1", ..."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2:
        raise DataError(
            f"an array of shape {array.shape} is not a table",
            path=path,
            remedy="give an array of rows by columns",
        )
    kind = _arrow_type(array.dtype, path)

    def read(columns: list[str], rows: int) -> Batches:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        places = [int(name) for name in columns]
        for start in range(0, len(array), rows):
            part = np.array(array[start : start + rows])  # one read of the rows, then columns
            yield pa.record_batch([_arrow_array(part[:, j]) for j in places], names=columns)

    return TableFile(pa.schema([(str(i), kind) for i in range(array.shape[1])]), len(array), read)


class _Header(NamedTuple):
    """The header of an array inside an `.npz` file."""

    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype


def open_npz(path: Path) -> TableFile:
    """An `.npz` file whose arrays share their first axis; two-dimensional ones are lists."""
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                raise DataError(f"{member!r} in it is not an array", path=path)
            with archive.open(member) as file:
                headers[member.removesuffix(".npy")] = _header(file)
    if not headers:
        raise DataError("no arrays", path=path)
    num_rows = next(header.shape[0] if header.shape else 0 for header in headers.values())
    fields = []
    for name, (shape, _, dtype) in headers.items():
        if len(shape) not in (1, 2) or shape[0] != num_rows:
            raise DataError(
                f"array {name!r} has shape {shape}, not {num_rows:,} rows",
                path=path,
                remedy="give arrays of one or two dimensions with equal rows",
            )
        kind = _arrow_type(dtype, path)
        fields.append((name, kind if len(shape) == 1 else pa.list_(kind, shape[1])))

    def read(columns: list[str], rows: int) -> Batches:
        with zipfile.ZipFile(path) as archive:
            parts = [_rows_of(archive, name, rows) for name in columns]
            for arrays in zip(*parts, strict=True):
                yield pa.record_batch([_arrow_array(a) for a in arrays], names=columns)

    return TableFile(pa.schema(fields), num_rows, read)


def _header(file: IO[bytes]) -> _Header:
    one = np.lib.format.read_magic(file) == (1, 0)
    formats = np.lib.format
    return _Header(*(formats.read_array_header_1_0 if one else formats.read_array_header_2_0)(file))


def _rows_of(archive: zipfile.ZipFile, name: str, rows: int) -> Iterator[np.ndarray]:
    """An array of the archive in pieces, decompressed as they are asked for."""
    with archive.open(f"{name}.npy") as file:
        shape, by_column, dtype = _header(file)
        if by_column and len(shape) == 2:  # whole columns follow each other: no streaming
            with archive.open(f"{name}.npy") as whole:
                array = np.lib.format.read_array(whole, allow_pickle=False)
            yield from (array[start : start + rows] for start in range(0, len(array), rows))
            return
        row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            data = file.read(count * row_bytes)
            if len(data) < count * row_bytes:
                raise EOFError("the file ends early")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
        file.read(1)  # reaching the end makes zipfile compare its checksum


def _arrow_type(dtype: np.dtype, path: Path) -> pa.DataType:
    if dtype.kind not in "biufUM" or (dtype.itemsize > 8 and dtype.kind == "f"):
        raise DataError(f"an array of {dtype} is not a table", path=path)
    return pa.string() if dtype.kind == "U" else pa.from_numpy_dtype(dtype.newbyteorder("="))


def _arrow_array(values: np.ndarray) -> pa.Array:
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    flat = pa.array(values.reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
