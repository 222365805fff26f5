"""Comparable times: contestants take turns, and ratios are formed turn by turn.

Another program on the machine slows a whole turn, so it hardly changes the ratios within it.
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

REPEATS = 5
PAUSE_SECONDS = 0.3  # idle threads of an OpenMP pool spin on for up to 0.2 s after their work

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of all turns, with the smallest and the largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def take_turns(
    contestants: Mapping[str, Callable[[], float]], repeats: int = REPEATS, warm_up: bool = True
) -> Samples:
    """Seconds of each contestant, a list in the order of the turns.

    Args:
        contestants: functions that give the seconds they took.
        repeats: number of turns that count.
        warm_up: run one turn first that does not count.
    """
    found: Samples = {name: [] for name in contestants}
    for turn in range(-1 if warm_up else 0, repeats):
        for name, measure in contestants.items():
            gc.collect()
            time.sleep(PAUSE_SECONDS)
            value = measure()
            if turn >= 0:
                found[name].append(value)
    return found


def ratio(samples: Samples, over: str, under: str) -> Ratio:
    """Seconds of `over` relative to those of `under`, turn by turn."""
    return ratio_of(samples[over], samples[under])


def ratio_of(over: list[float], under: list[float]) -> Ratio:
    turns = [a / b for a, b in zip(over, under, strict=True)]
    return Ratio(median(turns), min(turns), max(turns))


def shown(times: list[float]) -> str:
    """A median with its unit."""
    value = median(times)
    if value < 1e-3:
        return f"{value * 1e6:.3g} us"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def has(package: str) -> bool:
    """Whether a peer is installed; `pip install -e '.[bench]'` brings them all."""
    return importlib.util.find_spec(package) is not None


def load() -> str:
    """Load of the machine: the load average, where 1 is a busy core."""
    return "load average " + " ".join(f"{x:.1f}" for x in os.getloadavg())


def machine() -> dict[str, Any]:
    """Facts that the figures depend on: processor, cores, memory, Python, versions."""
    names = ("downslope", "jax", "numpy", "optax", "pyarrow", "scikit-learn", "torch")
    return {
        "processor": _proc("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _proc("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*names, "vowpalwabbit")},
    }


def _proc(path: str, field: str) -> str:
    try:
        with open(path) as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith(field))
    except (OSError, StopIteration):
        return ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
