"""Gradient noise of a table: where a run stands, or of a model before its first step."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import numpy as np

import downslope
from downslope import ModelOptions, TableOptions, Training
from downslope.data.stored import StoredTable
from downslope.noise import Anatomy, Extras, check_sections
from downslope.table.model import choose_model
from downslope.table.rows import (
    ORDER_COLUMNS,
    ORDER_ROWS,
    encoded_batches,
    find_rows,
    stored_parts,
)
from downslope.table.run import opened, request_of
from downslope.train.run_folder import training_of


def measure_run(run: str | os.PathLike[str], **options: Any) -> Anatomy:
    """The anatomy of the noise where a run on a table stands.

    Args:
        run: its folder; the table must still be where it was.
        options: `num_examples`, `sections`, `seconds`, `relative_error`, `miss_probability` as
            for `downslope.measure`.

    Raises:
        DataError: the folder is no run on a table, or the table cannot be read.
        MismatchError: the table was changed since.
    """
    asked = request_of(run)
    return _measure(
        asked.path, asked.table, asked.model, training_of(run),
        run=run, fingerprint=asked.fingerprint, **options,
    )  # fmt: skip


def measure_table(
    path: str | os.PathLike[str],
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
    **options: Any,
) -> Anatomy:
    """The anatomy of the noise of a model of a table before its first step.

    Args:
        path, table, model, training: as for `downslope.table.fit.fit`.
        options: as for `measure_run`.

    Raises:
        DataError: the table is missing, corrupt or unusable.
        UsageError: options that do not fit the table or each other.
    """
    training = training or Training(seed=table.seed)
    return _measure(path, table, model or ModelOptions(), training, **options)


def _measure(
    path: Any,
    table: TableOptions,
    model: ModelOptions,
    training: Training,
    *,
    run: Any = None,
    fingerprint: str | None = None,
    sections: Collection[str] | None = None,
    **options: Any,
) -> Anatomy:
    check_sections(sections)
    with opened(path, table, fingerprint) as stored:
        chosen = choose_model(stored, model)
        wants_order = sections is None or "order" in sections
        return downslope.measure(
            chosen.loss_fn,
            chosen.init(training.seed),
            stored.train,
            training=training,
            run=run,
            penalize=chosen.penalized,
            sections=sections,
            extras=order_extras(path, stored) if wants_order else Extras(),
            locate=lambda rows: find_rows(path, stored.encoding, rows),
            **options,
        )


def order_extras(path: Any, stored: StoredTable, max_rows: int = ORDER_ROWS) -> Extras:
    """Columns and labels in the order of the file, and as training visits them."""
    encoding = stored.encoding
    names = [f"column {name}" for name in encoding.feature_names[:ORDER_COLUMNS]]
    target = f"target {encoding.target.name}"
    parts, targets, count = [], [], 0
    for batch in encoded_batches(path, encoding, with_target=True):
        parts.append(batch.rows[:, : len(names)].copy())  # not a view that keeps the other columns
        targets.append(batch.target)
        count += len(batch.rows)
        if count >= max_rows:
            break
    columns = dict(zip(names, np.concatenate(parts).T, strict=True))
    labels = np.concatenate(targets)
    visited = [
        np.column_stack([part.x[:, : len(names)], part.y])
        for part in map(
            stored.train.unpack, stored_parts(stored.train, 0, min(max_rows, stored.num_train))
        )
    ]
    is_class = encoding.task == "classify"
    return Extras(
        columns=columns if is_class else {**columns, target: labels},
        labels=np.nan_to_num(labels, nan=-1).astype(int) if is_class else None,
        visited=dict(zip([*names, target], np.concatenate(visited).T, strict=True)),
    )
