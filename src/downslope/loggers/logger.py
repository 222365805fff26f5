"""The flow of every logger: a run begins, goes on, goes back, and stops; no step comes twice."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from downslope.errors import UsageError
from downslope.loggers.entries import Record, scalars, sentences

BEGINS = ("started", "resumed")
GOES_BACK = ("resumed", "undone")  # to the step they name: what came after it is made again


class Sink(Protocol):
    """Where numbers and sentences go; opened at the first record of a run."""

    def start(self, resumed_step: int | None) -> dict[str, int]:
        """Opens it; gives the last step of each series that it holds already.

        Args:
            resumed_step: step that a resumed run goes on from; None for a new run.
        """
        ...

    def write(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        """Takes in what a record says."""
        ...

    def go_back(self, step: int) -> bool:
        """Forgets what came after the step; False where nothing can be forgotten."""
        ...

    def stop(self, reason: str | None) -> None:
        """Writes what is left, and closes.

        Args:
            reason: why the run stopped; None where it broke off.
        """
        ...


class Logger:
    """A reader of the journal that hands every record's numbers and sentences to a sink.

    Closed at the end of the run. Use it as a context manager where the run may break off, so
    that what was logged until then is written.

    A step is not logged twice: where a resumed run makes steps again that the sink holds
    already, they are forgotten there, or else passed over.

    Args:
        sink: where the numbers go.
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
        """Takes in a journal record."""
        event, step = record["event"], int(record.get("step", 0))
        if event in BEGINS:
            self._stopped = False
        if self._stopped:
            return  # what a finished run adds to its journal
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
        """Writes what is left; nothing to do after the end of a run."""
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
