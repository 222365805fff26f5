"""Facts about a run, changed conditions, and the answer to a what-if question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from downslope.arguments import number, whole
from downslope.estimate import Estimate

LATENCY = 50e-6  # seconds per message on an ordinary network of a data centre; assumed


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts about a run, in plain numbers; empty or None if unknown.

    Attributes:
        num_steps, seconds: updates made, and their total time.
        batch_size: examples of a step at the end.
        stretch_steps, batch_sizes, noise_scales, noise_los, noise_his: by stretch of the run, as
            for `equivalent_steps`.
        num_unread: readings of the noise scale with neither value nor bound.
        timed_sizes, timed_seconds: as for `fit_step_times`, but possibly of one size only.
        was_timed: whether steps were timed on purpose; else their times include waiting for
            data and evaluations.
        num_bytes: size of a gradient.
        fixed_bytes, example_bytes: memory of a step: fixed, and for each example.
    """

    num_steps: int
    seconds: float = 0.0
    batch_size: float | None = None
    stretch_steps: tuple[float, ...] = ()
    batch_sizes: tuple[float, ...] = ()
    noise_scales: tuple[float | None, ...] = ()
    noise_los: tuple[float | None, ...] = ()
    noise_his: tuple[float | None, ...] = ()
    num_unread: int = 0
    timed_sizes: tuple[float, ...] = ()
    timed_seconds: tuple[tuple[float, ...], ...] = ()
    was_timed: bool = True
    num_bytes: float | None = None
    fixed_bytes: float | None = None
    example_bytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Conditions of a run to change.

    Attributes:
        step_overhead_seconds: additional cost of each step.
        batch_size: examples of a step; None for the best.
        memory_bytes: memory available to a step; None for no bound.
        num_workers: workers that share a step; None for the best number.
        bytes_per_second: bandwidth of one worker's link; None without a link.
        latency_seconds: fixed cost of a message.
    """

    step_overhead_seconds: float = 0.0
    batch_size: int | None = None
    memory_bytes: float | None = None
    num_workers: int | None = None
    bytes_per_second: float | None = None
    latency_seconds: float = LATENCY

    def __post_init__(self):
        for name in ("step_overhead_seconds", "latency_seconds"):
            number(name, getattr(self, name), least=0)
        for name in ("batch_size", "num_workers"):
            whole(name, getattr(self, name), optional=True)
        for name in ("memory_bytes", "bytes_per_second"):
            number(name, getattr(self, name), above=0, optional=True)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one question.

    Attributes:
        question: its name, such as "batch_size".
        value: the number, or why there is none; None if `words` are the answer.
        words: an answer other than a number.
        because: what it rests on, one sentence; empty without an answer.
        flags: caveats.
    """

    question: str
    value: Estimate | None = None
    words: str | None = None
    because: str = ""
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Fields as a plain dictionary."""
        value = None if self.value is None else self.value.to_json()
        return {**vars(self), "value": value, "flags": list(self.flags)}

    def __str__(self) -> str:
        return self.words if self.value is None else str(self.value)  # type: ignore[return-value]


def unknown(question: str, unit: str, reason: str) -> Answer:
    """Answer without a value, with the reason.

    Example:
        >>> print(unknown("seconds", "s", "no step was timed in this run"))
        not estimable: no step was timed in this run
    """
    return Answer(question=question, value=Estimate(value=None, unit=unit, reason=reason))
