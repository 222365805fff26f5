"""One run of `downslope.fit`, observed from outside: held-out losses and their times."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

import downslope
from benchmarks.auto.tasks import Task

COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class CompileClock:
    """Seconds that this thread has spent on tracing, lowering and compiling.

    A trace may contain others: what counts is the union of the intervals.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._spans: list[tuple[float, float]] = []

    def __enter__(self) -> CompileClock:
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *_: Any) -> None:
        jax.monitoring.unregister_event_duration_listener(self._hear)

    def _hear(self, event: str, seconds: float, **_: Any) -> None:
        if event not in COMPILING or threading.get_ident() != self._thread:
            return
        now = time.perf_counter()
        while self._spans and self._spans[-1][0] >= now - seconds:
            self._spans.pop()  # it is inside this one
        self._spans.append((now - seconds, now))

    @property
    def seconds(self) -> float:
        return sum(end - begin for begin, end in self._spans)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A held-out loss.

    Attributes:
        seconds: since `fit` was called.
        compiling: of these, spent on compiling.
    """

    seconds: float
    compiling: float
    loss: float
    step: int

    @property
    def training(self) -> float:
        """Seconds without compiling."""
        return self.seconds - self.compiling


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Record of a run.

    Attributes:
        setting: its settings as text, for people.
        lows: evaluations with a lower loss than all before.
        final_loss: held-out loss of the parameters that `fit` returned; None if it did not end.
        end: the stop reason of `fit`, or why the benchmark ended it.
        seconds, compiling: the whole run.
    """

    setting: str
    seed: int
    lows: list[Point]
    final_loss: float | None
    end: str
    seconds: float
    compiling: float

    @property
    def best_loss(self) -> float:
        return min((p.loss for p in self.lows), default=math.inf)

    def reach(self, target: float) -> Point | None:
        """First evaluation at or below the target."""
        return next((p for p in self.lows if p.loss <= target), None)

    def loss_by(self, training: float) -> float:
        """Lowest loss within this many seconds, without compiling."""
        return min((p.loss for p in self.lows if p.training <= training), default=math.inf)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Trace:
        return cls(**{**found, "lows": [Point(**p) for p in found["lows"]]})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Enough(BaseException):  # an Exception would only drop the reader that raises it
    """Raised by a reader to end a run; its text says why."""


def watch(
    task: Task,
    *,
    seed: int,
    setting: str,
    ends: Callable[[Point], str | None] = lambda _: None,
    cold: bool = True,
    **options: Any,
) -> Trace:
    """Run `downslope.fit` on the task's training rows, with its held-out rows as validation.

    Args:
        ends: called at every evaluation and progress record; a text ends the run. A point of
            progress has the lowest held-out loss so far.
        cold: drop first what this process has compiled, as if it were new.
        options: for `fit`.
    """
    if cold:
        jax.clear_caches()
    model, lows, low = task.model(seed), [], math.inf
    with CompileClock() as clock:
        begin = time.perf_counter()

        def note(record: dict[str, Any]) -> None:
            nonlocal low
            now, event = time.perf_counter() - begin, record["event"]
            if event not in ("evaluated", "progress"):
                return
            loss = low
            if event == "evaluated":
                loss = float(record["metrics"]["loss"]["value"])
            point = Point(seconds=now, compiling=clock.seconds, loss=loss, step=record["step"])
            if loss < low:
                low = loss
                lows.append(point)
            why = ends(dataclasses.replace(point, loss=low))
            if why:
                raise Enough(why)

        final, end = None, ""
        try:
            result = downslope.fit(
                task.loss, model, task.train, validation=task.held_out, seed=seed,
                l2=task.l2, readers=(note,), **options,
            )  # fmt: skip
            if result.stop_reason is downslope.StopReason.INTERRUPTED:
                raise KeyboardInterrupt  # `fit` caught the signal meant for the benchmark
            end = str(result.stop_reason)
            if result.validation is not None and result.validation["loss"].value is not None:
                final = float(result.validation["loss"].value)
        except Enough as enough:
            end = str(enough)
        seconds, compiling = time.perf_counter() - begin, clock.seconds
    if final is not None and final < low:  # parameters that no evaluation had before
        step = result.num_steps
        lows.append(Point(seconds=seconds, compiling=compiling, loss=final, step=step))
    return Trace(
        setting=setting, seed=seed, lows=lows, final_loss=final, end=end,
        seconds=seconds, compiling=compiling,
    )  # fmt: skip
