"""Predictions for a table from a trained run, streamed, in the table's order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from downslope import DataError, UsageError, load_model, read_metadata
from downslope.data.ingest.tabular import named, open_table
from downslope.data.output import check_writable, write_parquet
from downslope.data.stored import TableBatch
from downslope.launch.memory import memory_errors
from downslope.table.calibration import probabilities
from downslope.table.fit import TableModel

PARQUET = (".parquet", ".pq")
ROWS = 8192  # predicted in one call; the last one is padded


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """How many rows were predicted, and what they held that training had not seen.

    Attributes:
        num_rows: rows predicted.
        unseen: rows with a category unknown to the model, by column.
        missing: rows with a value missing where training had none, by column.
        table: the predictions, where no file was asked for.
    """

    num_rows: int
    unseen: dict[str, int]
    missing: dict[str, int]
    table: pa.Table | None = None


def predict(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str] | Any,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
) -> Predicted:
    """One row of predictions for each row of a table, in its order: a Parquet file, or in memory.

    Classes: `prediction`, and `probability_<class>` for each class. Numbers: `prediction`.

    Args:
        run: folder of a run that `downslope fit` made.
        path: a table or a data frame with at least the columns of training; the target is not
            needed.
        out: the file to write; it appears when it is complete. None keeps the predictions in
            memory, as the Arrow table `.table` (`.to_pandas()`, `polars.from_arrow`).
        overwrite: replace `out` if it exists.

    Raises:
        DataError: the table, the run or `out` cannot be used.
        UsageError: `out` does not end in .parquet.
        MismatchError: columns are missing or of another type than in training.

    Example:
        >>> import numpy as np, os, pyarrow as pa, tempfile
        >>> from downslope import TableOptions
        >>> from downslope.table.fit import fit
        >>> x = np.random.default_rng(0).normal(size=1000)
        >>> frame, run = pa.table({"x": x, "y": 2 * x}), os.path.join(tempfile.mkdtemp(), "run")
        >>> _ = fit(frame, TableOptions(target="y"), out=run)
        >>> predict(run, pa.table({"x": [1.5]})).table["prediction"].to_numpy().round(3)
        array([3.])
    """
    if out is not None and Path(out).suffix.lower() not in PARQUET:
        raise UsageError(
            f"predictions are written as Parquet; name the file {Path(out).stem}.parquet, not {out}"
        )
    metadata = read_metadata(run)
    if metadata.get("recipe") != "table":
        raise DataError("was not trained on a table", path=run, remedy="predict with its own code")
    model = TableModel.from_json(metadata)
    params = load_model(run, model.init(0))
    if out is not None:
        check_writable(Path(out), overwrite=overwrite)
    encoding = model.encoding
    table = open_table(path, encoding.string_columns)
    encoding.check_columns(table)
    unseen: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    forward = _forward(model, params)

    def batches() -> Iterator[pa.RecordBatch]:
        row = 1
        for batch in table.batches(encoding.names):
            with named(table.path):
                rows, found = encoding.encode(batch, row)
            unseen.update(found.categories)
            missing.update(found.missing)
            row += batch.num_rows
            if batch.num_rows:
                yield _to_arrow(model, forward(rows), metadata.get("calibration"))

    found = None
    with memory_errors():
        if out is None:
            found = pa.Table.from_batches(batches(), _schema(model))
            count = found.num_rows
        else:
            count = write_parquet(out, _schema(model), batches(), overwrite=overwrite)
    return Predicted(num_rows=count, unseen=dict(unseen), missing=dict(missing), table=found)


def _forward(model: TableModel, params: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Outputs for encoded rows of any number, by one compiled program."""
    numbers = model.encoding.num_numeric

    @jax.jit
    def outputs(params: Any, rows: Any) -> Any:
        batch = TableBatch(rows[:, :numbers], rows[:, numbers:].astype("int32"), None, None)
        return model.outputs(params, batch)

    def forward(rows: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            padded = np.zeros((ROWS, rows.shape[1]), np.float32)
            padded[: len(part)] = part
            found.append(np.asarray(outputs(params, padded))[: len(part)])
        return np.concatenate(found)

    params = jax.device_put(params)
    return forward


def _class_type(classes: tuple[Any, ...]) -> pa.DataType:
    return pa.array(list(classes)).type


def _schema(model: TableModel) -> pa.Schema:
    if model.encoding.task == "regress":
        return pa.schema([("prediction", pa.float64())])
    classes = model.encoding.classes
    fields = [("prediction", _class_type(classes))]
    return pa.schema(fields + [(f"probability_{c}", pa.float64()) for c in classes])


def _to_arrow(model: TableModel, outputs: np.ndarray, calibration: Any) -> pa.RecordBatch:
    encoding = model.encoding
    if encoding.task == "regress":
        values = encoding.target_mean + encoding.target_scale * outputs.astype(np.float64)
        return pa.record_batch([values], schema=_schema(model))
    p = probabilities(outputs, calibration)
    # the class by the outputs themselves, as in evaluation: calibration may move the border
    chosen = (outputs > 0).astype(int) if outputs.ndim == 1 else outputs.argmax(axis=1)
    labels = pa.array(list(encoding.classes)).take(pa.array(chosen))
    return pa.record_batch([labels, *p.T], schema=_schema(model))
