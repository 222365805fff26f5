"""The oracle: the fastest of a grid of batch sizes, learning rates and schedules.

The whole grid runs on one seed. Its settings of lowest held-out loss run again, to their end, on
every other seed: the target is the lowest loss that one of them reaches on every seed, plus 3 %.
The settings that were fastest to it on the first seed run again on every seed, and the fastest
run on a seed is the oracle of that seed.

Two savings. Programs that the grid has compiled are kept on disk while it runs, so its total cost
is understated; runs of the oracle compile again. A run that is behind ends early: if at a fourth
of its time with a constant rate, at half of it with cosine, it has not reached a loss that another
run had at a tenth.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from benchmarks.auto.runs import Point, Trace, watch
from benchmarks.auto.tasks import Task

RATES = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1)
SCHEDULES = ("constant", "cosine")
ALLOWANCE = 1.03
FASTEST = 3  # settings that run again on every seed, for the time
LOWEST = 3  # settings that run again on every other seed, for the target
PACE = 1 / 10  # of the budget, where the loss is read that others must reach
CHECKED = {"constant": 1 / 4, "cosine": 1 / 2}  # share of the budget by which they must
OVERTIME = 1.5  # budgets after which a run with cosine ends whatever its step
LONGEST = 3  # budgets of a run that goes to a known target: the machine may be slower by then
CALIBRATED = 1 / 8  # of the budget, to measure how many steps it holds
MIDDLE = (128, 3.16e-3)  # the grid begins there: early runs set the pace
GIVEN = {
    "optimizer": "adam", "clip_norm": None, "average": None, "patience": None,
    "measure_every": None, "checkpoint_seconds": 3600.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A point of the grid."""

    batch_size: int
    learning_rate: float
    schedule: str

    def __str__(self) -> str:
        return f"batch {self.batch_size}, rate {self.learning_rate:g}, {self.schedule}"


def settings(task: Task, quick: bool = False) -> list[Setting]:
    """The grid, from its middle outwards."""
    sizes, rates = task.batch_sizes, RATES
    if quick:
        sizes, rates = sizes[2::3], RATES[2:5:2]

    def distance(setting: Setting) -> tuple[float, str]:
        size, rate = MIDDLE
        apart = abs(math.log2(setting.batch_size / size))
        return apart + 2 * abs(math.log10(setting.learning_rate / rate)), setting.schedule

    points = itertools.product(sizes, rates, SCHEDULES)
    found = [Setting(batch_size=b, learning_rate=r, schedule=s) for b, r, s in points]
    return sorted(found, key=distance)


@contextlib.contextmanager
def compiled_kept() -> Iterator[None]:
    """Keep compiled programs on disk inside the block, and restore the settings afterwards."""
    from jax.experimental.compilation_cache import compilation_cache

    names = {
        "jax_compilation_cache_dir": None,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in names}
    with tempfile.TemporaryDirectory(prefix="downslope-benchmark-") as folder:
        for name, value in (names | {"jax_compilation_cache_dir": folder}).items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


def steps_per_second(task: Task, batch_size: int) -> float:
    """Speed measured in a short run, evaluations included."""
    seen: list[Point] = []

    def look(point: Point) -> str | None:
        seen.append(point)
        long = point.seconds - seen[0].seconds > max(0.5, CALIBRATED * task.budget_seconds)
        return "measured" if long else None

    watch(
        task, seed=0, setting="calibration", ends=look, cold=False, batch_size=batch_size,
        learning_rate=1e-3, schedule="constant", epochs=10**6, **GIVEN,
    )  # fmt: skip
    first, last = seen[0], seen[-1]  # the first came after compiling
    return (last.step - first.step) / (last.seconds - first.seconds)


def grid(
    task: Task, speeds: dict[int, float], done: dict[str, Trace], *, quick: bool = False
) -> Iterator[Trace]:
    """Traces of all settings on the first seed, as they finish.

    Args:
        done: traces of earlier runs, by the text of their setting.
    """
    pace = math.inf  # lowest loss that any run had at a tenth of its time
    for setting in settings(task, quick):
        trace = done.get(str(setting))
        if trace is None:
            trace = run(task, setting, speeds, seed=0, ends=_behind(task, setting, pace))
            yield trace
        pace = min(pace, trace.loss_by(PACE * task.budget_seconds))


def _behind(task: Task, setting: Setting, pace: float) -> Any:
    def ends(point: Point) -> str | None:
        late = point.training > CHECKED[setting.schedule] * task.budget_seconds
        return "behind" if late and point.loss > pace else None

    return ends


def run(
    task: Task, setting: Setting, speeds: dict[int, float], *, seed: int, ends: Any,
    cold: bool = False, overtime: float = 1,
) -> Trace:  # fmt: skip
    """Run of the grid, over the budget of the task.

    With a constant rate the time is limited; with cosine, whose number of steps must be known
    in advance, it makes as many as fit into the budget at the measured speed.

    Args:
        overtime: budgets that a constant rate may take; cosine may take `OVERTIME` at least.
    """
    cosine = setting.schedule == "cosine"
    steps = max(1, round(task.budget_seconds * speeds[setting.batch_size])) if cosine else None

    def over(point: Point) -> str | None:
        # the speed may have changed since it was measured: cosine gets some more time
        limit = task.budget_seconds * max(overtime, OVERTIME if cosine else 1)
        return ends(point) or ("time up" if point.training > limit else None)

    return watch(
        task,
        seed=seed,
        setting=str(setting),
        ends=over,
        cold=cold,
        batch_size=setting.batch_size,
        learning_rate=setting.learning_rate,
        schedule=setting.schedule,
        steps=steps,
        epochs=None if cosine else 10**6,
        **GIVEN,
    )


def lowest(task: Task, traces: dict[str, Trace], count: int) -> list[Setting]:
    """Settings of lowest held-out loss, the lowest first."""
    known = [setting for setting in settings(task) if str(setting) in traces]
    return sorted(known, key=lambda setting: traces[str(setting)].best_loss)[:count]


def fastest(task: Task, traces: dict[str, Trace], target: float, count: int) -> list[Setting]:
    """Settings that reached the target first, without compiling, the fastest first."""
    found = []
    for setting in settings(task):
        point = traces[str(setting)].reach(target) if str(setting) in traces else None
        if point is not None:
            found.append((point.training, setting))
    return [setting for _, setting in sorted(found, key=lambda pair: pair[0])[:count]]


def reaching(target: float, cap: float = math.inf) -> Any:
    """Function that ends a run at the target, or after `cap` seconds of training."""

    def ends(point: Point) -> str | None:
        if point.loss <= target:
            return "reached"
        return "not reached" if point.training > cap else None

    return ends


def throughput_batch(speeds: dict[int, float]) -> int:
    """Batch size of the grid with most examples per second."""
    sizes = sorted(speeds)
    return sizes[int(np.argmax([size * speeds[size] for size in sizes]))]
