"""A table, looked at before training: is it sound, will it fit, how long will it take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

import downslope
from downslope import ModelOptions, TableOptions, Training, UsageError
from downslope.check.balance import class_balance, number_spread
from downslope.check.columns import constant_columns, many_categories, missing_values
from downslope.check.duplicates import duplicate_columns
from downslope.check.findings import Finding, by_severity
from downslope.check.leaks import leaking_columns
from downslope.check.order import Stretch, file_order
from downslope.check.overlap import (
    RowHashes,
    chance_of_equal_rows,
    hash_rows,
    joined_hashes,
    repeated_rows,
)
from downslope.check.sample import Category, Sample
from downslope.check.scale import input_condition, input_scale
from downslope.data.ingest.encoding import Encoding
from downslope.data.ingest.tabular import named, open_table
from downslope.data.stored import RowFile, StoredTable
from downslope.models import weights_only
from downslope.table.fit import choose_model
from downslope.train.resource_estimate import forecast

SAMPLE_ROWS = 200_000
SAMPLE_CELLS = 20_000_000  # 80 MB of float32
QUICK_ROWS = 20_000
QUICK_CELLS = 1_000_000
LEAST_ROWS = 1000  # of a sample, whatever the width
PASS_ROWS = 8_000_000  # training rows whose hashes are kept: 128 MB
PART_BYTES = 16 << 20
ORDER_ROWS = 200_000
ORDER_COLUMNS = 16
ORDER_BATCH = 128  # where the batch size is not a number

QUICK = ("target", "constant", "duplicates", "leaks")
CHECKS = (
    "target", "leaks", "overlap", "duplicates", "constant", "categories", "missing", "scale",
    "condition", "order", "memory", "pace",
)  # fmt: skip


def check_table(
    path: str | os.PathLike[str],
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
    *,
    only: Collection[str] | None = None,
    quick: bool = False,
) -> tuple[Finding, ...]:
    """What is to be known of a table, and of a run on it, before the first step.

    Args:
        path, table, model, training: as for `downslope.table.fit.fit`; the table is converted.
        only: names of checks, of `CHECKS`; all by default.
        quick: instead of all: the checks of `QUICK`, on a sample of 20,000 rows.

    Returns:
        One finding a check, the worst first.

    Raises:
        DataError: the table is missing, corrupt or unusable; a constant target is.
        UsageError: options that do not fit the table or each other, or a check of another name.

    Example:
        >>> import numpy as np, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "table.npz")
        >>> rng = np.random.default_rng(0)
        >>> y = rng.normal(size=500)
        >>> np.savez(path, age=rng.normal(size=500), paid=3 * y + 7, y=y)
        >>> for found in check_table(path, TableOptions(target="y"), only=["leaks", "missing"]):
        ...     print(found.severity, found.name)
        warning leaks
        fine missing
    """
    _check_names(only)
    stored = downslope.open(path, table)
    assert isinstance(stored, StoredTable)
    with contextlib.closing(stored):
        if quick:
            return quick_checks(stored, table, only=only)
        training = training or Training(seed=table.seed)
        look = _Look(stored, table, model or ModelOptions(), training, path)
        names = [name for name in CHECKS if only is None or name in only]
        return by_severity(finding for name in names for finding in look.check(name, names))


def quick_checks(
    stored: StoredTable, table: TableOptions, *, only: Collection[str] | None = None
) -> tuple[Finding, ...]:
    """The checks of `QUICK` on 20,000 random training rows of an open table, the worst first.

    Args:
        stored: the table; it stays open.
        table: the options that it was converted with.
        only: names of checks, of `QUICK`; all of them by default.

    Raises:
        UsageError: a check of another name.
    """
    _check_names(only, QUICK)
    rows, cells = QUICK_ROWS, QUICK_CELLS
    look = _Look(stored, table, ModelOptions(), Training(), None, max_rows=rows, max_cells=cells)
    names = [name for name in QUICK if only is None or name in only]
    return by_severity(finding for name in names for finding in look.check(name, names))


def worries(stored: StoredTable, table: TableOptions) -> list[Finding]:
    """What `quick_checks` warns of: said before training, which goes on."""
    return [f for f in quick_checks(stored, table) if f.severity in ("warning", "error")]


def _check_names(only: Collection[str] | None, known: tuple[str, ...] = CHECKS) -> None:
    wrong = [name for name in only or () if name not in known]
    if wrong or (only is not None and not only):
        got = ", ".join(wrong) or "none"
        raise UsageError(f"only must be checks of {', '.join(known)}; got {got}")


@dataclass
class _Look:
    """A table while it is looked at; what several checks need is read once."""

    stored: StoredTable
    table: TableOptions
    model: ModelOptions
    training: Training
    path: Any
    max_rows: int = SAMPLE_ROWS
    max_cells: int = SAMPLE_CELLS
    passes: dict[str, Any] = field(default_factory=dict)

    @property
    def encoding(self) -> Encoding:
        return self.stored.encoding

    @property
    def is_quick(self) -> bool:
        return self.path is None

    @cached_property
    def sample(self) -> Sample:
        return sample_of(self.stored, self.max_rows, self.max_cells)

    @cached_property
    def pass_over_rows(self) -> tuple[RowHashes, np.ndarray]:
        """Hashes of the training rows, and how many of each class there are."""
        return _pass(self.stored.train, self.encoding)

    def check(self, name: str, names: Collection[str]) -> tuple[Finding, ...]:
        """One check; of those made together the first gives all findings."""
        if name in ("memory", "pace"):
            together = tuple(n for n in ("memory", "pace") if n in names)
            return self._forecast(together) if name == together[0] else ()
        simple: dict[str, Callable[[Sample], Finding]] = {
            "leaks": leaking_columns, "duplicates": duplicate_columns,
            "categories": many_categories, "missing": missing_values, "scale": input_scale,
            "condition": input_condition,
        }  # fmt: skip
        if name in simple:
            return (simple[name](self.sample),)
        return (getattr(self, f"_{name}")(),)

    def _target(self) -> Finding:
        encoding, sample = self.encoding, self.sample
        if encoding.task == "regress":
            return number_spread(
                sample.y, encoding.target.name, scale=encoding.target_scale,
                num_rows=self.stored.num_train,
            )  # fmt: skip
        if self.is_quick:
            counts = np.bincount(sample.y.astype(np.int64), minlength=len(encoding.classes))
        else:
            counts = self.pass_over_rows[1]
        return class_balance(counts, encoding.classes, num_rows=self.stored.num_train)

    def _constant(self) -> Finding:
        return constant_columns(self.sample, left_out(self.stored, self.table))

    def _overlap(self) -> Finding:
        held = self.stored.held_out
        hashes = None if held is None else _pass(held, self.encoding)[0]
        return repeated_rows(
            self.pass_over_rows[0], hashes, chance=chance_of_equal_rows(self.sample),
            num_training=self.stored.num_train,
        )  # fmt: skip

    def _order(self) -> Finding:
        size = self.training.batch_size
        rows = size if isinstance(size, int) else ORDER_BATCH
        stretches = [_beginning(self.path, self.encoding)]
        if self.stored.num_train + self.stored.num_held_out > ORDER_ROWS:
            stretches += _held_out(self.stored)
        return file_order(stretches, rows, target=self.encoding.target.name)

    def _forecast(self, subjects: tuple[str, ...]) -> tuple[Finding, ...]:
        chosen = choose_model(self.encoding, self.model)
        return forecast(
            chosen.loss_fn, chosen.init(self.training.seed), self.stored.train, self.training,
            penalize=weights_only, holds_out=self.stored.held_out is not None, subjects=subjects,
        )  # fmt: skip


# --- reading -----------------------------------------------------------------------------


def sample_of(
    stored: StoredTable, max_rows: int = SAMPLE_ROWS, max_cells: int = SAMPLE_CELLS
) -> Sample:
    """Random training rows of a converted table: the first ones, since those are shuffled.

    Args:
        stored: the table.
        max_rows: most rows.
        max_cells: most numbers in all, though at least 1,000 rows are taken.
    """
    encoding = stored.encoding
    count = min(max_rows, max(LEAST_ROWS, max_cells // encoding.width), stored.num_train)
    rows = stored.train.read(0, count)
    batch = stored.train.unpack(rows)
    names, numbers = encoding.feature_names, encoding.num_numeric
    means, scales = np.zeros(numbers), np.ones(numbers)
    dense = [c for c in encoding.columns if c.kind not in ("category", "text")]
    place = {name: j for j, name in enumerate(names)}
    for column in dense:
        name = column.name if column.kind == "number" else f"{column.name} elapsed"
        if name not in place:  # of this time only the phases are used
            continue
        at = place[name]
        power = 2.0**column.exponent  # type: ignore[union-attr]
        means[at] = column.center + column.mean * power  # type: ignore[union-attr]
        scales[at] = column.scale * power  # type: ignore[union-attr]
    marked = [c for c in dense if c.indicator]  # type: ignore[union-attr]
    missing = {numbers - len(marked) + k: column.name for k, column in enumerate(marked)}
    coded = [c for c in encoding.columns if c.kind in ("category", "text")]
    slots = [
        (table.first_slot, column) for table, column in zip(encoding.tables, coded, strict=True)
        if column.kind == "category"
    ]  # fmt: skip
    return Sample(
        x=batch.x, names=names, missing=missing, means=means, scales=scales,
        codes=batch.codes[:, [slot for slot, _ in slots]],
        categories=[Category(c.name, len(c.values), c.hashed) for _, c in slots],  # type: ignore[union-attr]
        y=batch.y, target=encoding.target.name, classes=encoding.classes,
        num_rows=stored.num_train,
    )  # fmt: skip


def left_out(stored: StoredTable, table: TableOptions) -> dict[str, str]:
    """Columns that conversion has left out by itself, with the reason as its notes give it."""
    found = {}
    for name in stored.encoding.ignored:
        for why in ("is constant", "has no value in the training rows",
                    "has no words in the training rows"):  # fmt: skip
            if f"column {name!r} {why} and was left out" in stored.notes:
                found[name] = why
    return {k: v for k, v in found.items() if k not in table.ignore}


def _pass(rows: RowFile, encoding: Encoding) -> tuple[RowHashes, np.ndarray]:
    """One pass over at most PASS_ROWS rows: hashes, and counts of classes."""
    step = max(1, PART_BYTES // rows.row_bytes)
    counts = np.zeros(len(encoding.classes), np.int64)
    parts, stop = [], min(rows.num_rows, PASS_ROWS)
    for start in range(0, stop, step):
        part = rows.read(start, min(start + step, stop))
        features, target = part[:, : encoding.num_features], part[:, encoding.num_features]
        parts.append(hash_rows(features, target))
        if len(counts):
            counts += np.bincount(target.astype(np.int64), minlength=len(counts))
    return joined_hashes(parts), counts


def _beginning(path: Any, encoding: Encoding) -> Stretch:
    """The first rows of the file, as they stand: target and the first columns of numbers."""
    dense = [c.name for c in encoding.columns if c.kind == "number"][:ORDER_COLUMNS]
    target = encoding.target.name
    source = open_table(path, encoding.string_columns)
    arrays: list[Any] = []
    count = 0
    for batch in source.batches([*dense, target]):
        arrays.append(batch)
        count += batch.num_rows
        if count >= ORDER_ROWS:
            break
    with named(source.path):
        y = np.concatenate([_targets(encoding, batch.column(target)) for batch in arrays])
        columns = {
            name: np.concatenate([_numbers(batch.column(name)) for batch in arrays])
            for name in dense
        }
    used = ~np.isnan(y)
    whole = source.num_rows is not None and count >= source.num_rows
    return Stretch(
        rows=f"{'all' if whole else 'the first'} {count:,} rows of the file",
        target=y[used], is_class=encoding.task == "classify",
        columns={name: _standardised(column[used]) for name, column in columns.items()},
    )  # fmt: skip


def _targets(encoding: Encoding, array: Any) -> np.ndarray:
    """The target [n], classes numbered; NaN where missing."""
    if encoding.task == "regress":
        return _numbers(array)
    encoded = array.dictionary_encode() if hasattr(array, "dictionary_encode") else array
    known = {value: place for place, value in enumerate(encoding.classes)}
    numbers = [known.get(value, np.nan) for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    return np.append(numbers, np.nan)[codes.astype(np.int64)]


def _numbers(array: Any) -> np.ndarray:
    return np.array(
        array.cast("float64", safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
    )


def _standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0 and spread 1, missing ones at the mean."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values))
    middle = known.mean()
    spread = np.abs(known - middle).max()
    return np.nan_to_num((values - middle) / (spread or 1.0), nan=0.0)


def _held_out(stored: StoredTable) -> list[Stretch]:
    """Held-out rows in the order of the file, over the whole of it."""
    rows = stored.held_out
    if rows is None:
        return []
    encoding, count = stored.encoding, rows.num_rows
    step = max(1, PART_BYTES // rows.row_bytes)
    names = encoding.feature_names[:ORDER_COLUMNS]
    # evenly spaced stretches where there are too many: each keeps its neighbours
    size = min(count, 4096)
    starts = np.arange(0, count, size)
    if count > ORDER_ROWS:
        starts = starts[:: -(-count // ORDER_ROWS)]
    parts = []
    for start in starts.tolist():
        for low in range(start, min(start + size, count), step):
            part = rows.read(low, min(low + step, start + size, count))
            parts.append(part[:, [*range(len(names)), encoding.num_features]].copy())
    values = np.concatenate(parts).astype(np.float64)
    share = count / (count + stored.num_train)
    return [
        Stretch(
            rows=f"{len(values):,} held-out rows, {100 * share:.2g} % of the file, in its order",
            target=values[:, -1], is_class=encoding.task == "classify",
            columns={name: values[:, j] for j, name in enumerate(names)},
        )
    ]  # fmt: skip
