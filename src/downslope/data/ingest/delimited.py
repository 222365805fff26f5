"""CSV files: read as strings and converted here, so that an error can name column and row.

Arrow's own reader fixes each column's type from its first block, and fails without saying where
when a later value differs. Strings cost it little more, and a batch whose conversion fails can be
widened (integers to floats) or searched for the value at fault.
"""

from __future__ import annotations

import bisect
import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv

from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.columns import is_number
from downslope.data.ingest.formats import Batches, TableFile
from downslope.data.ingest.numbers import may_be_numbers, parse_numbers
from downslope.errors import DataError

_BLOCK_BYTES = 1 << 22
_SEPARATORS = ",;\t|"
_RAGGED = re.compile(r"Row #(\d+): (Expected \d+ columns, got \d+)")  # in Arrow's message
# Missing numbers, as Arrow and pandas write them.
_NULLS = pa.array(sorted(pc_csv.ConvertOptions().null_values), pa.string())
_WIDER = {
    pa.null(): (pa.int64(), pa.float64()),
    pa.int64(): (pa.float64(),),
    pa.date32(): (pa.timestamp("s"), pa.timestamp("ns")),
    pa.timestamp("s"): (pa.timestamp("ns"),),
}


def open_delimited(path: Path, strings: Sequence[str] = ()) -> TableFile:
    """A CSV file (or .tsv, either gzipped) with a header line.

    Columns in `strings` are kept as they are written ("007" stays "007").
    """
    separator = _separator(path)
    with _ragged_row_named(path), _open(path, separator) as reader:
        schema = pa.schema(
            [(f.name, pa.string() if f.name in strings else f.type) for f in reader.schema]
        )
    for field in schema:
        if pa.types.is_binary(field.type):
            raise DataError("not UTF-8", path=path, column=field.name, remedy="save it as UTF-8")

    odd: dict[str, Counter[str]] = defaultdict(Counter)

    def read(columns: list[str], rows: int) -> Batches:
        del rows  # batches are blocks of bytes; the caller cuts them
        odd.clear()
        types = {name: schema.field(name).type for name in columns}
        first_row = 1
        with _ragged_row_named(path), _open(path, separator, columns) as reader:
            for batch in reader:
                yield _converted(batch, types, path, first_row, odd)
                first_row += batch.num_rows

    return TableFile(schema, None, read, odd)


def _separator(path: Path) -> str:
    if ".tsv" in path.suffixes:
        return "\t"
    header = _head(path).decode(_encoding(path), errors="replace").split("\n", 1)[0]
    header = re.sub(r'"[^"]*"', "", header)  # a name may hold another mark
    return max(_SEPARATORS, key=header.count)


def _head(path: Path) -> bytes:
    with pa.input_stream(str(path), compression="detect") as stream:
        return stream.read(1 << 16)


def _as_utf8(path: Path) -> Any:
    """The file, or its whole text anew where it is UTF-16, as Excel writes it.

    Arrow would call Python's decoder from a thread of its own; see `_open`.
    """
    if _encoding(path) == "utf-8":
        return path
    with pa.input_stream(str(path), compression="detect") as stream:
        return pa.BufferReader(stream.read().decode("utf-16").encode())


def _encoding(path: Path) -> str:
    """UTF-16 where the file's first bytes say so, else UTF-8."""
    return "utf-16" if _head(path).startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"


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
        _as_utf8(path),
        # One thread: only then does Arrow know the numbers of rows. No slower (measured).
        read_options=pc_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pc_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=convert,
    )


@contextlib.contextmanager
def _ragged_row_named(path: Path) -> Iterator[None]:
    """Name the row when Arrow finds one with too many or too few fields, or one too long."""
    try:
        yield
    except pa.ArrowInvalid as error:
        if "straddling" in str(error):
            raise DataError(
                f"a row of more than {_BLOCK_BYTES >> 20} MiB",
                path=path,
                remedy="shorten its cells, or check the quotes: one that is not closed runs on",
            ) from error
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
    batch: pa.RecordBatch,
    types: dict[str, pa.DataType],
    path: Path,
    first_row: int,
    odd: dict[str, Counter[str]],
) -> pa.RecordBatch:
    """The batch with its columns' types; a type that had to be widened is widened in `types`.

    A few odd cells among numbers become null, and are counted.
    """
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_string(types[name]):
            found = _cast(array, types[name])
            if found is None and is_number(types[name]):
                parsed = parse_numbers(array)
                if may_be_numbers(parsed):
                    found = parsed.values
                    odd[name].update(parsed.odd)
            if found is None:
                raise _misfit(array, types[name], path, name, first_row)
            array, types[name] = found, found.type
        arrays.append(array)
    return pa.record_batch(arrays, names=batch.schema.names)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The strings as `kind`, or as a wider type; None if neither fits."""
    found = _cast_exactly(array, kind)
    if found is not None:
        return found
    array = pc.utf8_trim_whitespace(array)
    array = pc.if_else(pc.is_in(array, value_set=_NULLS), pa.scalar(None, pa.string()), array)
    tried = (_cast_exactly(array, each) for each in (kind, *_WIDER.get(kind, ())))
    return next((found for found in tried if found is not None), None)


def _cast_exactly(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    if kind == pa.null():
        return pa.nulls(len(array)) if array.null_count == len(array) else None
    try:
        return pc.cast(array, kind)
    except pa.ArrowInvalid:
        return None


def _misfit(
    array: pa.Array, kind: pa.DataType, path: Path, column: str, first_row: int
) -> DataError:
    """The error for the first value that does not fit."""
    place = bisect.bisect_left(
        range(len(array)), True, key=lambda i: _cast(array.slice(0, i + 1), kind) is None
    )
    so_far = "empty" if kind == pa.null() else f"of type {kind}"
    return DataError(
        f"{array[place].as_py()[:40]!r} where values so far were {so_far}",
        path=path,
        column=column,
        row=first_row + place,
        remedy="mend it, or read the column with --categorical, --text or --ignore",
    )
