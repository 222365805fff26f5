"""The model of a table that is left to choose: linear, a net, or both, averaged."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

import downslope
from downslope import Result, StopReason, Training
from downslope.choose import choose_between, is_noise
from downslope.data.stored import RowFile, StoredTable
from downslope.metrics import Results
from downslope.table.linear_path import LinearFit, fit_linear
from downslope.table.model import TableModel
from downslope.table.rows import padded_parts, stored_parts
from downslope.table.scores import TableScorer
from downslope.table.training import settings_of

LINEAR_SHARE = 0.2  # of a time budget


class Choice:
    """A linear model, trained first, and the choice once the net is trained too.

    Called with the result of the net it gives the result to keep.

    Attributes:
        model: that is trained, then the one that was chosen.
        training: of the net: the linear model's time is taken off a time budget, unless it
            `resumes`, since it is off already then.
    """

    def __init__(
        self, model: TableModel, stored: StoredTable, training: Training, *, resumes: bool = False
    ):
        self.model, self._stored, self.training = model, stored, training
        self._linear = _fit_linear(model.only("linear"), stored, training)
        if training.seconds is not None and not resumes:
            left = max(training.seconds - self._linear.seconds, training.seconds / 10)
            self.training = dataclasses.replace(training, seconds=left)

    def __call__(self, net: Result) -> Result:
        """The result with the parameters and metrics of the model that was chosen."""
        linear, held_out = self._linear, self._stored.held_out
        params = {"linear": linear.params, "net": net.params}
        weight = _weights(held_out)
        gain, error = _difference(linear.losses, net.validation and net.validation.losses, weight)
        metrics = mean_gain = None
        if gain is not None and error is not None and is_noise(gain, error):
            metrics = evaluate(self._with("linear", "net"), params, held_out)
            mean_gain, _ = _difference(linear.losses, metrics and metrics.losses, weight)
        decision = choose_between(
            simple="linear",
            larger="net",
            gain=gain,
            error=error,
            num_rows=self._stored.num_held_out,
            mean_gain=mean_gain,
        )
        assert decision is not None  # as of every policy that always decides
        parts = tuple(decision.new.split(" and "))
        self.model = self._with(*parts)
        moment = {"step": net.num_steps, "seconds": net.seconds}
        decisions = [each for each in (linear.decision, decision) if each is not None]
        records = [{"event": "decided", **moment, **each.to_json()} for each in decisions]
        if parts == ("net",):
            return dataclasses.replace(net, history=[*net.history, *records])
        if parts == ("linear",):
            params = linear.params
            metrics = evaluate(self.model, params, held_out)
        if metrics is not None:
            found = {name: estimate.to_json() for name, estimate in metrics.items()}
            more = {"epoch": net.num_epochs, "metrics": found, "missing": metrics.reasons}
            more["num_rows"] = None  # of another model than the run's evaluations
            records.append({"event": "evaluated", **moment, **more})
        history = [*net.history, *records]
        return dataclasses.replace(net, params=params, validation=metrics, history=history)

    def _with(self, *parts: str) -> TableModel:
        return dataclasses.replace(self.model, parts=parts)


def _difference(first: Any, second: Any, weight: Any) -> tuple[float | None, float | None]:
    """Weighted mean difference of losses of the same rows, and its standard error, where known."""
    if first is None or second is None:
        return None, None
    gaps = np.subtract(first, second, dtype=np.float64)
    if not np.isfinite(gaps).all() or np.count_nonzero(weight) < 2:
        return None, None
    share = weight / weight.sum()
    gain = float(share @ gaps)
    count = np.count_nonzero(weight)
    error = np.sqrt(np.sum((share * (gaps - gain)) ** 2) * count / (count - 1))
    return gain, float(error)


def _weights(rows: RowFile | None) -> np.ndarray | None:
    """Weights of all held-out rows [n]."""
    if rows is None:
        return None
    parts = [rows.unpack(part).weight for part in stored_parts(rows, 0, rows.num_rows)]
    return np.concatenate(parts).astype(np.float64)


def _fit_linear(model: TableModel, stored: StoredTable, training: Training) -> LinearFit:
    """The linear model: solved where that is quick and nothing else is asked for, or trained."""
    seconds = None if training.seconds is None else LINEAR_SHARE * training.seconds
    if not (training.l1 or training.l2) and "optimizer" in training.free:
        found = fit_linear(model, stored, seconds=seconds)
        if found is not None:
            return found
    training = dataclasses.replace(training, seconds=seconds, until=None)
    training = settings_of(model, training, stored.num_train)
    result = downslope.fit(
        model.loss_fn,
        model.init(training.seed),
        stored.train,
        validation=stored.held_out,
        scorer=TableScorer(model),
        penalize=model.penalized,
        **{f.name: getattr(training, f.name) for f in dataclasses.fields(training)},
    )
    if result.stop_reason is StopReason.INTERRUPTED:
        raise KeyboardInterrupt
    losses = None if result.validation is None else result.validation.losses
    return LinearFit(result.params, losses, None, result.seconds)


def evaluate(model: TableModel, params: Any, rows: RowFile | None) -> Results | None:
    """Metrics of every held-out row."""
    if rows is None:
        return None
    scorer = TableScorer(model)
    accumulator, losses = scorer.accumulator(), []

    @jax.jit
    def score(params: Any, part: Any) -> Any:
        batch = rows.unpack(part)
        return scorer.score(params, batch, model.losses(params, batch))

    for part, count in padded_parts(rows):
        found = {k: np.asarray(each)[:count] for k, each in score(params, part).items()}
        losses.append(found["losses"])
        accumulator.add(**found)
    results = accumulator.result()
    results.losses = np.concatenate(losses)
    return results
