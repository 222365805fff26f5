"""Common defaults, to the target of the oracle."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.auto.grid import GIVEN, reaching
from benchmarks.auto.runs import Point, Trace, watch
from benchmarks.auto.tasks import Task

ADAM = "Adam 1e-3, batch 32"
FULL = "Adam 1e-3, batch filling memory"
SWIFT = "Adam 1e-3, batch of most throughput"
FREE = "schedule-free"
PRODIGY = "prodigy"
SKLEARN = "scikit-learn"
NAMES = (ADAM, FULL, SWIFT, FREE, PRODIGY, SKLEARN)
MEMORY_BATCH = 65_536
CAP = 5.0  # times of the oracle
LEAST_CAP = 1.0  # seconds: of an oracle of some milliseconds five times are none


def cap_of(oracle_seconds: float) -> float:
    """Seconds after which a peer ends that has not reached the target."""
    return max(CAP * oracle_seconds, LEAST_CAP)


def run(
    name: str, task: Task, *, seed: int, target: float, cap: float, throughput_batch: int
) -> Trace:
    """Run of one peer to the target."""
    if name == SKLEARN:
        return _sklearn(task, seed=seed, target=target, cap=cap)
    adam = {"optimizer": "adam", "learning_rate": 1e-3}
    # the last two by optax's own default rates
    options: dict[str, Any] = {
        ADAM: adam | {"batch_size": 32},
        FULL: adam | {"batch_size": min(task.num_rows, MEMORY_BATCH)},
        SWIFT: adam | {"batch_size": throughput_batch},
        FREE: {"optimizer": "schedule_free", "learning_rate": 0.0025, "batch_size": 128},
        PRODIGY: {"optimizer": "prodigy", "learning_rate": 1.0, "batch_size": 128},
    }[name]
    return watch(
        task, seed=seed, setting=name, ends=reaching(target, cap), epochs=10**6,
        **(GIVEN | {"schedule": "constant"} | options),
    )  # fmt: skip


def _sklearn(task: Task, *, seed: int, target: float, cap: float) -> Trace:
    """scikit-learn's estimator of the task at its defaults, an epoch at a time."""
    name, model = _estimator(task, seed)
    classes = {} if task.kind == "regress" else {"classes": np.unique(task.train[1])}
    lows: list[Point] = []
    begin, ends, epoch, end = time.perf_counter(), reaching(target, cap), 0, None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        while end is None:
            epoch += 1
            try:
                model.partial_fit(*task.train, **classes)
                loss = held_out_loss(model, task)
            except ValueError:  # scikit-learn's word for weights that are not finite
                loss = math.inf
            point = Point(seconds=time.perf_counter() - begin, compiling=0, loss=loss, step=epoch)
            if not math.isfinite(loss):
                end = "diverged"
            else:
                if not lows or loss < lows[-1].loss:
                    lows.append(point)
                end = ends(point)
    took = time.perf_counter() - begin
    return Trace(
        setting=name, seed=seed, lows=lows, final_loss=None, end=end, seconds=took, compiling=0
    )


def _estimator(task: Task, seed: int) -> tuple[str, Any]:
    from sklearn.linear_model import SGDClassifier, SGDRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if task.hidden:
        kind = MLPRegressor if task.kind == "regress" else MLPClassifier
        return kind.__name__, kind(hidden_layer_sizes=task.hidden, random_state=seed)
    if task.kind == "regress":
        return "SGDRegressor", SGDRegressor(random_state=seed)
    loss = "log_loss" if task.kind == "classify" else "hinge"
    return f"SGDClassifier({loss})", SGDClassifier(loss=loss, random_state=seed)


def held_out_loss(model: Any, task: Task) -> float:
    """The task's loss on held-out rows, from what a fitted estimator predicts."""
    x, y = task.held_out
    if task.kind == "regress":
        return float(0.5 * np.mean((model.predict(x).astype(float) - y) ** 2))
    if task.kind == "margin":
        return float(np.maximum(0, 1 - (2 * y - 1) * model.decision_function(x)).mean())
    if task.hidden:
        chosen = model.predict_proba(x)[np.arange(len(y)), y]
        return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())
    odds = model.decision_function(x)
    return float((np.logaddexp(0, odds) - y * odds).mean())
