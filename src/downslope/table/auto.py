"""The model of a table that is left to choose: linear, a mlp, or both, averaged."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

import downslope
from downslope import Result, StopReason, Training
from downslope.choose import Decision, choose_between
from downslope.data.stored import RowFile, StoredTable
from downslope.metrics import Results
from downslope.table.model import TableModel
from downslope.table.rows import stored_parts
from downslope.table.scores import TableScorer

LINEAR_SHARE = 0.2  # of a time budget
ROWS = 4096  # evaluated at once


class Choice:
    """A linear model, trained first, and the choice once the mlp is trained too.

    Called with the result of the mlp it gives the result to keep.

    Attributes:
        model: that is trained, then the one that was chosen.
        training: of the mlp: the linear model's time is taken off a time budget.
    """

    def __init__(self, model: TableModel, stored: StoredTable, training: Training):
        self.model, self._stored, self.training = model, stored, training
        self._linear = _train_linear(model.only("linear"), stored, training)
        if self._linear.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt
        if training.seconds is not None:
            left = max(training.seconds - self._linear.seconds, training.seconds / 10)
            self.training = dataclasses.replace(training, seconds=left)

    def __call__(self, mlp: Result) -> Result:
        """The result with the parameters and metrics of the model that was chosen."""
        linear = self._linear
        decision = _decide(linear, mlp)
        parts = tuple(part for part in ("linear", "mlp") if part in decision.new.split())
        self.model = dataclasses.replace(self.model, parts=parts)
        if parts == ("linear",):
            params, metrics = linear.params, linear.validation
        elif parts == ("mlp",):
            params, metrics = mlp.params, mlp.validation
        else:
            params = {"linear": linear.params, "mlp": mlp.params}
            metrics = evaluate(self.model, params, self._stored.held_out)
        moment = {"step": mlp.num_steps, "seconds": mlp.seconds}
        history = [*mlp.history, {"event": "decided", **moment, **decision.to_json()}]
        if parts != ("mlp",) and metrics is not None:
            found = {name: estimate.to_json() for name, estimate in metrics.items()}
            more = {"epoch": mlp.num_epochs, "metrics": found, "missing": metrics.reasons}
            more["num_rows"] = None  # of another model than the run's evaluations
            history.append({"event": "evaluated", **moment, **more})
        return dataclasses.replace(mlp, params=params, validation=metrics, history=history)


def _train_linear(model: TableModel, stored: StoredTable, training: Training) -> Result:
    seconds = None if training.seconds is None else LINEAR_SHARE * training.seconds
    training = dataclasses.replace(training, seconds=seconds, until=None)
    training = training.resolved(weight_decay=None)
    return downslope.fit(
        model.loss_fn,
        model.init(training.seed),
        stored.train,
        validation=stored.held_out,
        scorer=TableScorer(model),
        penalize=model.penalized,
        **{f.name: getattr(training, f.name) for f in dataclasses.fields(training)},
    )


def _decide(linear: Result, mlp: Result) -> Decision:
    gain = error = None
    num_rows = 0
    if linear.validation is not None and mlp.validation is not None:
        gaps = np.subtract(linear.validation.losses, mlp.validation.losses, dtype=np.float64)
        num_rows = len(gaps)
        if np.isfinite(gaps).all() and num_rows > 1:
            gain, error = float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(num_rows))
    decision = choose_between(
        simple="linear", larger="mlp", gain=gain, error=error, num_rows=num_rows
    )
    assert decision is not None  # as of every policy that always decides
    return decision


def evaluate(model: TableModel, params: Any, rows: RowFile | None) -> Results | None:
    """Metrics of every held-out row."""
    if rows is None:
        return None
    scorer, size = TableScorer(model), min(ROWS, rows.num_rows)
    accumulator, losses = scorer.accumulator(), []

    @jax.jit
    def score(params: Any, part: Any) -> Any:
        batch = rows.unpack(part)
        return scorer.score(params, batch, model.losses(params, batch))

    for part in stored_parts(rows, 0, rows.num_rows):
        for start in range(0, len(part), size):
            held = part[start : start + size]
            found = score(params, np.resize(held, (size, part.shape[1])))
            found = {name: np.asarray(each)[: len(held)] for name, each in found.items()}
            losses.append(found["losses"])
            accumulator.add(**found)
    results = accumulator.result()
    results.losses = np.concatenate(losses)
    return results
