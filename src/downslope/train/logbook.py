"""What the pilot remembers of a run from one decision to the next, checkpoints included."""

from __future__ import annotations

import dataclasses

# What the pilot forgets when the run goes back to an earlier state.
UNDONE = (
    "best_loss", "evaluated_step", "gained_step", "path", "without_gain", "anneals", "average_from",
)  # fmt: skip


@dataclasses.dataclass
class Progress:
    """What the pilot remembers, saved in checkpoints.

    Attributes:
        learning_rate: in use, None where the optimizer holds its own.
        batch_size: in use.
        clip_norm: in use, or None.
        average_from: update that the average of the parameters begins with.
        searched: the first learning rate was looked for.
        best_loss: the held-out loss that a gain is measured from, or None.
        without_gain: evaluations since the last gain or change of temperature.
        anneals: changes of temperature since the last gain.
        coolings: lower rates since the end of the run drew near.
        repeats: times that a step went wrong.
        evaluated_step: update of the latest evaluation that decided.
        gained_step: update of the last gain or change of temperature.
        starts: from the first parameters, at falling rates.
        started_step: update of the latest of them.
        first_rate: that the latest start began with.
        path: [update, lowest loss] at the evaluations since the last change of temperature.
        lowest_before: lowest held-out loss of the starts before, or None.
    """

    learning_rate: float | None
    batch_size: int
    clip_norm: float | None
    average_from: int
    searched: bool = False
    best_loss: float | None = None
    without_gain: int = 0
    anneals: int = 0
    coolings: int = 0
    repeats: int = 0
    evaluated_step: int = 0
    gained_step: int = 0
    starts: int = 1
    started_step: int = 0
    first_rate: float | None = None
    path: list[list[float]] = dataclasses.field(default_factory=list)
    lowest_before: float | None = None
