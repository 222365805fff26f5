"""All runs of one task, in an order that can be interrupted and resumed."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.auto import auto, foresight, grid, peers
from benchmarks.auto.runs import Point, Trace
from benchmarks.auto.tasks import Task

SAVE_SECONDS = 5.0
LARGE_SECONDS = 5.0  # oracle's time without compiling: a larger task

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Study:
    """Results of a task. Keys of dicts by seed are strings, as in JSON.

    Attributes:
        num_rows: number of training rows.
        speeds: steps per second by batch size, evaluations included.
        grid: the whole grid on the first seed, by setting.
        full: the settings of lowest loss, run to their end, by other seeds.
        again: the fastest settings, by seed.
        auto, in_time: automatic training without and with a time budget, by seed.
        peers: by name, then by seed.
        step_errors: relative errors of the model of step times at batch sizes it was not fitted to.
        time_ratios: predicted over measured time to the target, by the batch size left out.
    """

    name: str
    num_rows: int
    budget_seconds: float
    speeds: dict[int, float] = field(default_factory=dict)
    grid: dict[str, Trace] = field(default_factory=dict)
    full: dict[str, list[Trace]] = field(default_factory=dict)
    again: dict[str, list[Trace]] = field(default_factory=dict)
    auto: dict[str, Trace] = field(default_factory=dict)
    in_time: dict[str, Trace] = field(default_factory=dict)
    peers: dict[str, dict[str, Trace]] = field(default_factory=dict)
    step_errors: dict[str, float] | None = None
    time_ratios: dict[str, float] | None = None

    @property
    def best_loss(self) -> float:
        """Lowest held-out loss that one setting of the grid reaches on every seed."""
        if not self.full:
            return self.luckiest_loss
        found = []
        for runs in zip(*self.full.values(), strict=True):
            first = self.grid[runs[0].setting]
            found.append(max(run.best_loss for run in (first, *runs)))
        return min(found)

    @property
    def luckiest_loss(self) -> float:
        """Lowest held-out loss of any evaluation of any run on the first seed."""
        return min(trace.best_loss for trace in self.grid.values())

    @property
    def target(self) -> float:
        """Target loss: 3 % above the best loss."""
        return grid.ALLOWANCE * self.best_loss

    @property
    def grid_seconds(self) -> float:
        """Cost of the grid, compiling included."""
        return sum(trace.seconds for trace in self.grid.values())

    @property
    def seeds(self) -> list[str]:
        return list(self.auto)

    def oracle(self, seed: str) -> tuple[Trace, Point] | None:
        """Run that reached the target first, without compiling."""
        return min(self._reached(seed), key=lambda pair: pair[1].training, default=None)

    def oracle_seconds(self, seed: str, *, compiling: bool) -> float | None:
        """Least time to the target of all runs, with compiling or without."""
        times = [p.seconds if compiling else p.training for _, p in self._reached(seed)]
        return min(times, default=None)

    def _reached(self, seed: str) -> list[tuple[Trace, Point]]:
        runs = self.again.get(seed, []) + self.full.get(seed, [])
        return [(t, p) for t in runs if (p := t.reach(self.target)) is not None]

    @property
    def is_large(self) -> bool:
        """Whether the oracle takes over 5 s: then bars count compiling."""
        times = [self.oracle_seconds(seed, compiling=False) for seed in self.again]
        known = [t for t in times if t is not None]
        return bool(known) and statistics.median(known) > LARGE_SECONDS

    def to_json(self) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            if isinstance(value, Trace):
                return value.to_json()
            if isinstance(value, dict):
                return {str(k): plain(v) for k, v in value.items()}
            return [plain(v) for v in value] if isinstance(value, list) else value

        return {name: plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Study:
        def traces(part: dict[str, Any]) -> dict[str, Trace]:
            return {k: Trace.from_json(v) for k, v in part.items()}

        def lists(part: dict[str, Any]) -> dict[str, list[Trace]]:
            return {k: [Trace.from_json(t) for t in v] for k, v in part.items()}

        return cls(
            **found
            | {
                "speeds": {int(k): v for k, v in found["speeds"].items()},
                "peers": {k: traces(v) for k, v in found["peers"].items()},
            }
            | {name: traces(found[name]) for name in ("grid", "auto", "in_time")}
            | {name: lists(found[name]) for name in ("full", "again")}
        )


class Notebook:
    """Studies in progress, kept in a file."""

    def __init__(self, path: Path | None, about: dict[str, Any]):
        self.path, self.about, self.studies = path, about, {}
        self._saved = 0.0

    def resume(self, path: Path) -> None:
        found = json.loads(path.read_text())
        self.studies = {k: Study.from_json(v) for k, v in found["studies"].items()}

    def save(self, *, now: bool = False) -> None:
        if self.path is None or not (now or time.monotonic() - self._saved > SAVE_SECONDS):
            return
        document = {
            "machine": self.about,
            "studies": {name: study.to_json() for name, study in self.studies.items()},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_name(self.path.name + ".part")
        half.write_text(json.dumps(document))
        half.replace(self.path)
        self._saved = time.monotonic()


def go(task: Task, study: Study, *, seeds: int, quick: bool, save: Callable[[], None], say: Say):
    """Make the runs that the study lacks."""
    _grid(task, study, seeds=seeds, quick=quick, save=save, say=say)
    for seed in range(seeds):
        _seed(task, study, seed, quick=quick, save=save, say=say)
    for name in (peers.ADAM, peers.SKLEARN) if quick else peers.NAMES:
        # the default with a bar on every seed, the others on the first
        for seed in range(seeds if name == peers.ADAM else 1):
            _peer(task, study, name, seed, save=save, say=say)
    if study.step_errors is None:
        with grid.compiled_kept():
            study.step_errors = foresight.step_errors(task, quick=quick)
        study.time_ratios = foresight.time_ratios(task, study.grid, study.speeds, study.target)
        save()


def _grid(
    task: Task, study: Study, *, seeds: int, quick: bool, save: Callable[[], None], say: Say
) -> None:
    with grid.compiled_kept():
        sizes = {setting.batch_size for setting in grid.settings(task, quick)}
        for size in sorted(sizes - set(study.speeds)):
            study.speeds[size] = grid.steps_per_second(task, size)
        for trace in grid.grid(task, study.speeds, study.grid, quick=quick):
            study.grid[trace.setting] = trace
            save()
    best = grid.lowest(task, study.grid, grid.LOWEST)
    for seed in range(1, seeds):
        runs = study.full.get(str(seed), [])
        for setting in best[len(runs) :]:
            runs = [*runs, _whole(task, setting, study, seed)]
        study.full[str(seed)] = runs  # complete: the target is known once all have run
        save()
    say(
        f"  grid: {len(study.grid)} runs in {study.grid_seconds:.0f} s, "
        f"lowest loss {study.luckiest_loss:.5g}, on every seed {study.best_loss:.5g}"
    )


def _whole(task: Task, setting: grid.Setting, study: Study, seed: int) -> Trace:
    return grid.run(task, setting, study.speeds, seed=seed, ends=lambda _: None, cold=True)


def _seed(
    task: Task, study: Study, seed: int, *, quick: bool, save: Callable[[], None], say: Say
) -> None:
    key, target = str(seed), study.target
    runs = study.again.setdefault(key, [])
    count = 2 if quick else grid.FASTEST
    chosen = grid.fastest(task, study.grid, target, count)
    for setting in chosen[len(runs) :]:
        trace = grid.run(
            task, setting, study.speeds, seed=seed, ends=grid.reaching(target), cold=True,
            overtime=grid.LONGEST,
        )  # fmt: skip
        runs.append(trace)
        save()
    oracle = study.oracle(key)
    if oracle is None:
        say(f"  seed {seed}: none of the fastest settings reached the target")
    else:
        trace, point = oracle
        say(f"  seed {seed}: oracle {trace.setting}, {point.training:.3g} s")
    if key not in study.auto:
        study.auto[key] = auto.alone(task, seed)
        save()
    trace = study.auto[key]
    point = trace.reach(target)
    shown = "not reached" if point is None else f"{point.seconds:.3g} s, {point.training:.3g} s"
    say(f"  seed {seed}: auto {shown}; lowest {trace.best_loss:.5g}; {trace.end}")
    if key not in study.in_time and oracle is not None:
        study.in_time[key] = auto.in_time(
            task, seed, oracle_seconds=oracle[1].training, compiling=trace.compiling
        )
        save()


def _peer(
    task: Task, study: Study, name: str, seed: int, *, save: Callable[[], None], say: Say
) -> None:
    found = study.peers.setdefault(name, {})
    oracle = study.oracle_seconds(str(seed), compiling=False)
    if str(seed) in found or oracle is None:
        return
    trace = peers.run(
        name, task, seed=seed, target=study.target, cap=peers.cap_of(oracle),
        throughput_batch=grid.throughput_batch(study.speeds),
    )  # fmt: skip
    found[str(seed)] = trace
    save()
    point = trace.reach(study.target)
    shown = trace.end if point is None else f"{point.seconds:.3g} s, {point.training:.3g} s"
    say(f"  seed {seed}: {trace.setting}: {shown}")
