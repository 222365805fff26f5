"""Predictions for a table from a trained run, streamed in the table's order."""

from __future__ import annotations

import functools
import operator
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from downslope import DataError, UsageError
from downslope.arguments import number
from downslope.data.output import check_writable, write_parquet
from downslope.data.stored import TableBatch
from downslope.launch.memory import memory_errors
from downslope.table.calibration import predicted_classes, probabilities
from downslope.table.model import LOG_LINKS, TableModel
from downslope.table.rows import encoded_batches
from downslope.table.run import TrainedModel, trained_model
from downslope.table.targets import TargetRuns

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
    interval: float | None = None,
    overwrite: bool = False,
) -> Predicted:
    """Predict every row of a table, in its order, into a Parquet file or in memory.

    Classes: `prediction`, and `probability_<class>` for each class. Numbers: `prediction`, and with
    an `interval` its ends, `lower` and `upper`; or `quantile_<level>` for each quantile. Of several
    targets each has these columns, with its name and `_` before theirs.

    Args:
        run: folder of a run that `downslope fit` made, or of the runs of several targets.
        path: a table or a data frame with at least the columns of training; the target is not
            needed.
        out: the file to write; it appears when it is complete. None keeps the predictions in
            memory, as the Arrow table `.table` (`.to_pandas()`, `polars.from_arrow`).
        interval: share of true values that the intervals of numbers cover, above 0 and below 1;
            None for no intervals. See `downslope.table.intervals`.
        overwrite: replace `out` if it exists.

    Raises:
        DataError: the table, the run or `out` cannot be used.
        UsageError: `out` does not end in .parquet; an interval out of range, of classes, or for
            which too few rows were held out.
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
    several = TargetRuns.open(run)
    if several is None:
        parts = [_Part.of(trained_model(run), path, interval)]
    else:
        parts = list(_parts(several, path, interval))
    if out is not None:
        check_writable(Path(out), overwrite=overwrite)
    schema = pa.schema([field for part in parts for field in part.schema])
    if len(parts) > 1 and len(set(schema.names)) < len(schema):
        raise UsageError("targets and classes give columns of one name; predict each run alone")
    batches = _side_by_side(parts, schema) if len(parts) > 1 else parts[0].batches
    table = None
    with memory_errors():
        if out is None:
            table = pa.Table.from_batches(batches, schema)
            count = table.num_rows
        else:
            count = write_parquet(out, schema, batches, overwrite=overwrite)
    unseen = functools.reduce(operator.or_, (part.unseen for part in parts))
    missing = functools.reduce(operator.or_, (part.missing for part in parts))
    return Predicted(num_rows=count, unseen=dict(unseen), missing=dict(missing), table=table)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Predictions of one target, batch by batch, and the counts that grow meanwhile."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    unseen: Counter[str]
    missing: Counter[str]

    @classmethod
    def of(
        cls, trained: TrainedModel, path: Any, interval: float | None, prefix: str = ""
    ) -> _Part:
        model = trained.model
        if interval is not None:
            _check_interval(interval, trained)
        schema = _schema(model, prefix, with_interval=interval is not None)
        unseen: Counter[str] = Counter()
        missing: Counter[str] = Counter()
        outputs = outputs_of(model, trained.params, path, with_spread=interval is not None)

        def batches() -> Iterator[pa.RecordBatch]:
            for values, read in outputs:
                for found in read:
                    unseen.update(found.categories)
                    missing.update(found.missing)
                if interval is None:
                    yield _to_arrow(model, schema, values, trained.calibration)
                else:
                    yield _with_interval(trained, schema, values, interval)

        return cls(schema=schema, batches=batches(), unseen=unseen, missing=missing)


def _parts(runs: TargetRuns, path: Any, interval: float | None) -> Iterator[_Part]:
    """Predictions of every target, intervals of those that are numbers."""
    unfinished = [name for name in runs.targets if not runs.is_finished(name)]
    if unfinished:
        remedy = f"go on with downslope fit --resume {runs.folder}"
        raise DataError(f"target {unfinished[0]!r} is not trained", path=runs.folder, remedy=remedy)
    models = {name: trained_model(run) for name, run in runs.runs.items()}
    are_numbers = [model.model.encoding.task == "regress" for model in models.values()]
    for (name, model), is_number in zip(models.items(), are_numbers, strict=True):
        asked = interval if is_number or not any(are_numbers) else None
        yield _Part.of(model, path, asked, prefix=f"{name}_")


def _side_by_side(parts: list[_Part], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The columns of all parts, whose batches have the same rows."""
    for each in zip(*(part.batches for part in parts), strict=True):
        columns = [column for batch in each for column in batch.columns]
        yield pa.record_batch(columns, schema=schema)


