"""Held-out loss and metrics of a table model."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from downslope.metrics import ClassificationMetrics, QuantileMetrics, RegressionMetrics, Results
from downslope.table.model import TableModel


class TableScorer:
    """Loss and task metrics of a table model on held-out rows, weighted as the rows are."""

    def __init__(self, model: TableModel):
        self.table_model = model

    def score(self, model: Any, batch: Any, losses: Array) -> dict[str, Array]:
        """Per-row arrays for the accumulator."""
        table, out = self.table_model, self.table_model.outputs(model, batch)
        found = {
            "losses": table.losses(model, batch), "targets": batch.y, "weight": batch.weight,
            "outputs": out,
        }  # fmt: skip
        if table.encoding.task == "classify" and not table.has_margins:
            found["probabilities"] = jax.nn.sigmoid(out) if out.ndim == 1 else jax.nn.softmax(out)
        return found

    def accumulator(self) -> Any:
        """Metrics of the model's task."""
        is_number = self.table_model.encoding.task == "regress"
        return (_Numbers if is_number else _Classes)(self.table_model)


class _Numbers:
    def __init__(self, model: TableModel):
        self._model, levels = model, model.options.quantile
        unit = model.target_unit
        self._metrics = QuantileMetrics(unit, levels) if levels else RegressionMetrics(unit)

    def add(self, losses: Any, targets: Any, weight: Any, outputs: Any) -> None:
        predictions = self._model.in_target_unit(outputs)
        if self._model.options.quantile:
            predictions = predictions.reshape(len(losses), -1)
        truth = self._model.encoding.target.in_own_unit(targets)
        self._metrics.add(losses, predictions, truth, weight)

    def result(self) -> Results:
        return self._metrics.result()


class _Classes:
    def __init__(self, model: TableModel):
        self._metrics = ClassificationMetrics(
            model.num_classes, probabilities=not model.has_margins
        )

    def add(
        self, losses: Any, targets: Any, weight: Any, outputs: Any, probabilities: Any = None
    ) -> None:
        # Log-odds rank rows whose probability rounds to 1; logits of several classes cannot be
        # compared between rows, their probabilities can.
        ranks = outputs if probabilities is None or outputs.ndim == 1 else None
        classes = targets.astype("int32")
        self._metrics.add(losses, probabilities, classes, weight, scores=ranks)

    def result(self) -> Results:
        return self._metrics.result()
