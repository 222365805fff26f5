"""What a run's journal says of the noise, record by record."""

from __future__ import annotations

from dataclasses import dataclass

from downslope.estimate import Estimate
from downslope.report.reading import estimate, number, of_event, step_of
from downslope.report.run_data import RunData

NOT_MEASURED = "no noise was measured in this run"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One record of what the measured steps say: where, at which batch size, and what."""

    step: float
    examples: float
    batch_size: float
    scale: Estimate
    signal: Estimate
    trace: Estimate


def readings(run: RunData) -> list[Reading]:
    """The readings of the noise over the run, in order."""
    found = []
    for record in of_event(run.kept, "measured"):
        size, step = number(record.get("batch_size")), step_of(record)
        if not size or size <= 0:
            continue
        found.append(
            Reading(
                step=step,
                examples=run.course.examples(step) or 0.0,
                batch_size=size,
                scale=estimate(record.get("noise_scale"), "examples"),
                signal=estimate(record.get("gradient_signal")),
                trace=estimate(record.get("gradient_noise")),
            )
        )
    return found
