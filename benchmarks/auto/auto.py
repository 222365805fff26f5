"""Training with nothing said, to the target of the oracle and within twice its time."""

from __future__ import annotations

from benchmarks.auto.runs import Point, Trace, watch
from benchmarks.auto.tasks import Task

MOST_BUDGETS = 20  # a run is ended that trains longer than so many budgets of the grid's runs
LEAST_SECONDS = 0.01


def alone(task: Task, seed: int) -> Trace:
    """A run that chooses everything, its end too."""
    most = MOST_BUDGETS * task.budget_seconds

    def ends(point: Point) -> str | None:
        return "ended by the benchmark" if point.training > most else None

    return watch(task, seed=seed, setting="auto", ends=ends)


def in_time(task: Task, seed: int, *, oracle_seconds: float, compiling: float) -> Trace:
    """A run told only how long it may take: twice the oracle, and what compiling took before."""
    seconds = max(LEAST_SECONDS, 2 * oracle_seconds) + compiling
    return watch(task, seed=seed, setting=f"auto, {seconds:.3g} s", seconds=seconds)
