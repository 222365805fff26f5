"""Targets: what a hand-tuned AdamW reaches, by a random search: `make bench-selftuning-targets`.

Every setting runs once, with cosine to zero over 0.8 of the horizon. The one of the lowest
validation loss at its end runs again on five seeds. The target is a test loss that it reached on
four of the five, its second worst, and half a per cent more. These runs are the oracle, whose
search is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optax

from benchmarks.selftuning.clock import Clock
from benchmarks.selftuning.records import Record
from benchmarks.selftuning.rivals import GIVEN, Hints, Rival
from benchmarks.selftuning.runs import Bench, run
from benchmarks.selftuning.workloads import WORKLOADS, Workload, load, missing
from benchmarks.timing import load as busy
from benchmarks.timing import machine

FILE = Path(__file__).parent / "targets.json"
VERSION = 1  # of the search
SETTINGS = 20
SHARE = 0.8  # of the horizon: whoever tunes on the clock has a quarter more time
SEEDS = 5
MISSES = 1  # of these seeds may miss the target
ALLOWANCE = 1.005  # times that loss: seeds of a convex loss end within a hundredth of a per cent
WHOLE = ("transformer",)  # the best setting runs over the whole horizon too, for its end
WHOLE_SEEDS = 3
# The first ones of the search: common defaults, so that the best is no worse than these.
COMMON = ((32, 1e-3), (128, 3e-3))
NAME = "hand-tuned AdamW"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting of AdamW; `warmup` is a share of the updates."""

    batch_size: int
    learning_rate: float
    warmup: float
    b1: float
    b2: float
    weight_decay: float


