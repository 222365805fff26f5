"""Rows of a table: encoded in the order of the file, and stored rows piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from downslope.data.ingest.encoding import Encoding
from downslope.data.ingest.tabular import named, open_table
from downslope.data.stored import RowFile

ORDER_ROWS = 200_000  # rows whose order is examined
ORDER_COLUMNS = 16
PART_BYTES = 16 << 20  # of stored rows read at once
PROGRAM_ROWS = 4096  # evaluated at once
SAME = 1e-4  # difference up to which two stored values count as the same


class EncodedBatch(NamedTuple):
    """Some rows of a table, float32 [n, num_features] as in training.

    `unseen` counts categories and missing values that training did not have. The target [n] is in
    class numbers or in its own unit, NaN where missing; None where not asked for.
    """

    rows: np.ndarray
    unseen: Any
    target: np.ndarray | None


def encoded_batches(
    path: str | os.PathLike[str] | Any, encoding: Encoding, *, with_target: bool = False
) -> Iterator[EncodedBatch]:
    """The rows of a table or a data frame, batch by batch, in their order.

    Raises:
        DataError: the table cannot be used.
        MismatchError: columns are missing or of another type than in training.
    """
    source, target = open_table(path, encoding.string_columns), encoding.target.name
    encoding.check_columns(source)

    def batches() -> Iterator[EncodedBatch]:
        row = 1
        for batch in source.batches([*encoding.names, *([target] if with_target else [])]):
            with named(source.path):
                rows, unseen = encoding.encode(batch.select(list(encoding.names)), row)
                values = target_values(encoding, batch.column(target)) if with_target else None
            row += batch.num_rows
            yield EncodedBatch(rows, unseen, values)

    return batches()


def target_values(encoding: Encoding, array: pa.Array) -> np.ndarray:
    """A target column as class numbers, or as numbers in their own unit; NaN where missing."""
    if encoding.task == "regress":
        return as_numbers(array)
    if pa.types.is_decimal(array.type):  # classes are floats
        array = array.cast("float64", safe=False)
    encoded = array.dictionary_encode() if hasattr(array, "dictionary_encode") else array
    known = {value: place for place, value in enumerate(encoding.classes)}
    numbers = [known.get(value, np.nan) for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    return np.append(numbers, np.nan)[codes.astype(np.int64)]


def as_numbers(array: pa.Array) -> np.ndarray:
    """An Arrow column as float64; NaN where missing."""
    values = array.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return np.array(values, dtype=np.float64)


def stored_parts(rows: RowFile, start: int, stop: int) -> Iterator[np.ndarray]:
    """Stored rows `start` to `stop`, at most 16 MiB at a time."""
    step = max(1, PART_BYTES // rows.row_bytes)
    for low in range(start, stop, step):
        yield rows.read(low, min(low + step, stop))


def padded_parts(rows: RowFile) -> Iterator[tuple[np.ndarray, int]]:
    """All stored rows in parts of one size, for one compiled program, and how many of each count.

    The last part is filled up with its own rows.
    """
    size = min(PROGRAM_ROWS, rows.num_rows)
    for part in stored_parts(rows, 0, rows.num_rows):
        for start in range(0, len(part), size):
            held = part[start : start + size]
            yield np.resize(held, (size, part.shape[1])), len(held)


def find_rows(path: Any, encoding: Encoding, rows: np.ndarray) -> np.ndarray:
    """Numbers, from 0, of stored rows [n, width] in the table that they came from.

    Found by their values: the first of equal rows is named. -1 where a row is not found.
    """
    wanted = rows[:, : encoding.num_features + 1].astype(np.float64)  # with the target
    weigh = np.random.default_rng(0).uniform(0.5, 1.5, wanted.shape[1])
    sums, reach = wanted @ weigh, SAME * (1 + np.abs(wanted).sum(axis=1))
    found, count = np.full(len(rows), -1), 0
    for batch in encoded_batches(path, encoding, with_target=True):
        assert batch.target is not None
        target = (batch.target - encoding.target.mean) / encoding.target.scale
        part = np.column_stack([batch.rows, target]).astype(np.float64)
        part_sums = part @ weigh
        for row in np.flatnonzero(found < 0):
            near = np.flatnonzero(np.abs(part_sums - sums[row]) <= reach[row])
            same = near[(np.abs(part[near] - wanted[row]) <= SAME).all(axis=1)]
            if len(same):
                found[row] = count + same[0]
        count += len(part)
        if (found >= 0).all():
            break
    return found
