"""A data frame read like a file: a schema, batches, and a fingerprint of its content."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from downslope.data.frames import arrow_table
from downslope.data.ingest.formats import Batches, TableFile

_HASHED_ROWS = 1 << 16  # at once; a multiple of 8, so that slices of bitmaps begin at a byte


def open_memory(frame: Any) -> tuple[TableFile, int, str]:
    """The frame opened for reading, its bytes in memory, and the hash of its content.

    Raises:
        DataError: a frame that Arrow cannot hold, or one without rows.
    """
    table = arrow_table(frame)
    schema = pa.schema([(field.name, _plain(field.type)) for field in table.schema])

    def read(columns: list[str], rows: int) -> Batches:
        chosen = pa.schema([schema.field(name) for name in columns])
        for batch in table.select(columns).to_batches(max_chunksize=rows):
            yield batch.cast(chosen)

    return TableFile(schema, table.num_rows, read), table.nbytes, _content_hash(table, schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Strings in the layout that all of Arrow's functions take; polars hands over views."""
    if pt.is_string_view(kind):
        return pa.large_string()
    if pt.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain(kind.value_type), kind.ordered)
    return kind


def _content_hash(table: pa.Table, schema: pa.Schema) -> str:
    """sha256 over names, types and values, whatever the chunks of the columns.

    What lies in memory where a value is missing does not count.
    """
    digest = hashlib.sha256()
    for field in schema:
        digest.update(f"{field.name!r} {field.type};".encode("utf-8", "surrogatepass"))
    for start in range(0, table.num_rows, _HASHED_ROWS):
        for column in table.slice(start, _HASHED_ROWS).cast(schema).columns:
            array = pa.concat_arrays([_values(chunk) for chunk in column.chunks])
            digest.update(np.packbits(np.asarray(array.is_null())).data)
            digest.update(pa.record_batch([array.drop_null()], names=[""]).serialize())
    return digest.hexdigest()


def _values(array: pa.Array) -> pa.Array:
    """The same values without a dictionary, and booleans as bytes."""
    if pt.is_dictionary(array.type):
        return array.dictionary_decode()
    return array.cast(pa.uint8()) if pt.is_boolean(array.type) else array
