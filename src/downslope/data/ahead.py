"""An iterator that runs ahead of its consumer, in one thread and by a bounded distance."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _End(NamedTuple):
    error: BaseException | None


class ReadAhead(Generic[T]):
    """Items of a generator, up to `depth` of them made before they are asked for.

    Use it as a context manager and iterate, once. An exception of the generator is raised where
    you iterate, after the items before it. The thread starts when the context is entered; it is
    joined when the context is left, and at the latest when the interpreter ends.

    Args:
        items: runs in the thread, and is closed there.
        depth: items that are made and not yet asked for, at most.
        wake: called on leaving, to end a wait inside `items`.
    """

    def __init__(
        self, items: Generator[T, Any, Any], depth: int, wake: Callable[[], None] = lambda: None
    ):
        self._items, self._wake = items, wake
        self._room = threading.Semaphore(depth)
        self._ready: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._closed = False
        # A daemon, so that an interpreter that ends gets as far as the call of `close` below.
        self._thread = threading.Thread(target=self._read, name="downslope-reader", daemon=True)

    def __enter__(self) -> ReadAhead[T]:
        self._thread.start()
        atexit.register(self.close)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and wait until it has ended."""
        self._closed = True
        self._room.release()
        self._wake()
        self._thread.join()
        atexit.unregister(self.close)

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._ready.get(), _End):
            self._room.release()
            yield item
        if item.error is not None:
            raise item.error

    def _read(self) -> None:
        error = None
        try:
            while self._room.acquire() and not self._closed:
                self._ready.put(next(self._items))
        except StopIteration:
            pass
        except BaseException as fault:  # raised again in the thread that iterates
            error = fault
        finally:
            self._ready.put(_End(error))
            self._items.close()
