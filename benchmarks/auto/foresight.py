"""Predictions of step times and of steps to a target, compared with measurements."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import downslope
from benchmarks.auto.grid import GIVEN, settings
from benchmarks.auto.runs import Point, Trace
from benchmarks.auto.tasks import Task
from downslope.choose import RunLaw, fit_step_times, predict
from downslope.noise.scale import fit_critical_batch

REPEATS = 3
FEWEST = 3  # other batch sizes, to fit two numbers to
TIMED_SECONDS = 0.3  # of each repeat, after compiling


def step_errors(task: Task, *, quick: bool = False) -> dict[str, float]:
    """Relative error of the model at every second batch size, fitted to the others: shares by size.

    The sizes take turns, and medians of the turns are compared.
    """
    sizes = list(task.batch_sizes[1:-1:2] if quick else task.batch_sizes)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(1 if quick else REPEATS):
        for size in sizes:
            times[size].append(step_seconds(task, size))
    left_out = sizes[1:-1:2]  # both ends are fitted: the model does not extrapolate
    fitted = [size for size in sizes if size not in left_out]
    model = fit_step_times(fitted, [times[size] for size in fitted])
    seen = fit_step_times(sizes, [times[size] for size in sizes])
    return {str(b): model.predict(b) / seen.predict(b) - 1 for b in left_out}


def step_seconds(task: Task, batch_size: int) -> float:
    """Seconds of a step inside `downslope.fit`, without evaluations."""
    begin: list[float] = []
    seen: list[tuple[float, int]] = []

    class Enough(BaseException):  # an Exception would only drop the reader that raises it
        pass

    def note(record: dict[str, Any]) -> None:
        if record["event"] != "progress":
            return
        now = time.perf_counter()
        seen.append((now, record["step"]))
        begin[:] = begin or [now]
        if now - begin[0] > TIMED_SECONDS:
            raise Enough

    with contextlib.suppress(Enough):
        downslope.fit(
            task.loss, task.model(0), task.train, l2=task.l2, batch_size=batch_size,
            learning_rate=1e-4, schedule="constant", epochs=10**6, readers=(note,), **GIVEN,
        )  # fmt: skip
    (first, before), (last, after) = seen[0], seen[-1]
    return (last - first) / (after - before)


def time_ratios(
    task: Task, traces: dict[str, Trace], speeds: dict[int, float], target: float
) -> dict[str, float]:
    """Predicted over measured time to the target, without compiling, by the batch size left out.

    Steps by `S_min + E_min/B`, fitted to the runs at the other sizes, each at its best constant
    rate; seconds of a step by the model fitted to the other sizes, evaluations included.
    """
    best: dict[int, Point] = {}
    for setting in settings(task):
        trace, size = traces.get(str(setting)), setting.batch_size
        point = trace.reach(target) if trace and setting.schedule == "constant" else None
        if point is not None and (size not in best or point.step < best[size].step):
            best[size] = point
    found = {}
    for size in sorted(best)[1:-1]:  # the model does not extrapolate
        others = [b for b in best if b != size]
        fit = fit_critical_batch(others, [best[b].step for b in others])
        if len(others) < FEWEST or fit.min_steps.value is None or fit.min_examples.value is None:
            continue
        law = RunLaw(min_steps=fit.min_steps.value, min_examples=fit.min_examples.value)
        times = fit_step_times(others, [1 / speeds[b] for b in others])
        predicted = predict(law, times, size).seconds.value
        if predicted is not None:
            found[str(size)] = predicted / best[size].training
    return found
