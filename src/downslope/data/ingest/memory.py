"""A data frame as ingest reads a file: a schema, batches, and a fingerprint of its content."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from downslope.data.frames import arrow_table
from downslope.data.ingest.formats import Batches, Opened

_HASHED_ROWS = 1 << 16  # at once; a multiple of 8, so that slices of bitmaps begin at a byte


def open_memory(frame: Any) -> tuple[Opened, int, str]:
    """The frame opened for reading, its bytes in memory, and the hash of its content.

    Raises:
        DataError: the frame cannot be held by Arrow, or has no rows.
    """
    table = arrow_table(frame)
    table = table.replace_schema_metadata(None)  # pandas' notes, which batches need not carry

    def read(columns: list[str], rows: int) -> Batches:
        for batch in table.select(columns).to_batches(max_chunksize=rows):
            yield _with_plain_strings(batch)

    schema = pa.schema([(field.name, _plain(field.type)) for field in table.schema])
    return Opened(schema, table.num_rows, read), table.nbytes, _content_hash(table)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Strings in the layout that all of Arrow's functions take; polars hands over views."""
    if pt.is_string_view(kind):
        return pa.large_string()
    if pt.is_dictionary(kind) and pt.is_string_view(kind.value_type):
        return pa.dictionary(kind.index_type, pa.large_string(), kind.ordered)
    return kind


def _with_plain_strings(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch([_as_plain(c) for c in batch.columns], names=batch.schema.names)


def _as_plain(array: pa.Array) -> pa.Array:
    plain = _plain(array.type)
    if plain.equals(array.type):
        return array
    if pt.is_dictionary(array.type):
        words = array.dictionary.cast(plain.value_type)
        return pa.DictionaryArray.from_arrays(array.indices, words, ordered=plain.ordered)
    return array.cast(plain)


def _content_hash(table: pa.Table) -> str:
    """sha256 over names, types and values: not over how the columns are cut into chunks.

    What lies in memory where a value is missing does not count.
    """
    digest = hashlib.sha256()
    for field in table.schema:
        digest.update(f"{field.name!r} {_plain(field.type)};".encode("utf-8", "surrogatepass"))
    for start in range(0, table.num_rows, _HASHED_ROWS):
        for column in table.slice(start, _HASHED_ROWS).columns:
            pieces = [_values(chunk) for chunk in column.chunks]
            array = pa.concat_arrays(pieces)
            digest.update(np.packbits(np.asarray(array.is_null())).data)
            digest.update(pa.record_batch([array.drop_null()], names=[""]).serialize())
    return digest.hexdigest()


def _values(array: pa.Array) -> pa.Array:
    """The same values without a dictionary, and booleans as bytes."""
    array = _as_plain(array)
    if pt.is_dictionary(array.type):
        return array.dictionary_decode()
    return array.cast(pa.uint8()) if pt.is_boolean(array.type) else array
