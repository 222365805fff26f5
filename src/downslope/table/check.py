"""Checks of a table before training: is it sound, will it fit, how long will it take."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from downslope import ModelOptions, TableOptions, Training, UsageError
from downslope.check.balance import class_balance, number_spread
from downslope.check.columns import constant_columns, many_categories, missing_values
from downslope.check.duplicates import duplicate_columns
from downslope.check.findings import Finding, by_severity
from downslope.check.leaks import leaking_columns
from downslope.check.order import file_order
from downslope.check.overlap import RowHashes, chance_of_equal_rows, repeated_rows
from downslope.check.sample import Sample
from downslope.check.scale import input_condition, input_scale
from downslope.data.stored import StoredTable
from downslope.table.model import choose_model
from downslope.table.rows import ORDER_ROWS
from downslope.table.run import opened
from downslope.table.sample import (
    first_stretch,
    hashes_and_classes,
    held_out_stretch,
    left_out,
    sample_of,
)
from downslope.table.training import settings_of
from downslope.train.resource_estimate import estimate_resources

SAMPLE_ROWS, SAMPLE_CELLS = 200_000, 20_000_000  # 80 MB of float32
QUICK_ROWS, QUICK_CELLS = 20_000, 1_000_000
ORDER_BATCH = 128  # where the batch size is not a number

OF_SAMPLE: dict[str, Callable[[Sample], Finding]] = {
    "leaks": leaking_columns, "duplicates": duplicate_columns, "categories": many_categories,
    "missing": missing_values, "scale": input_scale, "condition": input_condition,
}  # fmt: skip
RESOURCES = ("memory", "pace")
QUICK = ("target", "constant", "duplicates", "leaks")
CHECKS = (
    "target", "leaks", "overlap", "duplicates", "constant", "categories", "missing", "scale",
    "condition", "order", *RESOURCES,
)  # fmt: skip


def check_table(
    path: str | os.PathLike[str],
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
    *,
    only: Collection[str] | None = None,
) -> tuple[Finding, ...]:
    """Check a table, and a run on it, before the first step.

    Args:
        path, table, model, training: as for `downslope.table.fit.fit`; the table is converted.
        only: names of checks, of `CHECKS`; all by default.

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
    if only is not None and (not only or not set(only) <= set(CHECKS)):
        got = ", ".join(name for name in only if name not in CHECKS) or "none"
        raise UsageError(f"only must be checks of {', '.join(CHECKS)}; got {got}")
    names = [name for name in CHECKS if only is None or name in only]
    with opened(path, table) as stored:
        training = training or Training(seed=table.seed)
        checks = _Checks(stored, table, model or ModelOptions(), training, path)
        found = [checks.make(name) for name in names if name not in RESOURCES]
        return by_severity([*found, *checks.resources(tuple(n for n in names if n in RESOURCES))])


def quick_checks(stored: StoredTable, table: TableOptions) -> tuple[Finding, ...]:
    """The checks of `QUICK` on 20,000 random training rows of an open table, the worst first.

    Args:
        stored: the table; it stays open.
        table: the options that it was converted with.
    """
    checks = _Checks(stored, table, ModelOptions(), Training(), None, QUICK_ROWS, QUICK_CELLS)
    return by_severity(map(checks.make, QUICK))


@dataclass
class _Checks:
    """The checks of one table; what several of them need is read once."""

    stored: StoredTable
    table: TableOptions
    model: ModelOptions
    training: Training
    path: Any  # None for quick checks
    max_rows: int = SAMPLE_ROWS
    max_cells: int = SAMPLE_CELLS

    def __post_init__(self):
        self.encoding = self.stored.encoding

    @cached_property
    def sample(self) -> Sample:
        return sample_of(self.stored, self.max_rows, self.max_cells)

    @cached_property
    def training_rows(self) -> tuple[RowHashes, np.ndarray]:
        return hashes_and_classes(self.stored.train, self.encoding)

    def make(self, name: str) -> Finding:
        if name in OF_SAMPLE:
            return OF_SAMPLE[name](self.sample)
        return getattr(self, f"_{name}")()

    def resources(self, subjects: tuple[str, ...]) -> tuple[Finding, ...]:
        """Memory and time of the run, from one compiled program."""
        if not subjects:
            return ()
        chosen = choose_model(self.stored, self.model)
        return estimate_resources(
            chosen.loss_fn,
            chosen.init(self.training.seed),
            self.stored.train,
            settings_of(chosen, self.training, self.stored.num_train),
            penalize=chosen.penalized,
            holds_out=self.stored.held_out is not None,
            subjects=subjects,
        )

    def _target(self) -> Finding:
        encoding, y, num_rows = self.encoding, self.sample.y, self.stored.num_train
        if encoding.task == "regress":
            name, scale = encoding.target.name, encoding.target.scale
            return number_spread(y, name, scale=scale, num_rows=num_rows)
        if self.path is None:
            counts = np.bincount(y.astype(np.int64), minlength=len(encoding.classes))
        else:
            counts = self.training_rows[1]
        return class_balance(counts, encoding.classes, num_rows=num_rows)

    def _constant(self) -> Finding:
        return constant_columns(self.sample, left_out(self.stored, self.table))

    def _overlap(self) -> Finding:
        held = self.stored.held_out
        hashes = None if held is None else hashes_and_classes(held, self.encoding)[0]
        return repeated_rows(
            self.training_rows[0], hashes, chance=chance_of_equal_rows(self.sample),
            num_training=self.stored.num_train,
        )  # fmt: skip

    def _order(self) -> Finding:
        stored, size = self.stored, self.training.batch_size
        stretches = [first_stretch(self.path, self.encoding)]
        if stored.held_out is not None and stored.num_train + stored.num_held_out > ORDER_ROWS:
            stretches.append(held_out_stretch(stored.held_out, stored))
        rows = size if isinstance(size, int) else ORDER_BATCH
        return file_order(stretches, rows, target=self.encoding.target.name)
