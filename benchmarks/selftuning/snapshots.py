"""Copies of a run's parameters while `downslope.fit` trains, at given times.

No public argument of `fit` gives the parameters during a run, so its calls to the device are
wrapped here. A copy is queued behind the updates that it follows, and a waiting thread notes when
it is there; nothing is evaluated before the run has ended.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Kept = Callable[[Any, Any], Any]  # `kept(opt_state, params)`: the parameters to evaluate


@dataclass(kw_only=True)
class Snapshot:
    """Model during a run.

    Attributes:
        step: updates made, not counting those of calls that were in flight.
        time: when it was there, by `time.perf_counter`.
    """

    model: Any
    step: int
    time: float


class Camera:
    """Take copies at the given times, each at the first call that ends after it.

    Args:
        due: times by `time.perf_counter`, in order.
        kept: gives the parameters to evaluate; by default those that the run would keep.
    """

    def __init__(self, due: Sequence[float], kept: Kept | None = None):
        self._due, self._kept = list(due), kept
        self._copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
        self._taken: list[Snapshot] = []
        self._threads: list[threading.Thread] = []

    def look(self, loop: Any) -> None:
        """Take a copy if one is due and the run is not in a trial."""
        now = time.perf_counter()
        if self._due and now >= self._due[0] and loop.trials is None:
            while self._due and now >= self._due[0]:
                self._due.pop(0)
            self.take(loop)

    def take(self, loop: Any) -> None:
        """Take a copy now."""
        device = loop.state.device
        if self._kept is None:
            params = loop.setup.kept_params(device)
        else:
            params = self._kept(device.opt_state, device.params)
        copied = self._copy(params)
        snapshot = Snapshot(
            model=loop.setup.model(copied), step=loop.state.progress.num_steps, time=0.0
        )
        self._taken.append(snapshot)

        def wait() -> None:
            jax.block_until_ready(copied)
            snapshot.time = time.perf_counter()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        self._threads.append(thread)

    def taken(self) -> list[Snapshot]:
        """All copies, once the last one is there.

        A thread may be woken late, but no copy was there after the next one.
        """
        for thread in self._threads:
            thread.join()
        for copy, following in reversed(list(itertools.pairwise(self._taken))):
            copy.time = min(copy.time, following.time)
        return self._taken


@contextlib.contextmanager
def taking(camera: Camera) -> Iterator[None]:
    """Let the camera look after every call of `downslope.fit`, and take a copy at the end."""
    import downslope

    downslope.fit  # noqa: B018  importing it is lazy
    module: Any = sys.modules["downslope.fit"]
    dispatch, finish = module.dispatch, module.finish

    def watched_dispatch(loop: Any, call: Any) -> None:
        dispatch(loop, call)
        camera.look(loop)

    def watched_finish(loop: Any) -> Any:
        camera.take(loop)
        return finish(loop)

    module.dispatch, module.finish = watched_dispatch, watched_finish
    try:
        yield
    finally:
        module.dispatch, module.finish = dispatch, finish
