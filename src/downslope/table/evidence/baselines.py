"""The model beside two simpler ones: a constant, and a linear model by a solver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from downslope.data.stored import TableBatch
from downslope.estimate import Estimate
from downslope.metrics import pinball
from downslope.report.journal import Record
from downslope.table.evidence import linear
from downslope.table.evidence.context import Context, RowSample, Skipped
from downslope.table.evidence.intervals import ends, mean_of, root_of, share_of
from downslope.table.evidence.predictions import (
    counted,
    predicted_classes,
    probabilities_of,
)

MIN_PROBABILITY = float(np.finfo(np.float32).eps)  # as in the metric log_loss of an evaluation
LINEAR_TIME_SHARE = 0.4  # of the time left, for the linear model; assumed


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The mean over rows of a value, or its root, by which models are compared."""

    name: str
    unit: str
    is_root: bool = False
    levels: tuple[float, ...] = ()  # of quantiles

    @property
    def lower_is_better(self) -> bool:
        return self.name != "accuracy"

    def rows(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """The value of each row; `prediction` has probabilities, class numbers or numbers."""
        if self.levels:
            return pinball(truth[:, None] - prediction, np.array(self.levels)).mean(axis=1)
        if self.name == "log_loss":
            p = prediction[np.arange(len(truth)), truth.astype(int)]
            return -np.log(np.clip(p, MIN_PROBABILITY, 1.0))
        if self.name == "accuracy":
            return (truth == prediction).astype(np.float64)
        return (truth - prediction) ** 2 if self.is_root else abs(truth - prediction)

    def estimate(self, values: np.ndarray, weight: np.ndarray) -> Estimate:
        if self.name == "accuracy":
            return share_of(values, weight)
        found = mean_of(values, weight, low=0.0)
        return root_of(found) if self.is_root else found

    def gain(self, other: np.ndarray, values: np.ndarray, weight: np.ndarray) -> Estimate | None:
        """Gain of `values` over those of another model, row by row."""
        pair = other, values
        means = [float(np.average(v, weights=weight)) for v in pair]
        if self.is_root:
            if min(means) <= 0:
                return None
            roots = [math.sqrt(mean) for mean in means]
            # the root's first-order change with each row: of both, before the spread is taken
            parts = [r + (v - m) / (2 * r) for v, m, r in zip(pair, means, roots, strict=True)]
        else:
            parts = [*pair]
        better = parts[0] - parts[1]
        return mean_of(better if self.lower_is_better else -better, weight)


def baselines(context: Context) -> Record:
    """The held-out score of the model, of a trivial one and of a linear one, on the same rows."""
    sample, metric = context.held_out_sample(), metric_of(context)
    outputs = context.outputs(sample)
    truth, weight, ours = counted(sample, predictions_of(context, metric, outputs))
    truth = in_units(context, truth)
    train = _training_rows(context)
    constant, trivial_how = _trivial(context, metric, train)
    rows = {
        "model": metric.rows(truth, ours),
        "trivial": metric.rows(truth, np.broadcast_to(constant, (len(truth), *constant.shape))),
    }
    reason = None
    try:
        predicted, linear_how = _linear(context, metric, train, sample)
        rows["linear"] = metric.rows(truth, counted(sample, predicted)[2])
    except Skipped as why:
        linear_how, reason = f"none: {why}", str(why)
    found: Record = {name: ends(metric.estimate(each, weight)) for name, each in rows.items()}
    gains = {
        f"gain_over_{name}": metric.gain(rows[name], rows["model"], weight)
        for name in ("trivial", "linear")
        if name in rows
    }
    found |= {name: gain and ends(gain) for name, gain in gains.items()}
    return {
        "metric": metric.name, "unit": metric.unit, "lower_is_better": metric.lower_is_better,
        "num_rows": len(truth), "trivial_how": trivial_how, "linear_how": linear_how,
        "linear": None, "gain_over_linear": None, "reason": reason, **found,
    }  # fmt: skip


def metric_of(context: Context) -> Metric:
    """The metric nearest to the loss, in a unit that people know."""
    model = context.model
    if model.encoding.task == "classify":
        if model.has_margins:
            return Metric(name="accuracy", unit="share of rows")
        return Metric(name="log_loss", unit="nats")
    if levels := model.options.quantile:
        return Metric(name="quantile_loss", unit=model.target_unit, levels=levels)
    if model.loss in ("absolute", "huber"):
        return Metric(name="mae", unit=model.target_unit)
    return Metric(name="rmse", unit=model.target_unit, is_root=True)


def predictions_of(context: Context, metric: Metric, outputs: np.ndarray) -> np.ndarray:
    """Predictions as a metric takes them: probabilities, class numbers, or numbers in a unit."""
    if metric.name == "log_loss":
        return probabilities_of(context, outputs)
    if metric.name == "accuracy":
        return predicted_classes(outputs)
    if metric.levels:
        outputs = outputs.reshape(len(outputs), -1)
    return context.model.in_target_unit(outputs)


def in_units(context: Context, y: Any) -> Any:
    """Stored targets as a metric takes them: class numbers, or numbers in the target's unit."""
    encoding = context.model.encoding
    return y if encoding.task == "classify" else encoding.target.in_own_unit(y)


def _training_rows(context: Context) -> TableBatch:
    """The first training rows, which are in random order: as many as a linear fit is given."""
    rows, encoding = context.stored.train, context.model.encoding
    most = linear.MAX_CELLS // (encoding.width * max(1, len(encoding.classes)))
    count = min(rows.num_rows, linear.MAX_ROWS, max(1000, most))
    return rows.unpack(rows.read(0, count))


def _trivial(context: Context, metric: Metric, train: TableBatch) -> tuple[np.ndarray, str]:
    """One prediction for every row, from the training rows."""
    weight = np.asarray(train.weight, np.float64)
    y = np.asarray(train.y, np.float64)
    whole = len(y) == context.stored.num_train
    rows = "the training rows" if whole else f"{len(y):,} training rows"
    if metric.name in ("log_loss", "accuracy"):
        counts = np.bincount(y.astype(int), weight, len(context.model.encoding.classes))
        if metric.name == "accuracy":
            return np.asarray(counts.argmax()), f"the largest class of {rows}"
        return counts / counts.sum(), f"the class shares of {rows}"
    if metric.levels:
        middle = np.quantile(y, metric.levels, weights=weight, method="inverted_cdf")
        name = "quantiles"
    elif metric.is_root:
        middle, name = np.average(y, weights=weight), "mean"
    else:
        middle, name = np.quantile(y, 0.5, weights=weight, method="inverted_cdf"), "median"
    return np.asarray(in_units(context, middle)), f"the {name} of {rows}"


def _linear(
    context: Context, metric: Metric, train: TableBatch, sample: RowSample
) -> tuple[Any, str]:
    """Predictions of a linear model for the sample, and how it was fitted."""
    if context.model.parts == ("linear",):
        raise Skipped("the model is linear itself")
    if metric.levels:
        raise Skipped("least squares give means, not quantiles")
    columns = linear.Columns(train, context.model.lookups)
    fitted, asked = columns(train), columns(sample.batch)
    y, weight = (np.asarray(a, np.float64) for a in (train.y, train.weight))
    seconds = LINEAR_TIME_SHARE * context.budget.left
    how = f"on {len(y):,} of {context.stored.num_train:,} training rows"
    late = ", stopped early: no time left"
    if metric.name not in ("log_loss", "accuracy"):
        slopes, shift, in_time = linear.least_squares(fitted, y, weight, seconds)
        how = f"least squares {how}{'' if in_time else late}"
        return context.model.encoding.target.in_own_unit(asked @ slopes + shift), how
    classes = len(context.model.encoding.classes)
    slopes, shifts, in_time = linear.logistic(fitted, y, weight, classes, seconds)
    outputs = asked @ slopes + shifts
    how = f"logistic regression {how}{'' if in_time else late}"
    if metric.name == "accuracy":
        return outputs.argmax(axis=1), how
    return softmax(outputs, axis=1), how