def outputs_of(
    model: TableModel, params: Any, path: Any, *, with_spread: bool = False
) -> Iterator[tuple[np.ndarray, Any]]:
    """Outputs of a table model for a table or a data frame, 8,192 rows at a time, in its order.

    Yields:
        Outputs [n, K], or [n] for a single one; and for each batch read since the last, the counts
        of what training had not seen. With `with_spread` outputs and how far members scatter,
        [n, 2].

    Raises:
        DataError: the table cannot be used.
        MismatchError: columns are missing or of another type than in training.
    """
    numbers, params = model.encoding.num_numeric, jax.device_put(params)

    @jax.jit
    def forward(params: Any, rows: Any) -> Any:
        batch = TableBatch(rows[:, :numbers], rows[:, numbers:].astype("int32"), None, None)
        if with_spread:
            return jnp.stack(model.outputs_and_spread(params, batch), axis=1)
        return model.outputs(params, batch)

    def at(rows: np.ndarray) -> np.ndarray:
        padded = np.zeros((ROWS, rows.shape[1]), np.float32)
        padded[: len(rows)] = rows
        return np.asarray(forward(params, padded))[: len(rows)]

    batches = encoded_batches(path, model.encoding)

    def outputs() -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        waiting, unseen = np.empty((0, model.encoding.num_features), np.float32), []
        for rows, found, _ in batches:
            waiting = np.concatenate([waiting, rows])
            unseen.append(found)
            while len(waiting) >= ROWS:
                yield at(waiting[:ROWS]), tuple(unseen)
                waiting, unseen = waiting[ROWS:], []
        if len(waiting):
            yield at(waiting), tuple(unseen)

    return outputs()


def _check_interval(interval: float, trained: TrainedModel) -> None:
    number("interval", interval, above=0, below=1)
    if trained.model.encoding.task == "classify":
        raise UsageError("intervals are of numbers; classes have probabilities")
    if trained.model.options.quantile:
        raise UsageError("the run predicts quantiles, which are intervals by themselves")
    if trained.intervals is None:
        raise UsageError("intervals need held-out rows; this run kept no errors of any")
    trained.intervals.half_widths(np.zeros(1), interval)


def _with_interval(
    trained: TrainedModel, schema: pa.Schema, values: np.ndarray, interval: float
) -> pa.RecordBatch:
    """Predictions with their intervals, from outputs and spreads [n, 2]."""
    model = trained.model
    assert trained.intervals is not None
    predicted = model.in_target_unit(values[:, 0])
    spread = model.spread_in_target_unit(predicted, values[:, 1].astype(np.float64))
    half = trained.intervals.half_widths(spread, interval)
    lower = predicted - half
    if model.loss in LOG_LINKS:  # of counts and amounts
        lower = np.maximum(lower, 0.0)
    return pa.record_batch([predicted, lower, predicted + half], schema=schema)


def _schema(model: TableModel, prefix: str, *, with_interval: bool) -> pa.Schema:
    if model.encoding.task == "regress":
        names = [f"quantile_{level:g}" for level in model.options.quantile]
        names = names or ["prediction", *(["lower", "upper"] if with_interval else [])]
        return pa.schema([(prefix + name, pa.float64()) for name in names])
    classes = model.encoding.classes
    fields = [(f"{prefix}prediction", pa.array(list(classes)).type)]
    return pa.schema(fields + [(f"{prefix}probability_{c}", pa.float64()) for c in classes])


def _to_arrow(
    model: TableModel, schema: pa.Schema, outputs: np.ndarray, calibration: Any
) -> pa.RecordBatch:
    if model.encoding.task == "regress":
        found = model.in_target_unit(outputs).reshape(len(outputs), -1)
        return pa.record_batch(list(found.T), schema=schema)
    # the class by the outputs themselves, as in evaluation: calibration may move the border
    labels = pa.array(list(model.encoding.classes)).take(pa.array(predicted_classes(outputs)))
    return pa.record_batch([labels, *probabilities(outputs, calibration).T], schema=schema)
