"""Decisions as pure functions of measurements: floats in, floats out, each with its reason."""

from __future__ import annotations

import importlib
import typing as _t

if _t.TYPE_CHECKING:
    from downslope.choose.anneal import cool_down, next_temperature, stands_out, start_again
    from downslope.choose.answers import what_if
    from downslope.choose.batch import SweetSpot, batch_size, sweet_spot
    from downslope.choose.clipping import next_clip_norm
    from downslope.choose.decision import Decision, policy, replay
    from downslope.choose.exchange import Link, StepCost, exchange_seconds, step_cost
    from downslope.choose.explore import look_at_batch, may_pay
    from downslope.choose.learning_rate import first_rate, next_trial, settle_rate, trial_steps
    from downslope.choose.next_batch import next_batch_size
    from downslope.choose.prediction import Prediction, RunLaw, equivalent_steps, predict
    from downslope.choose.ranges import Range
    from downslope.choose.rescale import AdamSettings, rescale_adam, rescale_sgd
    from downslope.choose.scenario import Answer, Scenario, Seen
    from downslope.choose.solving import solve_or_search
    from downslope.choose.start import first_batch_size
    from downslope.choose.step_time import StepTimes, fit_step_times, line_times
    from downslope.choose.stop import has_converged, has_exploded, has_jumped, is_better
    from downslope.choose.stragglers import exponential_wait, measured_wait, normal_wait
    from downslope.choose.trouble import after_trouble
    from downslope.choose.workers import (
        BestWorkers,
        best_workers,
        best_workers_scaled,
        workers_batch_size,
    )

# Imported at first use: SciPy, behind some of them, is not waited for by those that need none.
_HOME = {
    "AdamSettings": "downslope.choose.rescale",
    "Answer": "downslope.choose.scenario",
    "BestWorkers": "downslope.choose.workers",
    "Decision": "downslope.choose.decision",
    "Link": "downslope.choose.exchange",
    "Prediction": "downslope.choose.prediction",
    "Range": "downslope.choose.ranges",
    "RunLaw": "downslope.choose.prediction",
    "Scenario": "downslope.choose.scenario",
    "Seen": "downslope.choose.scenario",
    "StepCost": "downslope.choose.exchange",
    "StepTimes": "downslope.choose.step_time",
    "SweetSpot": "downslope.choose.batch",
    "after_trouble": "downslope.choose.trouble",
    "batch_size": "downslope.choose.batch",
    "best_workers": "downslope.choose.workers",
    "best_workers_scaled": "downslope.choose.workers",
    "equivalent_steps": "downslope.choose.prediction",
    "exchange_seconds": "downslope.choose.exchange",
    "exponential_wait": "downslope.choose.stragglers",
    "first_batch_size": "downslope.choose.start",
    "first_rate": "downslope.choose.learning_rate",
    "fit_step_times": "downslope.choose.step_time",
    "has_converged": "downslope.choose.stop",
    "has_exploded": "downslope.choose.stop",
    "has_jumped": "downslope.choose.stop",
    "is_better": "downslope.choose.stop",
    "line_times": "downslope.choose.step_time",
    "look_at_batch": "downslope.choose.explore",
    "may_pay": "downslope.choose.explore",
    "measured_wait": "downslope.choose.stragglers",
    "next_batch_size": "downslope.choose.next_batch",
    "next_clip_norm": "downslope.choose.clipping",
    "next_temperature": "downslope.choose.anneal",
    "next_trial": "downslope.choose.learning_rate",
    "normal_wait": "downslope.choose.stragglers",
    "policy": "downslope.choose.decision",
    "predict": "downslope.choose.prediction",
    "replay": "downslope.choose.decision",
    "rescale_adam": "downslope.choose.rescale",
    "rescale_sgd": "downslope.choose.rescale",
    "settle_rate": "downslope.choose.learning_rate",
    "solve_or_search": "downslope.choose.solving",
    "stands_out": "downslope.choose.anneal",
    "start_again": "downslope.choose.anneal",
    "cool_down": "downslope.choose.anneal",
    "step_cost": "downslope.choose.exchange",
    "sweet_spot": "downslope.choose.batch",
    "trial_steps": "downslope.choose.learning_rate",
    "what_if": "downslope.choose.answers",
    "workers_batch_size": "downslope.choose.workers",
}

__all__ = [
    "AdamSettings",
    "Answer",
    "BestWorkers",
    "Decision",
    "Link",
    "Prediction",
    "Range",
    "RunLaw",
    "Scenario",
    "Seen",
    "StepCost",
    "StepTimes",
    "SweetSpot",
    "after_trouble",
    "batch_size",
    "best_workers",
    "best_workers_scaled",
    "cool_down",
    "equivalent_steps",
    "exchange_seconds",
    "exponential_wait",
    "first_batch_size",
    "first_rate",
    "fit_step_times",
    "has_converged",
    "has_exploded",
    "has_jumped",
    "is_better",
    "line_times",
    "look_at_batch",
    "may_pay",
    "measured_wait",
    "next_batch_size",
    "next_clip_norm",
    "next_temperature",
    "next_trial",
    "normal_wait",
    "policy",
    "predict",
    "replay",
    "rescale_adam",
    "rescale_sgd",
    "settle_rate",
    "solve_or_search",
    "stands_out",
    "start_again",
    "step_cost",
    "sweet_spot",
    "trial_steps",
    "what_if",
    "workers_batch_size",
]


def __getattr__(name: str) -> _t.Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
