"""CSV files: read as strings and converted here, so that an error can name column and row.

Arrow's own reader fixes each column's type from its first block and fails beyond repair when
a later value differs, without saying where. Strings cost it little more, and a batch
whose conversion fails can be widened (integers to floats) or searched for the culprit.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv

from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.formats import Batches, Opened
from downslope.errors import DataError

_BLOCK_BYTES = 1 << 22
_SEPARATORS = b",;\t|"
_RAGGED = re.compile(r"Row #(\d+): (Expected \d+ columns, got \d+)")  # in Arrow's message
# What stands for "no number here", as Arrow and pandas have it.
_NULLS = pa.array(sorted(pc_csv.ConvertOptions().null_values), pa.string())
_WIDER = {
    pa.null(): (pa.int64(), pa.float64()),
    pa.int64(): (pa.float64(),),
    pa.date32(): (pa.timestamp("s"), pa.timestamp("ns")),
    pa.timestamp("s"): (pa.timestamp("ns"),),
}


def open_delimited(path: Path, strings: Sequence[str] = ()) -> Opened:
    """A CSV file (or .tsv, either gzipped), with a header line.

    Args:
        path: the file.
        strings: columns to keep as they are written ("007" stays "007").
    """
    separator = _separator(path)
    with _ragged_row_named(path), _open(path, separator) as reader:
        schema = pa.schema(
            [(f.name, pa.string() if f.name in strings else f.type) for f in reader.schema]
        )
    for field in schema:
        if pa.types.is_binary(field.type):
            raise DataError("not UTF-8", path=path, column=field.name, remedy="save it as UTF-8")

    def read(columns: list[str], rows: int) -> Batches:
        del rows  # blocks of bytes set the size; the caller cuts them
        types = {name: schema.field(name).type for name in columns}
        first_row = 1
        with _ragged_row_named(path), _open(path, separator, columns) as reader:
            for batch in reader:
                yield _converted(batch, types, path, first_row)
                first_row += batch.num_rows

    return Opened(schema, None, read)


def _separator(path: Path) -> str:
    if ".tsv" in path.suffixes:
        return "\t"
    with pa.input_stream(str(path), compression="detect") as stream:
        line = stream.read(1 << 16).split(b"\n", 1)[0]
    counts = {line.count(mark): -at for at, mark in enumerate(_SEPARATORS)}
    best = max(counts)
    return chr(_SEPARATORS[-counts[best]]) if best else ","


def _open(
    path: Path, separator: str, columns: list[str] | None = None
) -> pc_csv.CSVStreamingReader:
    """Open Arrow's CSV reader, for all columns with inferred types or for some as strings."""
    convert = pc_csv.ConvertOptions()
    if columns is not None:
        # In strings only an empty field is missing: "NA" may be Namibia.
        convert = pc_csv.ConvertOptions(
            column_types={name: pa.string() for name in columns},
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
        )
    # No handler of invalid rows: one of Arrow's threads may be the last to release the reader, and
    # if that frees a Python object while the interpreter ends, the process aborts.
    return pc_csv.open_csv(
        path,
        # One thread: only then does Arrow know the numbers of rows. No slower (measured).
        read_options=pc_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pc_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=convert,
    )


@contextlib.contextmanager
def _ragged_row_named(path: Path) -> Iterator[None]:
    """Name the row when Arrow finds one with too many or too few fields."""
    try:
        yield
    except pa.ArrowInvalid as error:
        found = _RAGGED.search(str(error))
        if found is None:
            raise
        raise DataError(
            f"a row of another length ({found[2].lower()})",
            path=path,
            row=int(found[1]) - 1,  # the header is Arrow's row 1
            remedy="mend the row; fields that hold the separator must be quoted",
        ) from error


def _converted(
    batch: pa.RecordBatch, types: dict[str, pa.DataType], path: Path, first_row: int
) -> pa.RecordBatch:
    """The batch with its columns' types; `types` remembers what had to be widened."""
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_string(types[name]):
            found = _cast(array, types[name])
            if found is None:
                _raise_at_first_misfit(array, types[name], path, name, first_row)
                raise AssertionError("unreachable: some value did not fit")
            array, types[name] = found, found.type
        arrays.append(array)
    return pa.record_batch(arrays, names=batch.schema.names)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The strings as `kind`, or as a wider type; None if neither fits."""
    try:
        return pc.cast(array, kind) if kind != pa.null() else _all_null(array)
    except pa.ArrowInvalid:
        pass
    array = pc.utf8_trim_whitespace(array)
    array = pc.if_else(pc.is_in(array, value_set=_NULLS), pa.scalar(None, pa.string()), array)
    for candidate in (kind, *_WIDER.get(kind, ())):
        try:
            return pc.cast(array, candidate) if candidate != pa.null() else _all_null(array)
        except pa.ArrowInvalid:
            continue
    return None


def _all_null(array: pa.Array) -> pa.Array:
    if array.null_count < len(array):
        raise pa.ArrowInvalid("a value among nulls")
    return pa.nulls(len(array))


def _raise_at_first_misfit(
    array: pa.Array, kind: pa.DataType, path: Path, column: str, first_row: int
) -> None:
    start, stop = 0, len(array)  # the first misfit lies in [start, stop)
    while stop - start > 1:
        middle = (start + stop) // 2
        start, stop = (
            (start, middle)
            if _cast(array.slice(start, middle - start), kind) is None
            else (middle, stop)
        )
    value = array[start].as_py()
    so_far = "empty" if kind == pa.null() else f"of type {kind}"
    raise DataError(
        f"{value[:40]!r} where values so far were {so_far}",
        path=path,
        column=column,
        row=first_row + start,
        remedy="mend it, or read the column with --categorical, --text or --ignore",
    )
