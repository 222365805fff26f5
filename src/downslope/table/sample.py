"""Input of a table's checks: a sample, hashes of rows, stretches in the order of the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope import TableOptions
from downslope.check.order import Stretch
from downslope.check.overlap import RowHashes, hash_rows, joined_hashes
from downslope.check.sample import Category, Sample
from downslope.data.ingest.encoding import Encoding
from downslope.data.ingest.tabular import named, open_table
from downslope.data.stored import RowFile, StoredTable
from downslope.table.rows import (
    ORDER_COLUMNS,
    ORDER_ROWS,
    as_numbers,
    stored_parts,
    target_values,
)

MIN_ROWS = 1000  # of a sample, whatever the width
HASHED_ROWS = 8_000_000  # training rows whose hashes are kept: 128 MB
RUN_ROWS = 4096  # held-out rows in a row, where only some are read
LEFT_OUT = (
    "is constant", "has no value in the training rows", "has no words in the training rows",
)  # fmt: skip


def sample_of(stored: StoredTable, max_rows: int, max_cells: int) -> Sample:
    """Random training rows of a converted table: the first ones, since those are shuffled.

    At most `max_rows` rows and `max_cells` numbers, but at least 1,000 rows.
    """
    encoding = stored.encoding
    count = min(max_rows, max(MIN_ROWS, max_cells // encoding.width), stored.num_train)
    batch = stored.train.unpack(stored.train.read(0, count))
    names, numbers = encoding.feature_names, encoding.num_numeric
    dense = encoding.dense
    place = {name: at for at, name in enumerate(names)}
    means, scales = np.zeros(numbers), np.ones(numbers)
    for column in dense:
        name = column.name if column.kind == "number" else f"{column.name} elapsed"
        if name in place:  # of some dates only the phases are used
            at = place[name]
            means[at] = column.center + column.mean * 2.0**column.exponent
            scales[at] = column.scale * 2.0**column.exponent
    marked = [column.name for column in dense if column.indicator]
    coded = [c for c in encoding.columns if c.kind in ("category", "text")]
    slots: list[Any] = [
        (table.first_slot, column)
        for table, column in zip(encoding.tables, coded, strict=True)
        if column.kind == "category"
    ]
    return Sample(
        x=batch.x, names=names, means=means, scales=scales,
        missing=dict(enumerate(marked, start=numbers - len(marked))),
        codes=batch.codes[:, [slot for slot, _ in slots]],
        categories=[Category(c.name, len(c.values), c.hashed) for _, c in slots],
        y=batch.y, target=encoding.target.name, classes=encoding.classes,
        num_rows=stored.num_train,
    )  # fmt: skip


def left_out(stored: StoredTable, table: TableOptions) -> dict[str, str]:
    """Columns that conversion left out by itself, with the reason that its notes give."""
    return {
        name: why
        for name in stored.encoding.ignored
        for why in LEFT_OUT
        if name not in table.ignore and f"column {name!r} {why} and was left out" in stored.notes
    }


def hashes_and_classes(rows: RowFile, encoding: Encoding) -> tuple[RowHashes, np.ndarray]:
    """Hashes of at most 8 million rows, and how many of them each class has."""
    counts, parts = np.zeros(len(encoding.classes), np.int64), []
    for part in stored_parts(rows, 0, min(rows.num_rows, HASHED_ROWS)):
        features, target = part[:, : encoding.num_features], part[:, encoding.num_features]
        parts.append(hash_rows(features, target))
        if len(counts):
            counts += np.bincount(target.astype(np.int64), minlength=len(counts))
    return joined_hashes(parts), counts


def first_stretch(path: Any, encoding: Encoding) -> Stretch:
    """The first rows of the file as they stand: the target and the first columns of numbers."""
    dense = [c.name for c in encoding.columns if c.kind == "number"][:ORDER_COLUMNS]
    target = encoding.target.name
    source = open_table(path, encoding.string_columns)
    batches: list[Any] = []
    count = 0
    for batch in source.batches([*dense, target]):
        batches.append(batch)
        count += batch.num_rows
        if count >= ORDER_ROWS:
            break
    with named(source.path):
        y = np.concatenate([target_values(encoding, batch.column(target)) for batch in batches])
        columns = {
            name: np.concatenate([as_numbers(batch.column(name)) for batch in batches])
            for name in dense
        }
    used = ~np.isnan(y)
    whole = source.num_rows is not None and count >= source.num_rows
    return Stretch(
        rows=f"{'all' if whole else 'the first'} {count:,} rows of the file",
        target=y[used], is_class=encoding.task == "classify",
        columns={name: _standardised(column[used]) for name, column in columns.items()},
    )  # fmt: skip


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values about their mean, over the largest distance from it; missing ones at the mean."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values))
    middle = known.mean()
    reach = np.abs(known - middle).max()
    return np.nan_to_num((values - middle) / (reach or 1.0), nan=0.0)


def held_out_stretch(rows: RowFile, stored: StoredTable) -> Stretch:
    """Held-out rows in the order of the file, over the whole of it."""
    encoding, count = stored.encoding, rows.num_rows
    names = encoding.feature_names[:ORDER_COLUMNS]
    # evenly spaced where there are too many: each row keeps its neighbours
    starts = range(0, count, min(count, RUN_ROWS))
    if count > ORDER_ROWS:
        starts = starts[:: -(-count // ORDER_ROWS)]
    kept = [*range(len(names)), encoding.num_features]
    parts = [
        part[:, kept].copy()
        for start in starts
        for part in stored_parts(rows, start, min(start + RUN_ROWS, count))
    ]
    values = np.concatenate(parts).astype(np.float64)
    share = count / (count + stored.num_train)
    return Stretch(
        rows=f"{len(values):,} held-out rows, {100 * share:.2g} % of the file, in its order",
        target=values[:, -1], is_class=encoding.task == "classify",
        columns={name: values[:, j] for j, name in enumerate(names)},
    )  # fmt: skip
