"""Dispatch of calls to the device, and collection of their results one call late.

While the device works on a call, the host processes the one before: losses, timing, buffers to
reuse. `collect` makes the only host syncs of the loop.
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

POINT_SECONDS = 0.2  # least time between points of the trajectory
# A separate program: inside the compiled step it made every update a third slower (measured).
PROJECT = jax.jit(project)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Results of one call, on the host."""

    call: Call
    loss_sums: np.ndarray  # of each of its windows, [n]
    sizes: np.ndarray  # rows of each of its windows, [n]
    bad_step: int | None  # updates up to and including the first non-finite one
    probes: np.ndarray  # measured updates, [k, F]
    probe_steps: np.ndarray  # their numbers, [k]
    point: np.ndarray | None  # projected parameters after the call
    time: float  # of the collection, by `time.perf_counter`
    seconds: float  # that the device spent on the call


class Dispatcher:
    """Send calls to the device and collect their results.

    Args:
        tracks: record points of the trajectory, projected parameters, from time to time.

    Attributes:
        call_length: length of the next call.
        compile_seconds: compile time of the first call, None before it.
    """

    def __init__(self, *, tracks: bool):
        self.call_length = CallLength()
        self.compile_seconds: float | None = None
        self._tracks, self._compiled = tracks, set[int]()
        self._in_flight: deque[tuple[Call, CallMetrics, Any, float]] = deque()
        self._on_device: tuple[Any, Any] = (None, None)
        self._collected_at = time.perf_counter()
        self._pointed_at = -np.inf
        self.blocks: Stream | Replay | None = None

    @contextlib.contextmanager
    def open(
        self, step: CompiledStep, position: Position, kept: Replay | None
    ) -> Iterator[Stream | Replay]:
        """Blocks from a position on, closed on exit; or those kept for trials."""
        if kept is None:
            self._on_device = (None, None)
        opened = contextlib.nullcontext(kept) if kept else step.open_stream(position)
        with opened as self.blocks:
            yield self.blocks  # type: ignore[misc]

    def dispatch(self, step: CompiledStep, state: State, call: Call, knobs: Knobs) -> State:
        """Send a call to the device; the state before it must not be used afterwards."""
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

    def is_first_call(self, step: CompiledStep) -> bool:
        """True the first time that a step is asked for: its next call compiles."""
        is_first = id(step) not in self._compiled
        self._compiled.add(id(step))
        return is_first

    @property
    def num_in_flight(self) -> int:
        """Number of calls sent and not collected."""
        return len(self._in_flight)

    def collect(self) -> Collected:
        """Results of the oldest call in flight; waits for it."""
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
