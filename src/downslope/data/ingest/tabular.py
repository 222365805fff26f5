"""A table on disk as a stream of record batches in file order, with clear errors.

Parquet (a file, or a folder of files in order of their names), Arrow IPC, CSV, `.npy`
and `.npz`; and data frames in memory. Columns that hold lists of a fixed length are taken
apart into `name[0]`, `name[1]`, ...
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from downslope.data.frames import IN_MEMORY, is_frame, path_of, refuse_duplicates
from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.columns import is_number
from downslope.data.ingest.delimited import open_delimited
from downslope.data.ingest.formats import (
    Batches,
    TableFile,
    open_arrow,
    open_npy,
    open_npz,
    open_parquet,
)
from downslope.data.ingest.memory import open_memory
from downslope.errors import CapacityError, DataError

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_OPENERS = {
    ".parquet": open_parquet, ".pq": open_parquet,
    ".arrow": open_arrow, ".arrows": open_arrow, ".feather": open_arrow, ".ipc": open_arrow,
    ".npy": open_npy, ".npz": open_npz,
}  # fmt: skip
ENDINGS = (*_OPENERS, *CSV)

MAX_BATCH_ROWS = 1 << 16  # with 64 float32 columns 16 MiB
MAX_BATCH_BYTES = 1 << 26  # wider tables get fewer rows a batch


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be read any number of times, from the first row to the last.

    The fingerprint is a sha256 over path, size and modification time of every file, or over the
    content of a data frame.
    """

    path: Path  # the file or folder; "data frame" for one in memory
    names: list[str]  # columns in order, lists of fixed length taken apart
    types: dict[str, pa.DataType]
    num_rows: int | None  # None where only reading counts them (CSV, Arrow streams)
    size_bytes: int  # on disk, over all files, or in memory
    fingerprint: str
    files: tuple[tuple[Path, TableFile], ...]
    lists: dict[str, tuple[str, int]]  # element column: its list column and place in it

    @property
    def place(self) -> str | None:
        """Absolute path, or None in memory."""
        return None if self.path is IN_MEMORY else os.path.abspath(self.path)

    def batches(self, columns: Sequence[str] | None = None) -> Batches:
        """Record batches in file order, all of the same number of rows but the last.

        Args:
            columns: names to read, all by default; batches hold them in this order.

        Raises:
            DataError: the file is truncated or corrupt, or a value does not fit its column.
        """
        wanted = list(self.names if columns is None else columns)
        rows = batch_rows([self.types[name] for name in wanted])
        stored = list(dict.fromkeys(self.lists.get(name, (name, 0))[0] for name in wanted))
        for batch in rebatched(self._stored(stored, rows), rows):
            arrays = [self._column(batch, name) for name in wanted]
            yield pa.record_batch(arrays, names=wanted)

    def _stored(self, columns: list[str], rows: int) -> Batches:
        for path, file in self.files:
            with reading(path):
                for batch in file.read(columns, rows):
                    yield batch.select(columns)

    def _column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        if name not in self.lists:
            return batch.column(name)
        parent, place = self.lists[name]
        return pc.list_element(batch.column(parent), place)


def open_table(path: str | os.PathLike[str] | Any, strings: Sequence[str] = ()) -> Table:
    """The table at `path`: its columns, and how to read its rows.

    Args:
        path: a file with one of the ENDINGS, a folder of such files, or a data frame.
        strings: columns of a CSV file to keep as written, whatever they look like.

    Raises:
        DataError: a missing, unreadable, corrupt or empty file, one of no known kind, or two
            columns of the same name.
        UsageError: neither a path nor a data frame.

    >>> import pyarrow as pa, pyarrow.parquet as pq, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), f"{folder}/t.parquet")
    ...     table = open_table(f"{folder}/t.parquet")
    ...     table.names, table.num_rows, next(table.batches(["y"])).to_pydict()
    (['x', 'y'], 2, {'y': [0, 1]})
    """
    if is_frame(path):
        frame, size, fingerprint = open_memory(path)
        return _assembled(IN_MEMORY, ((IN_MEMORY, frame),), size, fingerprint)
    path = path_of(path)
    files = tuple((file, _open(file, strings)) for file in _files(path))
    return _assembled(path, files, *_identity([file for file, _ in files]))


def _assembled(
    path: Path, files: tuple[tuple[Path, TableFile], ...], size: int, fingerprint: str
) -> Table:
    schema = _common_schema(files)
    types: dict[str, pa.DataType] = {}
    lists: dict[str, tuple[str, int]] = {}
    for field in schema:
        if pt.is_fixed_size_list(field.type) and is_number(field.type.value_type):
            for i in range(field.type.list_size):
                lists[f"{field.name}[{i}]"] = field.name, i
                types[f"{field.name}[{i}]"] = field.type.value_type
        else:
            types[field.name] = field.type
    counts = [file.num_rows for _, file in files if file.num_rows is not None]
    num_rows = sum(counts) if len(counts) == len(files) else None
    if num_rows == 0:
        raise DataError("the table has no rows", path=path, remedy="give a table with data")
    return Table(
        path=path,
        names=list(types),
        types=types,
        num_rows=num_rows,
        size_bytes=size,
        fingerprint=fingerprint,
        files=files,
        lists=lists,
    )


