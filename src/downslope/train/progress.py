"""Position, counts and training losses of a run."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import numpy as np

from downslope.choose.divergence import (
    EXPLOSION_STEPS,
    JUMP,
    JUMP_ROWS,
    has_exploded,
    has_jumped,
)
from downslope.data.stream import Position

LEAP = 50.0  # times as far as a jump: a thousand times the first loss
CALMER = 10.0
RISEN = 2.0  # times the first losses
SMOOTHING = 100  # windows in the smoothed loss; assumed


@dataclasses.dataclass(kw_only=True)
class TrainingProgress:
    """Position, counts and training losses, kept on the host and saved in checkpoints."""

    position: Position = Position()  # noqa: RUF009 - immutable
    num_steps: int = 0  # updates made
    num_examples: int = 0  # rows used, over all epochs
    seconds: float = 0.0  # spent on the run, with searches, evaluations and checkpoints
    update_seconds: float = 0.0  # of them, on updates
    spent_seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # by kind
    smoothed_loss: float | None = None  # mean over the latest windows, weights falling by age
    smoothed_weight: float = 0.0  # sum of those weights
    epoch_loss: float = 0.0  # sum of the losses of the epoch under way
    epoch_rows: int = 0
    last_epoch_loss: float | None = None  # mean over the last whole epoch
    # losses of the first and the latest windows
    first_losses: list[float] = dataclasses.field(default_factory=list)
    last_losses: deque[float] = dataclasses.field(
        default_factory=lambda: deque(maxlen=EXPLOSION_STEPS)
    )
    jumped: bool = False  # two batches in a row had a loss far above that of the first
    leapt: bool = False  # so far above that no heavy tail explains it
    jump_scale: float = 1.0  # factor on that threshold, raised by jumps that did no harm

    def add(
        self,
        loss_sums: np.ndarray,
        sizes: np.ndarray,
        num_steps: int,
        position: Position,
        seconds: float = 0.0,
    ) -> None:
        """Add the windows of one call: their summed losses and their rows, both [n]."""
        self.update_seconds += seconds
        means = loss_sums / np.maximum(sizes, 1)
        self._smooth(means)
        self.epoch_loss += float(loss_sums.sum(dtype=np.float64))
        self.epoch_rows += int(sizes.sum())
        self.num_steps += num_steps
        self.num_examples += int(sizes.sum())
        missing = EXPLOSION_STEPS - len(self.first_losses)
        if missing > 0:
            self.first_losses += means[:missing].tolist()
        if self.first_losses and int(sizes.max(initial=0)) >= JUMP_ROWS:
            first = self.first_losses[0]
            scale = self.jump_scale * first
            before = list(self.last_losses)[-1:]
            if (means > JUMP * scale).any():  # skipped in most calls
                losses = before + means.tolist()
                self.jumped |= has_jumped(scale, losses)
                self.leapt |= has_jumped(LEAP * first, losses)
        self.last_losses.extend(means[-EXPLOSION_STEPS:].tolist())
        if position.epoch > self.position.epoch:
            self.last_epoch_loss = self.epoch_loss / max(1, self.epoch_rows)
            self.epoch_loss, self.epoch_rows = 0.0, 0
        self.position = position

    def _smooth(self, means: np.ndarray) -> None:
        keep = 1 - 1 / SMOOTHING
        recent = means[-40 * SMOOTHING :].astype(np.float64)  # older ones weigh less than 1e-17
        if not len(recent):
            return
        weights = keep ** np.arange(len(recent))[::-1]
        # Sums, divided only when shown, so that the mean does not depend on where calls begin.
        before = keep ** len(recent) * self.smoothed_weight
        total = before * (self.smoothed_loss or 0.0) + float(weights @ recent)
        self.smoothed_weight = before + float(weights.sum())
        self.smoothed_loss = total / self.smoothed_weight

    @property
    def train_loss(self) -> float | None:
        """Mean training loss of the last whole epoch, or of the rows so far."""
        if self.last_epoch_loss is not None:
            return self.last_epoch_loss
        return self.epoch_loss / self.epoch_rows if self.epoch_rows else None

    @property
    def exploded(self) -> bool:
        """True if the training loss has exploded."""
        return self.jumped or has_exploded(self.first_losses, list(self.last_losses))

    def calm(self) -> None:
        """Ignore a jump that left the parameters unharmed, and raise the threshold."""
        self.jumped, self.jump_scale = False, CALMER * self.jump_scale

    @property
    def first_loss(self) -> float | None:
        """Mean loss of the run's first window, or None."""
        return self.first_losses[0] if self.first_losses else None

    @property
    def rises(self) -> bool:
        """True if the latest losses are well above the first: not a state to return to."""
        if not self.first_losses or not self.last_losses:
            return False
        return bool(np.median(self.last_losses) > RISEN * np.median(np.abs(self.first_losses)))

    def to_json(self) -> dict[str, Any]:
        """Fields as plain values; lists are copied, so that what was saved stays as it was."""
        fields = vars(self).items()
        return {k: list(v) if isinstance(v, (tuple, list, deque)) else v for k, v in fields}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingProgress:
        """The inverse of `to_json`."""
        found = cls(**values)
        found.position = Position(*values["position"])
        found.first_losses = list(values["first_losses"])
        found.last_losses = deque(values["last_losses"], maxlen=EXPLOSION_STEPS)
        return found
