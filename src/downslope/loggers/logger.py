"""The logger's bookkeeping: a run begins, goes back, stops; no step is logged twice."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from downslope.errors import UsageError
from downslope.loggers.entries import Record, scalars, sentences

BEGINS = ("started", "resumed")
GOES_BACK = ("resumed", "undone")  # to the step they name: later steps are repeated


class Sink(Protocol):
    """A destination of numbers and sentences, opened at the first record of a run."""

    def start(self, resumed_step: int | None) -> dict[str, int]:
        """Open it, and return the last step of each series that it already holds.

        Args:
            resumed_step: step that a resumed run continues from; None for a new run.
        """
        ...

    def write(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        """Take in the numbers and sentences of a record."""
        ...

    def go_back(self, step: int) -> bool:
        """Drop what came after the step; return False where that is impossible."""
        ...

    def stop(self, reason: str | None) -> None:
        """Write what is queued, and close.

        Args:
            reason: why the run stopped; None where it broke off.
        """
        ...


class Logger:
    """A reader of the journal that passes the numbers and sentences of each record to a sink.

    It closes at the end of the run. Use it as a context manager, so that everything is written
    even if the run breaks off.

    No step is logged twice: those that a resumed run repeats are dropped from the sink, or else
    skipped.
    """

    def __init__(self, sink: Sink):
        self._sink = sink
        self._last: dict[str, int] | None = None  # step of each series; None while closed
        self._held: dict[str, int] = {}  # up to which step the sink holds a series already
        self._stopped = False

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, record: Record) -> None:
        """Log a journal record."""
        event, step = record["event"], int(record.get("step", 0))
        if event in BEGINS:
            self._stopped = False
        if self._stopped:
            return  # records that are added to a finished run
        if self._last is None:
            self._held = self._sink.start(step if event == "resumed" else None)
            self._last = {}
        elif event in GOES_BACK and not self._sink.go_back(step):
            self._held = {**self._held, **self._last}
        self._write(step, record, self._last)
        if event == "stopped":
            self._stop(record["reason"])

    def _write(self, step: int, record: Record, last: dict[str, int]) -> None:
        numbers = {n: v for n, v in scalars(record).items() if step > self._held.get(n, -1)}
        texts = {n: v for n, v in sentences(record).items() if step > self._held.get(n, -1)}
        if numbers or texts:
            self._sink.write(step, numbers, texts)
            last.update(dict.fromkeys((*numbers, *texts), step))

    def close(self) -> None:
        """Write what is queued, unless the run has ended."""
        self._stop(None)

    def _stop(self, reason: str | None) -> None:
        if self._last is not None:
            self._last, self._stopped = None, True
            self._sink.stop(reason)


def needed(module: str, extra: str) -> Any:
    """The imported module of an optional package.

    Raises:
        UsageError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise UsageError(
            f"this logger needs {error.name or package}: pip install 'downslope[{extra}]'"
        ) from error
