"""Time of a run by what it was spent on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

UPDATES, SEARCH, EVALUATION = "updates", "search", "evaluation"
MEASURING, COMPILING, SAVING = "measuring", "compiling", "saving"
KINDS = (UPDATES, SEARCH, EVALUATION, MEASURING, COMPILING, SAVING)
OTHER = "other"  # the rest: tracing, checks before the first update, copies of states


class Spending:
    """Seconds by kind, of which each second counts once: as the innermost kind.

    Args:
        before: seconds of earlier sessions.

    Example:
        >>> spending = Spending({"updates": 3.0})
        >>> with spending.on("updates"):
        ...     with spending.on("saving"):
        ...         pass
        >>> found = spending.in_all(10.0)
        >>> round(found["updates"]), round(found["other"]), round(sum(found.values()))
        (3, 7, 10)
    """

    def __init__(self, before: Mapping[str, float]):
        self._seconds = dict.fromkeys(KINDS, 0.0) | dict(before)
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """Count the time inside as this kind, and as no other."""
        self._settle()
        self._open.append(kind)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def move(self, seconds: float, kind: str, other: str) -> None:
        """Count time of a kind as another one."""
        self._seconds[kind] -= seconds
        self._seconds[other] += seconds

    def so_far(self) -> dict[str, float]:
        """Seconds by kind."""
        self._settle()
        return dict(self._seconds)

    def in_all(self, total: float) -> dict[str, float]:
        """Seconds by kind, with the rest of a run's time as "other"."""
        found = {kind: max(0.0, seconds) for kind, seconds in self.so_far().items()}
        return found | {OTHER: max(0.0, total - sum(found.values()))}

    def _settle(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now
