"""Ctrl-C and termination signals, recorded for the loop to read between calls."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupts:
    """Record SIGINT and SIGTERM while open; `received` is the signal's number or None.

    A second signal goes to the previous handler, so pressing Ctrl-C twice ends the process at
    once. A signal that the process ignores (as a background job does) stays ignored, and outside
    the main thread nothing is recorded.
    """

    def __init__(self):
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
