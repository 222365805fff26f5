"""Copies of a run's parameters at given times, for an evaluation after the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Model during a run: after `step` updates, at a time by `time.perf_counter`."""

    model: Any
    step: int
    time: float


class Camera:
    """An observer of `downslope.fit` that keeps what it gets at the given times.

    Args:
        due: times by `time.perf_counter`, in order.

    Attributes:
        taken: copies, each of the first occasion after its time.
    """

    def __init__(self, due: Sequence[float]):
        self._due = list(due)
        self.taken: list[Snapshot] = []

    def __call__(self, step: int, seconds: float, params: Any) -> float | None:
        """Keep the parameters if a copy is due; gives the seconds until the next one is."""
        if self._is_due():
            jax.block_until_ready(params)
            self.taken.append(Snapshot(model=params, step=step, time=time.perf_counter()))
        while self._is_due():
            self._due.pop(0)
        return self._due[0] - time.perf_counter() if self._due else None

    def _is_due(self) -> bool:
        return bool(self._due) and time.perf_counter() >= self._due[0]
