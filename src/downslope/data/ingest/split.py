"""The split of a table's rows: at random, by the groups that rows belong to, or by time.

Each rule gives every row a number in [0, 1); rows below the share to hold out are held out.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from downslope.config import TableOptions
from downslope.data.ingest.arrow import compute as pc
from downslope.data.ingest.columns import encoded_strings, is_number, natural_kind, ticks
from downslope.data.ingest.roles import check_names
from downslope.data.ingest.tabular import Table, open_table
from downslope.data.ingest.words import hash_strings, mixed
from downslope.errors import DataError

_SAMPLE = 1 << 20  # moments that the border between training and held-out rows is taken from
_HASHES = 1 << 62
LAST = 1 - 2**-53  # the largest key


class Split(Protocol):
    """A rule of which rows are held out."""

    def keys(self, batch: pa.RecordBatch, start: int) -> np.ndarray:
        """Numbers [n] in [0, 1) of a batch's rows, the first of which has the number `start`."""
        ...


def split_of(table: Table, options: TableOptions) -> Split:
    """The rule that the options name.

    Raises:
        DataError: the column of times holds none.
    """
    if options.time_column is not None:
        return ByTime(options.time_column, _border(table, options.time_column, options.validation))
    if options.fold:
        return OneFold(options, *options.fold)
    return AtRandom(options.seed) if options.group is None else ByGroup(options.group, options.seed)


def fold_numbers(
    path: str | os.PathLike[str] | Any, options: TableOptions, num_folds: int
) -> np.ndarray:
    """Fold of every row of a table or a data frame, from 1 [n].

    Without groups every fold has the same number of rows, but for one.

    Raises:
        DataError: the table cannot be used.
        UsageError: a column that is named in two roles.

    Example:
        >>> found = fold_numbers(pa.table({"y": range(10)}), TableOptions(target="y"), 3)
        >>> np.bincount(found).tolist()
        [0, 3, 4, 3]
    """
    table, start, found = open_table(path), 0, [np.zeros(0, np.int64)]
    check_names(table, options)
    for batch in table.batches([options.group or str(options.target)]):
        found.append(folds_of(batch, start, options, num_folds))
        start += batch.num_rows
    return np.concatenate(found)


def folds_of(
    batch: pa.RecordBatch, start: int, options: TableOptions, num_folds: int
) -> np.ndarray:
    """Folds [n] of a batch's rows, from 1: dealt in random order, or by the hash of a group."""
    count = batch.num_rows
    if options.group is not None:
        keys = ByGroup(options.group, options.seed).keys(batch, start)
        return 1 + np.minimum((keys * num_folds).astype(np.int64), num_folds - 1)
    first = start - start % num_folds  # of each row of so many, one is in every fold
    rounds = -(-(start + count - first) // num_folds)
    keys = row_keys(first, rounds * num_folds, options.seed).reshape(rounds, num_folds)
    return 1 + keys.argsort(axis=1).ravel()[start - first :][:count]


class AtRandom:
    """Every row by itself, a pure function of the seed and the row's number."""

    def __init__(self, seed: int):
        self._seed = seed

    def keys(self, batch: pa.RecordBatch, start: int) -> np.ndarray:
        """See `Split`."""
        return row_keys(start, batch.num_rows, self._seed)


class ByGroup:
    """Rows with the same value of a column together; those without one each by itself."""

    def __init__(self, column: str, seed: int):
        self._column, self._seed = column, seed

    def keys(self, batch: pa.RecordBatch, start: int) -> np.ndarray:
        """See `Split`."""
        found = row_keys(start, batch.num_rows, self._seed)
        array = batch.column(self._column)
        if pa.types.is_null(array.type):
            return found
        words, indices = encoded_strings(array)
        named = indices >= 0
        hashes = hash_strings(words, _HASHES).astype(np.uint64)
        found[named] = _spread(hashes, self._seed)[indices[named]]
        return found


class OneFold:
    """The rows of one of several folds."""

    def __init__(self, options: TableOptions, number: int, num_folds: int):
        self._options, self._number, self._num_folds = options, number, num_folds

    def keys(self, batch: pa.RecordBatch, start: int) -> np.ndarray:
        """See `Split`."""
        folds = folds_of(batch, start, self._options, self._num_folds)
        return np.where(folds == self._number, 0.0, LAST)


class ByTime:
    """The latest rows are held out, those of one moment together."""

    def __init__(self, column: str, border: float):
        self._column, self._border = column, border

    def keys(self, batch: pa.RecordBatch, start: int) -> np.ndarray:
        """See `Split`."""
        return np.where(_moments(batch.column(self._column)) > self._border, 0.0, LAST)


def row_keys(start: int, count: int, seed: int) -> np.ndarray:
    """A number in [0, 1) for each row from number `start` on."""
    return _spread(np.arange(start, start + count, dtype=np.uint64), seed)


def _spread(values: np.ndarray, seed: int) -> np.ndarray:
    salt = int(np.random.SeedSequence([seed, 0x5E1D]).generate_state(1, np.uint64)[0])
    return (mixed(mixed(values + np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(salt)) >> 11) / 2.0**53


def _moments(array: pa.Array) -> np.ndarray:
    """Numbers or times as float64, NaN where missing."""
    kind = natural_kind(array.type)
    if kind in ("timestamp", "time", "duration"):
        array = ticks(array, kind, "us")
    return pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _border(table: Table, column: str, share: float) -> float:
    """The moment after which about this share of the rows lies."""
    if not (is_number(table.types[column]) or pa.types.is_temporal(table.types[column])):
        raise DataError(
            f"values of type {table.types[column]} are no times",
            column=column,
            remedy="give a column of dates, times or numbers",
        )
    parts = [_moments(batch.column(0)) for batch in table.batches([column])]
    found = np.concatenate(parts) if parts else np.zeros(0)
    found = np.sort(found[np.isfinite(found)][:: max(1, len(found) // _SAMPLE)])
    if not len(found) or found[0] == found[-1]:
        raise DataError(
            "all rows are of one moment", column=column, remedy="leave out --time-column"
        )
    border = float(found[min(len(found) - 1, int((1 - share) * len(found)))])
    if border == found[-1]:  # of the last moment are more rows than are asked for
        border = float(found[found < border][-1])
    return border
