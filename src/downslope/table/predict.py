"""Predictions for a table from a trained run, streamed in the table's order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from downslope import UsageError
from downslope.data.output import check_writable, write_parquet
from downslope.data.stored import TableBatch
from downslope.launch.memory import memory_errors
from downslope.table.calibration import predicted_classes, probabilities
from downslope.table.model import TableModel
from downslope.table.rows import encoded_batches
from downslope.table.run import trained_model

PARQUET = (".parquet", ".pq")
ROWS = 8192  # predicted in one call; the last one is padded


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Number of rows predicted, and what they held that training had not seen.

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
    """Predict every row of a table, in its order, into a Parquet file or in memory.

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
        >>> from downslope import ModelOptions, TableOptions
        >>> from downslope.table.fit import fit
        >>> x = np.random.default_rng(0).normal(size=1000)
        >>> frame, run = pa.table({"x": x, "y": 2 * x}), os.path.join(tempfile.mkdtemp(), "run")
        >>> _ = fit(frame, TableOptions(target="y"), ModelOptions(model="linear"), out=run)
        >>> predict(run, pa.table({"x": [1.5]})).table["prediction"].to_numpy().round(3)
        array([3.])
    """
    if out is not None and Path(out).suffix.lower() not in PARQUET:
        raise UsageError(
            f"predictions are written as Parquet; name the file {Path(out).stem}.parquet, not {out}"
        )
    trained = trained_model(run)
    model, schema = trained.model, _schema(trained.model)
    if out is not None:
        check_writable(Path(out), overwrite=overwrite)
    unseen: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    outputs = outputs_of(model, trained.params, path)

    def batches() -> Iterator[pa.RecordBatch]:
        for values, found in outputs:
            unseen.update(found.categories)
            missing.update(found.missing)
            yield _to_arrow(model, schema, values, trained.calibration)

    table = None
    with memory_errors():
        if out is None:
            table = pa.Table.from_batches(batches(), schema)
            count = table.num_rows
        else:
            count = write_parquet(out, schema, batches(), overwrite=overwrite)
    return Predicted(num_rows=count, unseen=dict(unseen), missing=dict(missing), table=table)


def outputs_of(model: TableModel, params: Any, path: Any) -> Iterator[tuple[np.ndarray, Any]]:
    """Outputs of a table model for a table or a data frame, batch by batch, in its order.

    Yields:
        Outputs [n, K], or [n] for a single one; and the counts of what training had not seen.

    Raises:
        DataError: the table cannot be used.
        MismatchError: columns are missing or of another type than in training.
    """
    numbers, params = model.encoding.num_numeric, jax.device_put(params)

    @jax.jit
    def forward(params: Any, rows: Any) -> Any:
        batch = TableBatch(rows[:, :numbers], rows[:, numbers:].astype("int32"), None, None)
        return model.outputs(params, batch)

    def padded(rows: np.ndarray) -> np.ndarray:
        found = np.zeros((ROWS, rows.shape[1]), np.float32)
        found[: len(rows)] = rows
        return found

    batches = encoded_batches(path, model.encoding)

    def outputs() -> Iterator[tuple[np.ndarray, Any]]:
        for rows, unseen, _ in batches:
            parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
            if parts:
                found = [np.asarray(forward(params, padded(part)))[: len(part)] for part in parts]
                yield np.concatenate(found), unseen

    return outputs()


def _schema(model: TableModel) -> pa.Schema:
    if model.encoding.task == "regress":
        return pa.schema([("prediction", pa.float64())])
    classes = model.encoding.classes
    fields = [("prediction", pa.array(list(classes)).type)]
    return pa.schema(fields + [(f"probability_{c}", pa.float64()) for c in classes])


def _to_arrow(
    model: TableModel, schema: pa.Schema, outputs: np.ndarray, calibration: Any
) -> pa.RecordBatch:
    if model.encoding.task == "regress":
        return pa.record_batch([model.in_target_unit(outputs)], schema=schema)
    # the class by the outputs themselves, as in evaluation: calibration may move the border
    labels = pa.array(list(model.encoding.classes)).take(pa.array(predicted_classes(outputs)))
    return pa.record_batch([labels, *probabilities(outputs, calibration).T], schema=schema)
