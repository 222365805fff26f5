"""Metrics of a run to hold against the target that is to end it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from downslope.arguments import nearest
from downslope.choose.target import is_reached
from downslope.config import Training
from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.metrics import Results
from downslope.train.calls import Call
from downslope.train.collect import collect
from downslope.train.evaluate import Scorer
from downslope.train.evaluations import evaluate_all, is_marked
from downslope.train.loop import Loop

LOSS = "loss"


def check_targets(training: Training, scorer: Scorer | None) -> None:
    """Raise UsageError for a target of a metric that is not measured, before anything is trained.

    Args:
        scorer: of held-out rows; None without any.
    """
    until = training.until or {}
    if scorer is None:
        others = [name for name in until if name != LOSS]
        if others:
            raise UsageError(
                f"until must be the training loss, {{'loss': ...}}, if no rows are held out; "
                f"got {others[0]!r}; give validation"
            )
    elif until.keys() - {LOSS}:
        try:
            empty = scorer.accumulator().result()
        except Exception:  # a scorer that says nothing without rows: the first evaluation tells
            return
        _check_names(until, empty)


def _check_names(until: Collection[str], results: Results) -> None:
    known = [*results, *results.reasons]
    for name in until:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near!r}?" if near else ""
            names = ", ".join(known)
            raise UsageError(f"until must name metrics among {names}; got {name!r}{hint}")


def held_out_metrics(loop: Loop, results: Results) -> Results | None:
    """Metrics of an evaluation to hold against the target; None without a target.

    If a sample is at the target, all rows decide. Where they are not at it, their difference to
    the sample is added to later samples, so that not each of them asks for all rows.
    """
    until, held_out = loop.setup.training.until, loop.state.held_out
    if not until:
        return None
    _check_names(until, results)
    if held_out.num_rows == loop.setup.num_held_out:
        return results
    sampled = _values(results, until)
    shifted = {name: value + held_out.offsets.get(name, 0.0) for name, value in sampled.items()}
    if not is_reached(until, shifted, results.higher_is_better):
        return None
    whole = evaluate_all(loop)
    values = _values(whole, until)
    offsets = {name: values[name] - sampled[name] for name in values.keys() & sampled.keys()}
    loop.state.held_out = dataclasses.replace(held_out, offsets=offsets)
    return whole


def _values(results: Results, names: Collection[str]) -> dict[str, float]:
    return {name: float(results[name]) for name in names if name in results}


def training_metrics(loop: Loop, call: Call) -> dict[str, Any] | None:
    """Training loss to hold against the target, where no rows are held out; None if not due.

    The mean of the latest epoch at its end, before that of the latest windows.
    """
    if not loop.setup.training.until or loop.setup.evaluate is not None:
        return None
    progress = loop.state.progress
    if loop.setup.training.seconds is None and not call.ends_epoch and not is_marked(loop, call):
        return None
    if loop.setup.training.seconds is None:
        collect(loop)  # the loss of exactly these updates
    loss = progress.last_epoch_loss if call.ends_epoch else progress.smoothed_loss
    if loop.trouble is not None or loss is None:
        return None
    return {LOSS: Estimate(value=loss, unit="")}
