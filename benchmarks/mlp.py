"""Nets of rectified layers with Adam, compared with PyTorch in the fastest way found here."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.models import Epochs, mlp_loss, mlp_model, timed_fit
from benchmarks.report import Findings, Row
from benchmarks.timing import Samples, has, ratio_of, shown, take_turns


@dataclass(frozen=True, kw_only=True)
class Task:
    sizes: tuple[int, ...]
    batch: int
    num_rows: int
    bar: float


TASKS = (
    Task(sizes=(784, 512, 256, 10), batch=128, num_rows=60_000, bar=1.3),
    Task(sizes=(30, 64, 64, 2), batch=64, num_rows=200_000, bar=4.0),
)
TRIAL_SECONDS = 1.5  # to find PyTorch's best settings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Configuration of PyTorch."""

    threads: int
    adam: str
    compiled: bool = False

    def __str__(self) -> str:
        return (
            f"{'compiled' if self.compiled else 'eager'}, Adam {self.adam}, threads {self.threads}"
        )


def run(quick: bool = False) -> Findings:
    found = Findings()
    for task in TASKS[:1] if quick else TASKS:
        rows = task.num_rows // 50 if quick else task.num_rows
        _compare(task, rows, found, quick)
    return found


def _compare(task: Task, num_rows: int, found: Findings, quick: bool) -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((num_rows, task.sizes[0]), dtype=np.float32)
    y = draw.integers(0, task.sizes[-1], num_rows).astype(np.int32)
    trials = {s: _trial(task, x, y, s, TRIAL_SECONDS / (50 if quick else 1)) for s in _tried(quick)}
    finalists = _fastest(trials)
    runs: list[Epochs] = []

    def ours() -> float:
        model = mlp_model(task.sizes)
        runs.append(
            timed_fit(mlp_loss, model, (x, y), epochs=3, batch_size=task.batch, patience=None)
        )
        return median(runs[-1].seconds)

    contestants: dict[str, Callable[[], float]] = {"downslope": ours}
    contestants |= {str(settings): _torch_epoch(task, x, y, settings) for settings in finalists}
    samples = take_turns(contestants, repeats=1 if quick else 5)
    name = "-".join(map(str, task.sizes))
    _write(task, name, num_rows, samples, finalists, found)
    first = median(run.first_seconds - median(run.seconds) for run in runs)
    tried = ", ".join(f"{s} {t * 1e6:.0f} us" for s, t in trials.items() if t is not None)
    found.notes.append(
        f"MLP {name}: PyTorch's step in trials: {tried or 'not installed'}. "
        f"downslope's first epoch takes {first:.2f} s longer: compilation."
    )
    found.samples |= {f"{name} {who}": times for who, times in samples.items()}


def _write(
    task: Task,
    name: str,
    num_rows: int,
    samples: Samples,
    finalists: list[Settings],
    found: Findings,
) -> None:
    what = f"MLP {name}, {num_rows:,} rows, batch {task.batch}, Adam: one epoch"
    ours = shown(samples["downslope"])
    if not finalists:
        found.rows.append(Row(what=what, ours=ours))
    for compiled in sorted({settings.compiled for settings in finalists}):
        group = [str(settings) for settings in finalists if settings.compiled == compiled]
        # Which number of threads is best changes with what else runs: each turn's best counts
        best = [min(turn) for turn in zip(*(samples[who] for who in group), strict=True)]
        faster = ratio_of(best, samples["downslope"])
        each = "; ".join(f"{who} {shown(samples[who])}" for who in group)
        found.rows.append(
            Row(
                what=what,
                ours=ours,
                peer=f"PyTorch, the faster in each turn {shown(best)} ({each})",
                ratio=faster,
                bar="" if compiled else f"at least {task.bar:g} times faster",
                met=None if compiled else faster.median >= task.bar,
            )
        )


def _tried(quick: bool) -> list[Settings]:
    if not has("torch"):
        return []
    threads = sorted({1, len(os.sched_getaffinity(0))})
    ways = itertools.product(threads, ("fused", "foreach", "for-loop"))
    found = [Settings(threads=n, adam=adam) for n, adam in ways]
    if not quick:  # compiling takes half a minute
        found += [Settings(threads=n, adam="fused", compiled=True) for n in threads]
    return found


def _fastest(trials: dict[Settings, float | None]) -> list[Settings]:
    """The fastest way in the trials for each number of threads, eager and compiled apart."""
    found: dict[tuple[int, bool], Settings] = {}
    for settings, took in sorted(trials.items(), key=lambda item: item[1] or 0.0):
        if took is not None:
            found.setdefault((settings.threads, settings.compiled), settings)
    return list(found.values())


def _trial(task: Task, x: Any, y: Any, settings: Settings, limit: float) -> float | None:
    """Seconds per step, or None if PyTorch cannot run so (no C++ compiler)."""
    try:
        step = _torch_step(task, settings)
        rows = _tensor(x[: task.batch]), _tensor(y[: task.batch]).long()
        for _ in range(3):
            step(*rows)
    except Exception as error:
        if not settings.compiled:
            raise
        print(f"  torch.compile does not run here: {type(error).__name__}")
        return None
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < limit:
        start = time.perf_counter()
        step(*rows)
        times.append(time.perf_counter() - start)
    return median(times)


def _torch_epoch(task: Task, x: Any, y: Any, settings: Settings) -> Callable[[], float]:
    """An epoch over rows shuffled before, in contiguous slices: no DataLoader in the way."""
    step = _torch_step(task, settings)
    order = np.random.default_rng(1).permutation(len(x))
    rows, labels = _tensor(x[order]), _tensor(y[order]).long()

    def epoch() -> float:
        import torch

        torch.set_num_threads(settings.threads)
        begin = time.perf_counter()
        for start in range(0, len(rows), task.batch):
            step(rows[start : start + task.batch], labels[start : start + task.batch])
        return time.perf_counter() - begin

    return epoch


def _torch_step(task: Task, settings: Settings) -> Callable[[Any, Any], None]:
    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    layers: list[Any] = []
    for a, b in itertools.pairwise(task.sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    kind = {"fused": {"fused": True}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, **kind[settings.adam])

    def loss(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(x), y)

    forward = torch.compile(loss) if settings.compiled else loss

    def step(x: Any, y: Any) -> None:
        adam.zero_grad(set_to_none=True)
        forward(x, y).backward()
        adam.step()

    return step


def _tensor(a: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(a)
