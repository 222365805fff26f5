"""Measurements of a run: its noise, reading by reading, and the times of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from downslope.estimate import Estimate
from downslope.report.reading import estimate, listing, number, numbers, scale_name, step_of
from downslope.report.run_data import RunData

NOT_MEASURED = "no noise was measured in this run"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The noise at one moment of a run.

    Attributes:
        step, examples: updates made and examples used until then.
        batch_size: in use then.
        scale: noise scale in the metric that the optimizer steps in, in examples.
        euclidean: noise scale in the Euclidean metric, in examples; `scale` itself if that is it.
        is_preconditioned: `scale` is in a metric of the optimizer's own.
        signal, trace: |G|^2, and the trace of the gradient's covariance over examples.
    """

    step: float
    examples: float
    batch_size: float
    scale: Estimate
    euclidean: Estimate
    is_preconditioned: bool
    signal: Estimate
    trace: Estimate

    @property
    def name(self) -> str:
        """Name of `scale` in a sentence."""
        return "preconditioned noise scale" if self.is_preconditioned else "noise scale"

    @property
    def bounds(self) -> tuple[float | None, float | None, float | None]:
        """Value, lower and upper end of the noise scale, each where it is above 0."""
        return positive_ends(self.scale)

    @property
    def level(self) -> float | None:
        """The noise scale or else its lower bound, where that is above 0."""
        value, lo, _ = self.bounds
        return value or lo


def positive_ends(found: Estimate) -> tuple[float | None, float | None, float | None]:
    """Value, lower and upper end of an estimate, each where it is above 0."""
    value, lo, hi = (end if end and end > 0 else None for end in (found.value, found.lo, found.hi))
    return value, lo, hi


def readings(run: RunData) -> list[Reading]:
    """All readings of the noise, in order."""
    found = []
    for record in run.of("measured"):
        size, step = number(record.get("batch_size")), step_of(record)
        if size and size > 0:
            name = scale_name(record)
            found.append(
                Reading(
                    step=step,
                    examples=run.course.examples(step) or 0.0,
                    batch_size=size,
                    scale=estimate(record.get(name), "examples"),
                    euclidean=estimate(record.get("noise_scale"), "examples"),
                    is_preconditioned=name != "noise_scale",
                    signal=estimate(record.get("gradient_signal")),
                    trace=estimate(record.get("gradient_noise")),
                )
            )
    return found


def stretches(found: Sequence[Reading], num_steps: float) -> list[tuple[Reading, int]]:
    """The readings that bound the noise scale, each with the steps that it describes: those since
    the reading before, and for the last one those up to the end of the run too.
    """
    bounded = [reading for reading in found if reading.level]
    pairs, before = [], 0
    for place, reading in enumerate(bounded, start=1):
        until = int(num_steps if place == len(bounded) else reading.step)
        if until > before:
            pairs.append((reading, until - before))
            before = until
    return pairs


def timed(run: RunData) -> dict[float, list[float]]:
    """Seconds of steps by batch size, from the records that timed them on purpose."""
    found: dict[float, list[float]] = {}
    for record in run.of("timed"):
        sizes, seconds = numbers(record.get("batch_sizes")), listing(record.get("step_seconds"))
        for size, each in zip(sizes, seconds, strict=False):
            several = numbers(each) if isinstance(each, (list, tuple)) else [number(each)]
            good = [t for t in several if t is not None and t > 0]
            if size and size > 0 and good:
                found.setdefault(size, []).extend(good)
    return dict(sorted(found.items()))