@dataclass(kw_only=True)
class Search:
    """Runs of a workload's search, in progress or done.

    Attributes:
        trials: setting, validation loss and test loss at the end of every run of the search.
        runs: of the best setting over `SHARE` of the horizon, a seed each.
        whole: of the best setting over the whole horizon.
        about: the machine that it ran on.
    """

    version: int = VERSION
    horizon_seconds: float
    trials: list[dict[str, Any]] = field(default_factory=list)
    runs: list[Record] = field(default_factory=list)
    whole: list[Record] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Setting | None:
        """Setting of the lowest validation loss."""
        fits = [t for t in self.trials if t["validation_loss"] is not None]
        lowest = min(fits, key=lambda t: t["validation_loss"], default=None)
        return None if lowest is None else Setting(**lowest["setting"])

    @property
    def target(self) -> float | None:
        """Loss that the best setting reaches on all seeds but `MISSES`, and the allowance.

        None until all have run.
        """
        if len(self.runs) < SEEDS:
            return None
        return target_of([record.lowest_loss for record in self.runs])

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the target for people."""
        found = dataclasses.asdict(self)
        for name in ("runs", "whole"):
            found[name] = [record.to_json() for record in getattr(self, name)]
        return found | {"target": self.target}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Search:
        """The search that `to_json` gave."""
        found = {k: v for k, v in found.items() if k != "target"}
        for name in ("runs", "whole"):
            found[name] = [Record.from_json(record) for record in found[name]]
        return cls(**found)


def target_of(losses: list[float]) -> float:
    """The loss that all but `MISSES` of them reach, times the allowance."""
    return ALLOWANCE * sorted(losses)[max(0, len(losses) - 1 - MISSES)]


def draw_settings(count: int, most_rows: int) -> list[Setting]:
    """Settings of the search: the common ones, then random ones; the same for the same count.

    Args:
        most_rows: of a batch.
    """
    rng = np.random.default_rng(0)
    common = [
        Setting(batch_size=size, learning_rate=rate, warmup=0.05, b1=0.9, b2=0.99, weight_decay=0.0)
        for size, rate in COMMON
    ]
    drawn = [
        Setting(
            batch_size=int(2 ** rng.integers(3, 11)),
            learning_rate=float(f"{10 ** rng.uniform(-3.5, -1.5):.3g}"),
            warmup=float(rng.choice([0.02, 0.05, 0.1, 0.2])),
            b1=float(rng.choice([0.8, 0.9, 0.95])),
            b2=float(rng.choice([0.95, 0.99, 0.999])),
            weight_decay=float(rng.choice([0.0, 1e-4, 1e-2, 1e-1])),
        )
        for _ in range(max(0, count - len(common)))
    ]
    return [
        dataclasses.replace(s, batch_size=min(s.batch_size, most_rows))
        for s in (common + drawn)[:count]
    ]


def tuned(setting: Setting) -> Rival:
    """AdamW with a setting, its rate falling by cosine to zero at the end of the time."""

    def options(workload: Workload, hints: Hints, clock: Clock) -> dict[str, Any]:
        rule = functools.partial(
            optax.adamw, b1=setting.b1, b2=setting.b2, weight_decay=setting.weight_decay
        )
        return GIVEN | {
            "optimizer": rule,
            "learning_rate": setting.learning_rate,
            "batch_size": setting.batch_size,
            "schedule": "cosine",
            "warmup_steps": max(1, round(setting.warmup * hints.num_steps(setting.batch_size))),
        }

    return Rival(name=NAME, options=options)


class Targets:
    """Searches by workload, in a file."""

    def __init__(self, path: Path = FILE):
        self.path = path
        found = json.loads(path.read_text()) if path.exists() else {}
        self.searches = {name: Search.from_json(search) for name, search in found.items()}

    def target(self, name: str) -> float | None:
        """Target of a workload; None if its search is not complete."""
        search = self.searches.get(name)
        return None if search is None else search.target

    def save(self) -> None:
        """Write the file anew, whole or not at all."""
        found = {name: search.to_json() for name, search in self.searches.items()}
        written = self.path.with_suffix(".part")
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(found, indent=1) + "\n")
        written.replace(self.path)


def search(name: str, targets: Targets, *, settings: int) -> None:
    """Continue the search of a workload, saving after every run."""
    bench = Bench(load(name))
    workload = bench.workload
    horizon = workload.horizon_seconds
    kept = targets.searches.get(name)
    if kept is None or kept.version != VERSION or kept.horizon_seconds != horizon:
        kept = targets.searches[name] = Search(horizon_seconds=horizon, about=machine())
    most_rows = max(8, (workload.num_rows or 1 << 16) // 4)
    go = functools.partial(run, bench, version=str(VERSION))
    for setting in draw_settings(settings, most_rows)[len(kept.trials) :]:
        record = go(
            tuned(setting), seed=0, horizon_seconds=SHARE * horizon, shares=(), validates_end=True
        )
        validation = record.notes.get("validation_loss", math.inf)
        kept.trials.append(
            {
                "setting": dataclasses.asdict(setting),
                "validation_loss": validation if math.isfinite(validation) else None,
                "test_loss": _finite(record.final_loss),
                "num_steps": record.num_steps,
                "seconds": record.seconds,
            }
        )
        targets.save()
        print(f"  {setting}: {validation:.5g}, {record.num_steps:,} updates", flush=True)
    if kept.best is None:
        print("  no setting ended with a finite loss", flush=True)
        return
    for runs, share, count in (
        (kept.runs, SHARE, SEEDS),
        (kept.whole, 1.0, WHOLE_SEEDS if name in WHOLE else 0),
    ):
        for seed in range(len(runs), count):
            record = go(tuned(kept.best), seed=seed, horizon_seconds=share * horizon)
            runs.append(record)
            targets.save()
            print(f"  seed {seed}, {share:g} of the time: {record.lowest_loss:.5g}", flush=True)


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def main(argv: list[str] | None = None) -> None:
    """Search for the targets of the workloads that have none yet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selftuning.targets", description=main.__doc__
    )
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--settings", type=int, default=SETTINGS, metavar="N", help=f"by default {SETTINGS}"
    )
    parser.add_argument("--file", type=Path, default=FILE, metavar="FILE")
    options = parser.parse_args(argv)
    unknown = set(options.workloads or ()) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload named {', '.join(sorted(unknown))}")
    print(json.dumps(machine(), indent=1), flush=True)
    targets = Targets(options.file)
    for name in options.workloads or WORKLOADS:
        if missing(name):
            print(f"{name}: left out, {', '.join(missing(name))} not installed", flush=True)
            continue
        begin = time.perf_counter()
        print(f"{name}: {busy()}", flush=True)
        search(name, targets, settings=options.settings)
        target, took = targets.target(name), time.perf_counter() - begin
        print(f"  target {target and format(target, '.5g')}, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
