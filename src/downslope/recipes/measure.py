"""The noise of a table: of a run on it, or of a model before its first step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from typing import Any

import numpy as np

import downslope
from downslope import ModelOptions, TableOptions, Training
from downslope.data.ingest.encoding import Encoding
from downslope.data.ingest.tabular import named, open_table
from downslope.data.stored import StoredTable
from downslope.noise import Anatomy, Extras
from downslope.recipes.table import choose_model, request_of

ORDER_ROWS = 200_000  # rows in stored order that are tested for being sorted
ORDER_COLUMNS = 16
ROUNDING = 1e3  # rows of the sample are found again by their values to three decimals


def measure_run(run: str | os.PathLike[str], **options: Any) -> Anatomy:
    """The anatomy of the noise where a run on a table stands.

    Args:
        run: its folder; the table must still be where it was.
        options: `num_examples`, `sections`, `seconds`, `relative_error`, `miss_probability` as
            for `downslope.measure`.

    Raises:
        DataError: the folder is no run on a table, or the table cannot be read.
    """
    asked = request_of(run)
    path, table = asked["path"], TableOptions(**_tuples(asked["table"]))
    model = ModelOptions(**_tuples(asked["model"]))
    names = Training.__dataclass_fields__.keys()
    training = Training(**{k: v for k, v in asked["training"].items() if k in names})
    return _measure(path, table, model, training, run=run, **options)


def measure_table(
    path: str | os.PathLike[str],
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
    **options: Any,
) -> Anatomy:
    """The anatomy of the noise of a model of a table before its first step.

    Args:
        path, table, model, training: as for `downslope.recipes.table.fit`.
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
    sections: Collection[str] | None = None,
    **more: Any,
) -> Anatomy:
    stored = downslope.open(path, table)
    assert isinstance(stored, StoredTable)
    with contextlib.closing(stored):
        chosen = choose_model(stored.encoding, options)
        wants_order = sections is None or "order" in sections
        wants_rows = sections is None or "tails" in sections
        extras = Extras()
        if wants_order:
            extras = _order(path, stored)
        return downslope.measure(
            chosen.loss_fn,
            chosen.init(training.seed),
            stored.train,
            training=training,
            sections=sections,
            extras=extras,
            locate=(lambda rows: find_rows(path, stored.encoding, rows)) if wants_rows else None,
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
        parts.append(rows[:, : len(names)])
        targets.append(_codes(batch.column(target)))
        count += len(rows)
        if count >= ORDER_ROWS:
            break
    values, labels = np.concatenate(parts), np.concatenate(targets)
    visited = stored.train.unpack(stored.train.read(0, min(ORDER_ROWS, stored.num_train)))
    is_class = encoding.task == "classify"
    columns = {name: values[:, k] for k, name in enumerate(names)}
    return Extras(
        columns=columns if is_class else {**columns, f"target {target}": labels},
        labels=_numbered(labels) if is_class else None,
        visited={name: visited.x[:, k] for k, name in enumerate(names)}
        | {f"target {target}": visited.y},
    )


def _codes(array: Any) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels.astype(str), return_inverse=True)[1]


def find_rows(path: Any, encoding: Encoding, rows: np.ndarray) -> np.ndarray:
    """The numbers, from 0, of encoded rows [n, width] in the table that they came from.

    Found by their values, rounded; the first of equal rows is named, and -1 where a value lay
    on the edge of rounding.
    """
    width = encoding.num_numeric + encoding.num_codes_columns
    wanted: dict[bytes, list[int]] = {}
    for place, key in enumerate(_keys(rows[:, :width])):
        wanted.setdefault(key, []).append(place)
    found, count = np.full(len(rows), -1), 0
    source = open_table(path, encoding.string_columns)
    for batch in source.batches(list(encoding.names)):
        with named(source.path):
            part, _ = encoding.encode(batch, count + 1)
        for place, key in enumerate(_keys(part)):
            for row in wanted.pop(key, ()):
                found[row] = count + place
        count += len(part)
        if not wanted:
            break
    return found


def _keys(rows: np.ndarray) -> list[bytes]:
    whole = np.rint(np.nan_to_num(rows.astype(np.float64)) * ROUNDING).astype(np.int64)
    return [row.tobytes() for row in np.ascontiguousarray(whole)]


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
