"""Automatic training, to the target of the oracle and within twice its time."""

from __future__ import annotations

from benchmarks.auto.runs import Point, Trace, watch
from benchmarks.auto.tasks import Task

MOST_BUDGETS = 20  # end a run that trains longer than this many budgets of the grid's runs
LEAST_SECONDS = 0.01


def alone(task: Task, seed: int) -> Trace:
    """Run that chooses everything, including its end."""
    most = MOST_BUDGETS * task.budget_seconds

    def ends(point: Point) -> str | None:
        return "ended by the benchmark" if point.training > most else None

    return watch(task, seed=seed, setting="auto", ends=ends)


def in_time(task: Task, seed: int, *, oracle_seconds: float, compiling: float) -> Trace:
    """Run with a time budget only: twice the oracle's time, plus the compile time before."""
    seconds = max(LEAST_SECONDS, 2 * oracle_seconds) + compiling
    return watch(task, seed=seed, setting=f"auto, {seconds:.3g} s", seconds=seconds)
