"""The clock of a run, which can be stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds since it was made, without those for which it was stopped."""

    def __init__(self) -> None:
        self._begin, self._stopped = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds that count so far."""
        return self.at(time.perf_counter())

    def at(self, moment: float) -> float:
        """The same at a moment of `time.perf_counter`, after the last stop."""
        return moment - self._begin - self._stopped

    def moment(self, seconds: float) -> float:
        """Moment of `time.perf_counter` at which these seconds will have passed."""
        return self._begin + self._stopped + seconds

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Do not count the time inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._stopped += time.perf_counter() - begin
