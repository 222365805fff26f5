"""The noise of a table: of a run on it, or of a model before its first step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

import downslope
from downslope import MismatchError, ModelOptions, TableOptions, Training, read_request
from downslope.data.ingest.encoding import Encoding
from downslope.data.ingest.tabular import named, open_table
from downslope.data.stored import StoredTable
from downslope.models import weights_only
from downslope.noise import Anatomy, Extras, check_sections
from downslope.table.fit import choose_model, request_of
from downslope.train.run_folder import training_of

ORDER_ROWS = 200_000  # rows in stored order that are tested for being sorted
ORDER_COLUMNS = 16
PART_BYTES = 64 << 20  # of stored rows read at once
SAME = 1e-4  # difference up to which two stored values count as the same


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
    path, table = asked["path"], TableOptions(**_tuples(asked["table"]))
    model = ModelOptions(**_tuples(asked["model"]))
    return _measure(path, table, model, training_of(Path(run)), run=run, **options)


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
    options: ModelOptions,
    training: Training,
    *,
    run: Any = None,
    sections: Collection[str] | None = None,
    **more: Any,
) -> Anatomy:
    check_sections(sections)
    stored = downslope.open(path, table)
    assert isinstance(stored, StoredTable)
    with contextlib.closing(stored):
        if run is not None and read_request(run)["data"] != stored.train.fingerprint:
            raise MismatchError(f"{run}: {path} was changed since the run began; put it back")
        chosen = choose_model(stored.encoding, options)
        wants_order = sections is None or "order" in sections
        extras = _order(path, stored) if wants_order else Extras()
        return downslope.measure(
            chosen.loss_fn,
            chosen.init(training.seed),
            stored.train,
            training=training,
            run=run,
            penalize=weights_only,
            sections=sections,
            extras=extras,
            locate=lambda rows: find_rows(path, stored.encoding, rows),
            **more,
        )


def _order(path: Any, stored: StoredTable) -> Extras:
    """Columns and labels in the file's order, and as training visits them."""
    encoding = stored.encoding
    names = [f"column {name}" for name in encoding.feature_names[:ORDER_COLUMNS]]
    parts, targets, count = [], [], 0
    source = open_table(path, encoding.string_columns)
    target = encoding.target.name
    for batch in source.batches([*encoding.names, target]):
        with named(source.path):
            rows, _ = encoding.encode(batch.select(list(encoding.names)), count + 1)
        parts.append(rows[:, : len(names)].copy())  # not a view that keeps the other columns
        targets.append(_codes(batch.column(target)))
        count += len(rows)
        if count >= ORDER_ROWS:
            break
    values, labels = np.concatenate(parts), np.concatenate(targets)
    visited = _visited(stored, len(names))
    is_class = encoding.task == "classify"
    columns = {name: values[:, k] for k, name in enumerate(names)}
    return Extras(
        columns=columns if is_class else {**columns, f"target {target}": labels},
        labels=_numbered(labels) if is_class else None,
        visited=dict(zip([*names, f"target {target}"], visited.T, strict=True)),
    )


def _visited(stored: StoredTable, num_columns: int) -> np.ndarray:
    """The first columns and the target of stored rows, in the order of training."""
    rows, count = stored.train, min(ORDER_ROWS, stored.num_train)
    step, parts = max(1, PART_BYTES // rows.row_bytes), []
    for start in range(0, count, step):
        part = rows.unpack(rows.read(start, min(start + step, count)))
        parts.append(np.column_stack([part.x[:, :num_columns], part.y]))
    return np.concatenate(parts)


def _codes(array: Any) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels.astype(str), return_inverse=True)[1]


def find_rows(path: Any, encoding: Encoding, rows: np.ndarray) -> np.ndarray:
    """The numbers, from 0, of stored rows [n, width] in the table that they came from.

    Found by their values: the first of equal rows is named. -1 where a row is not found.
    """
    wanted = rows[:, : encoding.num_features + 1].astype(np.float64)  # with the target
    weigh = np.random.default_rng(0).uniform(0.5, 1.5, wanted.shape[1])
    sums, reach = wanted @ weigh, SAME * (1 + np.abs(wanted).sum(axis=1))
    found, count = np.full(len(rows), -1), 0
    source = open_table(path, encoding.string_columns)
    for batch in source.batches([*encoding.names, encoding.target.name]):
        with named(source.path):
            part, _ = encoding.encode(batch.select(list(encoding.names)), count + 1)
        targets = _stored_targets(encoding, batch.column(encoding.target.name))
        part = np.column_stack([part, targets]).astype(np.float64)
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


def _stored_targets(encoding: Encoding, array: Any) -> np.ndarray:
    """A target as it is stored: the number of its class, or standardised; NaN where missing."""
    if encoding.task == "regress":
        raw = array.cast("float64", safe=False).to_numpy(zero_copy_only=False)
        return (raw - encoding.target_mean) / encoding.target_scale
    numbers = {value: place for place, value in enumerate(encoding.classes)}
    return np.array([numbers.get(value, np.nan) for value in array.to_pylist()], np.float64)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
