"""Cross-validation: a model for every fold of the rows, judged on the rows that it has not seen."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from downslope import ModelOptions, StopReason, TableOptions, Training, UsageError
from downslope.arguments import whole
from downslope.data.ingest.split import fold_numbers
from downslope.data.ingest.tabular import named, open_table
from downslope.data.output import write_parquet
from downslope.metrics import ClassificationMetrics, QuantileMetrics, RegressionMetrics, Results
from downslope.table.fit import fit
from downslope.table.model import TableModel
from downslope.table.predict import predict
from downslope.table.rows import as_numbers, target_values
from downslope.train.run_folder import check_free

PREDICTIONS = "out_of_fold.parquet"


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """Predictions of every row by a model that has not seen it, and their metrics.

    Attributes:
        num_folds: models trained.
        metrics: over all rows with a target, weighted as the rows are. Their intervals are those of
            the rows, for the models trained: another split would give others.
        predictions: the Arrow table that `predict` gives, with the column `fold`, from 1, in the
            order of the rows.
    """

    num_folds: int
    metrics: Results
    predictions: pa.Table

    def describe(self) -> str:
        """The scores, in lines for a person."""
        found = [f"{name} {estimate}" for name, estimate in self.metrics.items()]
        found += [f"{name}: {reason}" for name, reason in self.metrics.reasons.items()]
        return "\n".join(f"{self.num_folds} folds    {each}" for each in found)


def cross_validate(
    path: str | os.PathLike[str] | Any,
    table: TableOptions,
    model: ModelOptions | None = None,
    training: Training | None = None,
    *,
    num_folds: int = 5,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> CrossValidation:
    """Train a model for every fold of a table's rows, and judge each on its own fold.

    A fold is held out as the share `validation` is in a single run: it also chooses between models
    and ends the training of its own, which flatters scores a little.

    Args:
        path, table, model, training: as for `downslope.table.fit.fit`. With `table.group` all rows
            of a group are in one fold.
        num_folds: 2 or more.
        out: new folder of the runs `fold-1` and so on, and of the predictions,
            `out_of_fold.parquet`; None keeps neither.
        say: called with one sentence after each fold.

    Raises:
        DataError: the table is missing, corrupt or unusable, or `out` exists.
        UsageError: options that do not fit the table or each other; fewer rows than folds.

    Example:
        >>> x = np.random.default_rng(0).normal(size=400)
        >>> frame = pa.table({"x": x, "y": 2 * x})
        >>> linear = ModelOptions(model="linear")
        >>> found = cross_validate(frame, TableOptions(target="y"), linear, num_folds=4)
        >>> found.predictions.num_rows, found.metrics["r2"].value > 0.99
        (400, True)
    """
    folds = checked_folds(path, table, num_folds)
    if out is not None:
        check_free(Path(out))
    parts: list[pa.Table] = []
    trained: TableModel | None = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch if out is None else out)
        for number in range(1, num_folds + 1):
            run = folder / f"fold-{number}"
            asked = dataclasses.replace(table, fold=(number, num_folds))
            found = fit(path, asked, model, training, out=run)
            if found.result.stop_reason is StopReason.INTERRUPTED:
                raise KeyboardInterrupt
            trained = found.model
            predicted = predict(run, path).table
            assert predicted is not None
            parts.append(predicted.filter(pa.array(folds == number)))
            scores = found.result.validation or {}
            score = next((f"{name} {each}" for name, each in scores.items() if name != "loss"), "")
            say(f"fold {number} of {num_folds}: {score}; {found.result.stop_reason}")
    assert trained is not None
    order = np.argsort(np.argsort(folds, kind="stable"))
    predictions = pa.concat_tables(parts).take(pa.array(order))
    predictions = predictions.append_column("fold", pa.array(folds))
    if out is not None:
        write_parquet(Path(out) / PREDICTIONS, predictions.schema, predictions.to_batches())
    metrics = _metrics(path, table, trained, predictions)
    return CrossValidation(num_folds=num_folds, metrics=metrics, predictions=predictions)


def checked_folds(path: Any, table: TableOptions, num_folds: int) -> np.ndarray:
    """Fold of every row, from 1 [n].

    Raises:
        DataError: the table cannot be used.
        UsageError: options that leave no folds, or a fold without a row.
    """
    whole("num_folds", num_folds, least=2)
    if table.fold or table.time_column is not None:
        raise UsageError("folds are made of all rows; leave out fold and time_column")
    folds = fold_numbers(path, table, num_folds)
    if len(np.unique(folds)) < num_folds:
        what = f"{len(folds):,} rows" if table.group is None else f"the groups of {table.group!r}"
        raise UsageError(f"{what} do not fill {num_folds} folds; ask for fewer")
    return folds


def _metrics(path: Any, table: TableOptions, model: TableModel, predictions: pa.Table) -> Results:
    """Metrics of the predictions of all rows."""
    target, weight = _truth(path, table, model)
    known = np.isfinite(target)
    target, weight = target[known], None if weight is None else weight[known]
    columns = [column.to_numpy()[known] for column in predictions.drop(["fold"]).itercolumns()]
    unknown = np.zeros(len(target))
    if model.options.quantile:
        metrics: Any = QuantileMetrics(model.target_unit, model.options.quantile)
        metrics.add(unknown, np.stack(columns, axis=1), target, weight)
    elif model.encoding.task == "regress":
        metrics = RegressionMetrics(model.target_unit)
        metrics.add(unknown, columns[0], target, weight)
    else:
        metrics = ClassificationMetrics(model.num_classes, probabilities=not model.has_margins)
        p = columns[2] if model.num_classes == 2 else np.stack(columns[1:], axis=1)
        labels = target_values(model.encoding, pa.array(columns[0])) if model.has_margins else None
        if labels is None:
            metrics.add(unknown, p, target.astype(int), weight)
        else:  # classes are predicted by the margins, before their calibration
            sign = 2 * labels - 1 if p.ndim == 1 else labels[:, None] == np.arange(p.shape[1])
            metrics.add(
                unknown, None, target.astype(int), weight, scores=p - (sign < 0) + (sign > 0)
            )
    found = metrics.result()
    found.pop("loss", None)  # each model has a scale of its own
    return found


def _truth(
    path: Any, table: TableOptions, model: TableModel
) -> tuple[np.ndarray, np.ndarray | None]:
    """Targets and weights of all rows; NaN where a target is missing."""
    source = open_table(path, model.encoding.string_columns)
    names = [name for name in (model.encoding.target.name, table.weight) if name is not None]
    targets, weights = [], []
    with named(source.path):
        for batch in source.batches(names):
            targets.append(target_values(model.encoding, batch.column(names[0])))
            if table.weight is not None:
                weights.append(as_numbers(batch.column(table.weight)))
    return np.concatenate(targets), np.concatenate(weights) if weights else None
