"""Progress records of a run, written at a fixed rate."""

from __future__ import annotations

import math
import time

from downslope.data.stream import Replay, Stream
from downslope.report.journal import Journal
from downslope.train.progress import TrainingProgress

PROGRESS_SECONDS = 0.5  # between progress records
MEASURED_SHARE = 0.005  # of the time so far, between measured records: a day's run keeps some 2000
MAX_READING_SHARE = 0.003  # largest share of the time for it: epochs may be shorter than a reading


class ProgressWriter:
    """Write progress records, each covering the time since the one before."""

    def __init__(self, journal: Journal, num_examples: int):
        self._journal = journal
        self._measured, self._reading_seconds = -math.inf, 0.0
        self.opened()
        self.begin(num_examples)

    def begin(self, num_examples: int) -> None:
        """Start the next span now."""
        self._since, self._examples = time.perf_counter(), num_examples

    def pause(self) -> None:
        """Write nothing until the next `begin`."""
        self._since = math.inf

    def opened(self) -> None:
        """Reset the clocks for a new stream."""
        self._waited = self._read = 0.0

    def is_due(self, now: float, *, ends_epoch: bool) -> bool:
        """True if a record is due."""
        return now - self._since >= PROGRESS_SECONDS or (ends_epoch and self._since < math.inf)

    def write(
        self,
        now: float,
        progress: TrainingProgress,
        stream: Stream | Replay,
        *,
        fraction: float | None,
        batch_size: int,
        learning_rate: float | None,
    ) -> None:
        """Write a record and start the next span; `fraction` is the share of the run done."""
        seconds = max(now - self._since, 1e-9)
        waited, read = stream.seconds_waited, stream.seconds_read
        self._journal.write(
            "progress",
            step=progress.num_steps,
            num_examples=progress.num_examples,
            epoch=progress.position.epoch,
            fraction=fraction,
            loss=progress.smoothed_loss,
            batch_losses=[float(f"{loss:.4g}") for loss in progress.last_losses],
            batch_size=batch_size,
            learning_rate=learning_rate,
            examples_per_second=(progress.num_examples - self._examples) / seconds,
            waiting_share=min(1.0, (waited - self._waited) / seconds),
            reading_share=min(1.0, (read - self._read) / seconds),
            span_seconds=seconds,
            seconds=progress.seconds,
        )
        self._since, self._examples = now, progress.num_examples
        self._waited, self._read = waited, read

    def measures_now(self, now: float, seconds: float) -> bool:
        """True if a record of measurements is due too, after this many seconds of training."""
        rest = max(MEASURED_SHARE * seconds, self._reading_seconds / MAX_READING_SHARE)
        return now - self._measured >= rest

    def measured(self, begun: float) -> None:
        """Note how long a record of measurements took, begun at `begun`."""
        self._measured, self._reading_seconds = begun, time.perf_counter() - begun