def batch_rows(types: Sequence[pa.DataType]) -> int:
    """Rows of a batch, few enough that wide tables stay within MAX_BATCH_BYTES."""
    row_bytes = sum(_width_bytes(kind) for kind in types)
    return max(256, min(MAX_BATCH_ROWS, MAX_BATCH_BYTES // max(row_bytes, 1)))


def _width_bytes(kind: pa.DataType) -> int:
    if pt.is_dictionary(kind):
        return 8
    if pt.is_primitive(kind) or pt.is_decimal(kind):
        return -(-kind.bit_width // 8)
    return 64  # strings: assumed


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        found = [
            entry
            for entry in sorted(path.iterdir())
            if _ending(entry) and not entry.name.startswith((".", "_")) and entry.is_file()
        ]
    except OSError as error:
        raise DataError(
            _reason(error), path=path, remedy="check the path and its permissions"
        ) from error
    if not found:
        raise DataError("no table in this folder", path=path, remedy=_ENDINGS_REMEDY)
    return found


_ENDINGS_REMEDY = f"tables end in {', '.join(ENDINGS)}"


def _ending(path: Path) -> str | None:
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def _open(path: Path, strings: Sequence[str]) -> TableFile:
    with reading(path):
        # Opening is the one test of readability that asks the system itself.
        with open(path, "rb") as file:
            empty = not file.read(1)
        ending = _ending(path)
        if ending is None:
            raise DataError("not a known kind of table", path=path, remedy=_ENDINGS_REMEDY)
        if empty:
            raise DataError("the file is empty", path=path, remedy="give a table with data")
        file = open_delimited(path, strings) if ending in CSV else _OPENERS[ending](path)
    refuse_duplicates(file.schema.names, path)
    return file


def _common_schema(files: tuple[tuple[Path, TableFile], ...]) -> pa.Schema:
    """The columns of the first file, which all files must have; null types come from later ones."""
    schema = files[0][1].schema
    for path, file in files[1:]:
        lacking = [name for name in schema.names if name not in file.schema.names]
        extra = [name for name in file.schema.names if name not in schema.names]
        if lacking or extra:
            raise DataError(
                f"{'lacks a' if lacking else 'has one more'} column than {files[0][0].name}",
                path=path,
                column=(lacking or extra)[0],
                remedy="give all files the same columns",
            )
        for i, field in enumerate(schema):
            if pt.is_null(field.type):
                schema = schema.set(i, file.schema.field(field.name))
    return schema


def _identity(files: list[Path]) -> tuple[int, str]:
    """Bytes of all files, and a hash of their paths, sizes and modification times."""
    states = [(os.path.abspath(file), os.stat(file)) for file in files]
    record = [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    digest = hashlib.sha256(json.dumps(record).encode("utf-8", "surrogateescape")).hexdigest()
    return sum(state.st_size for _, state in states), digest


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:160] or type(error).__name__


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the path to a DataError that has none."""
    try:
        yield
    except DataError as error:
        if error.path is not None:
            raise
        raise DataError(
            error.rule, path=path, column=error.column, row=error.row, remedy=error.remedy
        ) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises about the file at `path` into one clear DataError."""
    try:
        with named(path):
            yield
    except DataError:
        raise
    except MemoryError as error:
        raise CapacityError(f"{path}: memory ran out while reading") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(
            _reason(error), path=path, remedy="check the path and its permissions"
        ) from error
    except (
        pa.ArrowException, OSError, EOFError, ValueError, KeyError, UnicodeError,
        zlib.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise DataError(
            f"cannot be read: truncated, corrupt or not of the kind its name says "
            f"({_reason(error)})",
            path=path,
            remedy="write the file again or fetch a new copy",
        ) from error


def rebatched(batches: Batches, rows: int) -> Batches:
    """The same rows in batches of exactly `rows`, except the last; uncopied where they fit."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, rows - count)
            waiting.append(piece)
            start, count = start + piece.num_rows, count + piece.num_rows
            if count == rows:
                yield _joined(waiting)
                waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(pieces) == 1:
        return pieces[0]
    # Permissive: integers may have become floats on the way, and dictionaries may differ.
    parts = [pa.Table.from_batches([piece]) for piece in pieces]
    table = pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()
    return table.combine_chunks().to_batches()[0]
