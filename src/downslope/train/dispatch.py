"""Dispatch of calls to the device, and collection of what each saw, one call late.

While the device works on a call, the host takes in the call before: losses, timing, buffers that
are free again. Host syncs happen in `collect` and nowhere else in the loop.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.data.stream import Position, Replay, Stream
from downslope.noise.online.probes import project
from downslope.step.loop import CallMetrics
from downslope.step.state import Knobs, State
from downslope.train.calls import Call, CallLength
from downslope.train.compiled_step import CompiledStep

POINT_SECONDS = 0.2  # between points of the trajectory, at least
# In a program of its own: inside the compiled step it made every update a third slower (measured).
PROJECT = jax.jit(project)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What one call saw, on the host.

    Attributes:
        call: the call.
        loss_sums, sizes: summed loss and rows of each of its windows, [n].
        bad_step: number of the call's updates up to the first that was not finite, or None.
        probes, probe_steps: measured updates, [k, F], and their numbers, [k].
        point: projected parameters after the call, or None.
        time: when it was collected, by `time.perf_counter`.
        seconds: time that the device spent on it.
    """

    call: Call
    loss_sums: np.ndarray
    sizes: np.ndarray
    bad_step: int | None
    probes: np.ndarray
    probe_steps: np.ndarray
    point: np.ndarray | None
    time: float
    seconds: float


class Dispatcher:
    """Sends calls to the device and collects what they saw.

    Args:
        tracks: project the parameters now and then, for the trajectory.

    Attributes:
        call_length: how long the next call should be.
        compile_seconds: time that the first call took to compile, None before.
    """

    def __init__(self, *, tracks: bool):
        self.call_length = CallLength()
        self.compile_seconds: float | None = None
        self._tracks = tracks
        self._in_flight: deque[tuple[Call, CallMetrics, Any, float]] = deque()
        self._on_device: tuple[Any, Any] = (None, None)
        self._collected_at = time.perf_counter()
        self._pointed_at = -np.inf
        self.blocks: Stream | Replay | None = None

    @contextlib.contextmanager
    def open(
        self, step: CompiledStep, position: Position, kept: Replay | None
    ) -> Iterator[Stream | Replay]:
        """Blocks from a position on, or those kept for trials; closed on the way out."""
        if kept is None:
            self._on_device = (None, None)
        opened = contextlib.nullcontext(kept) if kept else step.open_stream(position)
        with opened as self.blocks:
            yield self.blocks  # type: ignore[misc]

    def dispatch(self, step: CompiledStep, state: State, call: Call, knobs: Knobs) -> State:
        """Send a call to the device, after which the state before it must not be used."""
        if self._on_device[0] is not call.block:
            self._on_device = call.block, jax.device_put(call.block.rows)
        begin = time.perf_counter()
        state, metrics = step.run(state, self._on_device[1], call.windows, knobs)
        sent = time.perf_counter()
        if self.compile_seconds is None:
            self.compile_seconds = sent - begin
        point = None
        if self._tracks and sent - self._pointed_at >= POINT_SECONDS:
            self._pointed_at, point = sent, PROJECT(state.params)
        self._in_flight.append((call, metrics, point, sent))
        return state

    @property
    def num_in_flight(self) -> int:
        """Calls that were sent and not collected."""
        return len(self._in_flight)

    def collect(self) -> Collected:
        """What the oldest call in flight saw; waits for it."""
        call, metrics, point, sent = self._in_flight.popleft()
        loss_sums, healthy = np.asarray(metrics.loss_sums), bool(metrics.healthy)  # host sync
        now = time.perf_counter()
        seconds = now - max(sent, self._collected_at)
        self.call_length.saw(call.windows.count, seconds)
        self._collected_at = now
        if call.ends_block and self.blocks is not None:
            self.blocks.release(call.block)
        first, count = call.windows.first, int(metrics.num_probes)
        part = slice(first, first + call.windows.count)
        bad_step = None
        if not healthy:
            done = first + int(metrics.done)
            bad_step = int(call.block.windows.ends[first:done].sum()) + 1
        return Collected(
            call=call,
            loss_sums=loss_sums[part],
            sizes=call.block.windows.sizes[part],
            bad_step=bad_step,
            probes=np.asarray(metrics.probes)[:count],
            probe_steps=np.asarray(metrics.probe_steps)[:count],
            point=point,
            time=now,
            seconds=seconds,
        )
