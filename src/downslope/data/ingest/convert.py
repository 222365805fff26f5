"""Conversion of a table, once, into shuffled rows of float32 and their encoding.

One pass over the table learns the encoding and writes raw rows into random buckets: decoding is
costly and happens once. A second pass transforms the rows of each bucket, permutes them and
appends them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from downslope.config import TableOptions
from downslope.data.ahead import ReadAhead
from downslope.data.ingest.buckets import BUCKET_BYTES, MAX_BUCKETS, Buckets, write_all
from downslope.data.ingest.encoding import Encoding, row_transform
from downslope.data.ingest.learn import Learner, Placement, learner_for
from downslope.data.ingest.numbers import described
from downslope.data.ingest.roles import check_names, column_kind
from downslope.data.ingest.split import split_of
from downslope.data.ingest.tabular import Table, named
from downslope.data.ingest.target import RAW_SLOTS, TargetLearner, TargetTransform, WeightLearner
from downslope.data.ingest.transform import RowTransform
from downslope.data.stored import ENCODING, FORMAT, HELD_OUT, TABLE, TRAIN, StoredTable
from downslope.errors import DataError, UsageError
from downslope.storage import atomic_folder, write_json

_THREADS = 2  # the second pass is bound by memory, not by cores
_CHUNK_ROWS = 1 << 13  # rows transformed at once: 2 MiB of 64 columns fit into a cache
_TILE_ROWS = 1 << 10  # rows transposed at once
# Columns a power of two apart share the lines of a cache: transposing took 2.4 times as long
# without these 64 bytes between them (measured).
_PAD = 16


def fingerprint(table: Table, options: TableOptions) -> str:
    """A sha256 of everything that decides the converted rows."""
    asked = dataclasses.asdict(options)
    if not options.fold:  # as before there were folds
        del asked["fold"]
    record = [FORMAT, table.fingerprint, asked]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def convert(
    table: Table, options: TableOptions, folder: str | os.PathLike[str], *, replace: bool = False
) -> StoredTable:
    """Convert a table into a new folder of rows, which appears whole or not at all.

    Memory stays below about 600 MiB, whatever the number of rows.

    Raises:
        DataError: unusable content, or a folder that exists and is not to be replaced.
        CapacityError: the disk is full.
        UsageError: options that contradict each other.
    """
    with atomic_folder(folder, replace=replace) as scratch, named(table.path):
        Conversion(table, options, scratch).run()
    return StoredTable.open(folder)


class Conversion:
    """One conversion into the folder `scratch`."""

    def __init__(self, table: Table, options: TableOptions, scratch: Path):
        self.table, self.options, self.scratch = table, options, scratch
        self.notes: list[str] = []
        check_names(table, options)
        assert options.target is not None  # as was just checked
        self.target = TargetLearner(options.target, table.types[options.target], options.task)
        self.weight: WeightLearner | None = None
        if options.weight is not None:
            self.weight = WeightLearner(options.weight, table.types[options.weight])
        self.split = split_of(table, options)
        self.num_rows = self.num_held_out = self.num_train = 0
        self._columns = np.empty((0, 0), np.float32)

    def run(self) -> None:
        """Write all files."""
        options = self.options
        # a group tells nothing of rows of other groups
        taken = {options.target, options.weight, options.group, *options.ignore}
        features = [name for name in self.table.names if name not in taken]
        apart = (options.target, options.weight, options.group, options.time_column)
        columns = list(dict.fromkeys([*(name for name in apart if name is not None), *features]))
        with ReadAhead(self.table.batches(columns), 2) as ahead:
            batches = iter(ahead)
            first, second = next(batches, None), next(batches, None)
            if first is None:
                raise DataError("the table has no rows", remedy="give a table with data")
            self._begin(first, features)
            try:
                self._add(first, alone=second is None)
                rest = itertools.chain([second] if second is not None else [], batches)
                del first, second
                for batch in rest:
                    self._add(batch)
                self._write()
            finally:
                self.buckets.close()

    def _begin(self, first: pa.RecordBatch, features: list[str]) -> None:
        """Choose each column's kind, and the buckets, from the first rows."""
        learners: list[Learner] = []
        for name in features:
            kind = column_kind(name, self.table.types[name], first.column(name), self.options)
            if kind == "text" and name not in self.options.text:
                self.notes.append(
                    f"column {name!r} is read as text; --categorical {name} undoes it"
                )
            learners.append(learner_for(name, kind, self.table.types[name]))
        self.learners = sorted(learners, key=lambda learner: learner.coded)  # numbers first
        self.num_raw = sum(learner.num_raw for learner in self.learners)
        self.width = self.num_raw + RAW_SLOTS + 1
        num_buckets = -(-self._estimated_rows(first) * self.width * 4 // BUCKET_BYTES)
        self.num_buckets = min(max(num_buckets, 1), MAX_BUCKETS)
        # The last bucket is for held-out rows.
        self.buckets = Buckets(self.scratch / "buckets", self.width, self.num_buckets + 1)
        self.rng = np.random.Generator(np.random.Philox(key=[self.options.seed, 0xB0C]))

    def _estimated_rows(self, first: pa.RecordBatch) -> int:
        if self.table.num_rows is not None:
            return self.table.num_rows
        # With gzip, tables are up to about ten times smaller than in memory.
        return 10 * self.table.size_bytes * first.num_rows // max(first.nbytes, 1) + first.num_rows

    def _add(self, batch: pa.RecordBatch, alone: bool = False) -> None:
        first_row = self.num_rows + 1
        target = self.target.values(batch.column(self.options.target), first_row)
        weight = None
        if self.weight is not None:
            weight = self.weight.values(batch.column(self.options.weight), first_row)
        keys = self.split.keys(batch, first_row - 1)
        place, counts = self._place(~np.isnan(target), keys, first_row, alone)
        self.num_rows += batch.num_rows
        if not len(place.order):
            return
        raw = self._scratch_columns(len(place.order))
        at = 0
        for learner in self.learners:
            learner.read(batch.column(learner.name), place, raw[at : at + learner.num_raw])
            at += learner.num_raw
        self.target.learn(target, place)
        raw[at : at + RAW_SLOTS] = target[place.order].view(np.float32).reshape(-1, RAW_SLOTS).T
        raw[at + RAW_SLOTS] = 1
        if self.weight is not None and weight is not None:
            self.weight.learn(weight, place)
            raw[at + RAW_SLOTS] = weight[place.order]
        self.buckets.add(transposed(raw), counts)

    def _scratch_columns(self, num_rows: int) -> np.ndarray:
        """Uninitialised float32 [width, num_rows], in the same memory for each batch."""
        if self._columns.shape[1] < num_rows + _PAD:
            self._columns = np.empty((self.width, num_rows + _PAD), np.float32)
        return self._columns[:, :num_rows]

    def _place(
        self, usable: np.ndarray, keys: np.ndarray, first_row: int, alone: bool
    ) -> tuple[Placement, np.ndarray]:
        """The order in which to write the usable rows, and the number for each bucket."""
        share = self.options.held_out_share
        held_out = usable & (keys < share)
        if alone and share > 0 and np.count_nonzero(usable) > 1:
            keys = np.where(usable, keys, np.nan)  # at least one row in each part
            # rows of a group stay together
            held_out |= keys == np.nanmin(keys)
            held_out &= keys != np.nanmax(keys)
        bucket = np.zeros(len(usable), np.uint16)
        if self.num_buckets > 1:
            bucket = self.rng.integers(self.num_buckets, size=len(usable), dtype=np.uint16)
        bucket[held_out] = self.num_buckets
        rows = np.flatnonzero(usable)
        bucket = bucket[rows]
        counts = np.bincount(bucket, minlength=self.num_buckets + 1)
        order = rows[np.argsort(bucket, kind="stable")]
        num_held_out = int(counts[-1])
        self.num_held_out += num_held_out
        self.num_train += len(order) - num_held_out
        return Placement(order, len(order) - num_held_out, first_row), counts

    def _write(self) -> None:
        """Write the transformed rows, the encoding and the record of the conversion."""
        self._check_counts()
        self._check_odd_cells()
        task, target, target_transform = self.target.result(self.notes)
        weight_scale = self.weight.scale() if self.weight else 1.0
        learned, at = [], 0
        for learner in self.learners:
            found = learner.result(at, self.notes)
            learned += [found] if found is not None else []
            at += learner.num_raw
        if not learned:
            raise DataError(
                "no column is left to learn from",
                path=self.table.path,
                remedy="give columns beside the target that vary",
            )
        used = {found.column.name for found in learned}
        encoding = Encoding(
            columns=tuple(found.column for found in learned),
            target=target,
            task=task,
            ignored=tuple(name for name in self.table.names if name not in used | {target.name}),
        )
        numeric = np.array([raw for found in learned for raw in found.kept], np.intp)
        codes = tuple(found.codes for found in learned if found.codes is not None)
        features = row_transform(encoding.dense, numeric, codes)
        self._write_rows(RowWriter(features, target_transform, weight_scale, self.num_raw))
        write_json(self.scratch / ENCODING, encoding.to_json())
        record = {
            "path": self.table.place,
            "options": dataclasses.asdict(self.options),
            "fingerprint": fingerprint(self.table, self.options),
            "num_train": self.num_train,
            "num_held_out": self.num_held_out,
            "notes": self.notes,
        }
        write_json(self.scratch / TABLE, record)

    def _check_odd_cells(self) -> None:
        """Note cells of number columns that are no numbers; refuse them in target and weight."""
        odd: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _, file in self.table.files:
            for name, cells in file.odd.items():
                odd[name].update(cells)
        for name, cells in odd.items():
            if name in (self.options.target, self.options.weight):
                raise DataError(
                    f"{next(iter(cells))[:40]!r} where other values are numbers",
                    column=name,
                    remedy="mend it, or leave it empty",
                )
            self.notes.append(described(cells, self.num_rows, name))

    def _check_counts(self) -> None:
        column = self.options.target
        if self.num_train + self.num_held_out == 0:
            raise DataError(
                "the target has no value in any row", column=column, remedy="choose another target"
            )
        if self.target.num_missing:
            self.notes.append(
                f"{self.target.num_missing:,} rows without a value of the target {column!r} were "
                "left out"
            )
        share = self.options.held_out_share
        if share and not self.num_held_out:
            if self.options.fold:
                number, of = self.options.fold
                raise UsageError(f"fold {number} of {of} has no row with a target; ask for fewer")
            if self.num_train > 1:
                raise UsageError(
                    f"validation {share:g} holds out none of "
                    f"{self.num_train:,} rows; give a larger share, or 0"
                )
            self.notes.append("one row only: none was held out for validation")

    def _write_rows(self, writer: RowWriter) -> None:
        starts = np.cumsum([0, *self.buckets.counts[: self.num_buckets]]).tolist()
        with open(self.scratch / TRAIN, "xb") as file:

            def write(bucket: int) -> None:
                # One generator a bucket, so that the order does not depend on threads.
                seeds = np.random.Philox(key=[self.options.seed, 0x5F1E], counter=[0, 0, 0, bucket])
                places = np.random.Generator(seeds).permutation(self.buckets.counts[bucket])
                writer.write(file.fileno(), starts[bucket], self.buckets.take(bucket, places))

            with ThreadPoolExecutor(_THREADS) as pool:
                for _ in pool.map(write, range(self.num_buckets)):
                    pass
            os.fsync(file.fileno())
        if self.num_held_out:
            with open(self.scratch / HELD_OUT, "xb") as file:
                at = 0
                for raw in self.buckets.pieces(self.num_buckets):
                    writer.write(file.fileno(), at, raw)
                    at += len(raw)
                os.fsync(file.fileno())
        self.buckets.close()


class RowWriter(NamedTuple):
    """The second stage for whole rows: features, target and weight."""

    features: RowTransform
    target: TargetTransform
    weight_scale: float
    target_at: int  # raw column of the target, which that of the weight follows

    def write(self, fd: int, first: int, raw: np.ndarray) -> None:
        """Write these rows, transformed, from row `first` of the file on."""
        at, weight_at = self.target_at, self.target_at + RAW_SLOTS
        out = np.empty((min(_CHUNK_ROWS, len(raw)), self.features.width + 2), np.float32)
        for start in range(0, len(raw), _CHUNK_ROWS):
            part = raw[start : start + _CHUNK_ROWS]
            rows = out[: len(part)]
            self.features(part, rows)
            target = np.ascontiguousarray(part[:, at:weight_at]).view(np.float64)[:, 0]
            rows[:, -2] = self.target(target)
            np.multiply(part[:, weight_at], np.float32(self.weight_scale), out=rows[:, -1])
            write_all(fd, rows, (first + start) * rows.shape[1] * 4)


def transposed(columns: np.ndarray) -> np.ndarray:
    """The float32 array [width, n] as [n, width] with contiguous rows."""
    rows = np.empty(columns.shape[::-1], np.float32)
    for start in range(0, len(rows), _TILE_ROWS):  # tiles that a cache holds
        rows[start : start + _TILE_ROWS] = columns[:, start : start + _TILE_ROWS].T
    return rows
