"""Result of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from downslope.errors import StopReason
from downslope.estimate import Estimate
from downslope.metrics import Results


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """A trained model and how it was trained; printed, it gives a short summary.

    Attributes:
        params: the model with trained leaves in place, a pytree like the one given.
        stop_reason: why the run ended; `.advice` says what to try next.
        history: journal records, oldest first; `event` is "progress", "evaluated", "measured",
            "anatomy", "decided", "trial", "horizon" or "solved".
        measurements: noise measured at the end of the run, by name; see
            `downslope.noise.online.monitor.Readings`. Empty if nothing was measured.
        validation: held-out metrics by name, each with its interval; None without held-out rows.
        train_loss: mean training loss of the last whole epoch, or of the rows so far if there is
            none; for a generator, of the latest windows.
        num_steps: updates made.
        num_examples: rows used, over all epochs.
        num_epochs: epochs done, with a fraction for an incomplete one; None for a generator.
        batch_size: examples per update, at the end.
        learning_rate: step size before the schedule, at the end; None if the optimizer holds
            its own.
        optimizer: its name.
        seconds: time spent training, with evaluations and checkpoints.
        spent_seconds: that time by kind: updates, search (of a learning rate), evaluation,
            measuring (with calls of an observer), compiling, saving, and other; empty if the loss
            was solved.
        twice_as_long: held-out loss that twice as many updates would have given, or why that is
            not estimable; None unless a limit ended the run.
        shuffling: one sentence on how well the rows were shuffled.
        diverged_at_step: update whose loss was not finite or had exploded, else None.
        signal: number of the signal that interrupted the run, else None.
        run: the run's folder, or None.
    """

    params: Any
    stop_reason: StopReason
    history: list[dict[str, Any]]
    measurements: dict[str, Estimate] = field(default_factory=dict)
    validation: Results | None = None
    train_loss: float | None
    num_steps: int
    num_examples: int
    num_epochs: float | None
    batch_size: int
    learning_rate: float | None = None
    optimizer: str
    seconds: float
    spent_seconds: dict[str, float] = field(default_factory=dict)
    twice_as_long: Estimate | None = None
    shuffling: str
    diverged_at_step: int | None = None
    signal: int | None = None
    run: Path | None = None

    def __str__(self) -> str:
        epochs = "" if self.num_epochs is None else f", {self.num_epochs:.3g} epochs"
        rate = "" if self.learning_rate is None else f" at learning rate {self.learning_rate:.3g}"
        loss = "unknown" if self.train_loss is None else f"{self.train_loss:.4g}"
        lines = [
            f"{self.stop_reason} after {self.num_steps:,} updates{epochs}, {self.seconds:.3g} s; "
            f"{self.stop_reason.advice}",
            f"{self.optimizer}{rate}, batch {self.batch_size:,}; training loss {loss}",
        ]
        if self.twice_as_long is not None and self.twice_as_long.is_measured:
            lines.append(f"held-out loss of a run twice as long: {self.twice_as_long}")
        if self.validation is not None:
            lines += ["held out:", *(f"  {line}" for line in str(self.validation).splitlines())]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Result: {self.stop_reason} after {self.num_steps:,} updates>"

    def summary(self) -> dict[str, Any]:
        """Numbers as plain values, for JSON; `validation_intervals` holds lo and hi."""
        found = self.validation or {}
        return {
            "run": None if self.run is None else str(self.run),
            "optimizer": self.optimizer,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "num_steps": self.num_steps,
            "num_examples": self.num_examples,
            "num_epochs": self.num_epochs,
            "seconds": self.seconds,
            "spent_seconds": self.spent_seconds,
            "train_loss": self.train_loss,
            "validation": {name: estimate.value for name, estimate in found.items()},
            "validation_intervals": {n: [e.lo, e.hi] for n, e in found.items()},
            "validation_missing": {} if self.validation is None else self.validation.reasons,
            "measurements": {name: m.to_json() for name, m in self.measurements.items()},
            "twice_as_long": self.twice_as_long and self.twice_as_long.to_json(),
            "stop_reason": str(self.stop_reason),
            "diverged_at_step": self.diverged_at_step,
            "advice": self.stop_reason.advice,
        }
