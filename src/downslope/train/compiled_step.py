"""Compiled steps by batch size.

Compiled steps share the state and the order of the rows, so a run can switch between them at any
time. The next one is compiled in a background thread while the current one trains.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from downslope.choose.controller import MIN_CALLS_TIMED, CompiledSizes
from downslope.choose.step_time import StepTimes
from downslope.data.stream import Position, Stream
from downslope.step.state import Knobs, State

COUNTED_COMPILE = 2.0  # seconds to compile a step, where times are counted; assumed
MAX_WINDOW_ROWS = 8192  # the largest batch that is one window


@dataclass(kw_only=True)
class CompiledStep:
    """Compiled loop over windows of one batch size, and the blocks that it runs over."""

    batch_rows: int  # examples per update
    step_rows: int  # rows the device takes at once
    clips: bool  # gradients longer than the norm in `knobs` are shortened
    run: Callable[..., Any]  # `run(state, rows, windows, knobs)`, see `compile_steps`
    open_stream: Callable[[Position], Stream]  # blocks from a position on
    shuffling: str  # one sentence on how well the rows are shuffled
    compile_seconds: float | None = None  # that `prepare` took, None before
    failure: BaseException | None = None  # of compiling in the background
    _thread: threading.Thread | None = field(default=None, repr=False)

    def prepare(self, state: State, position: Position, knobs: Knobs) -> None:
        """Start compiling in the background for a state of these shapes."""
        if self._thread is not None:
            return
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
        wide = bool(jax.config.read("jax_enable_x64"))  # JAX's settings are per thread
        self._thread = threading.Thread(
            target=self._compile, args=(shapes, position, knobs, wide), name="compile", daemon=True
        )
        self._thread.start()

    def _compile(self, state: Any, position: Position, knobs: Knobs, wide: bool) -> None:
        begin = time.perf_counter()
        try:
            with jax.enable_x64(wide), self.open_stream(position) as stream:
                block = next(iter(stream))
                rows, windows = block.rows, block.windows
                shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), rows)
                self.run = self.run.lower(state, shapes, windows, knobs).compile()  # type: ignore[attr-defined]
        except BaseException as failure:
            self.failure = failure
        self.compile_seconds = time.perf_counter() - begin

    @property
    def is_ready(self) -> bool:
        """True if a step compiled in the background is ready to use."""
        done = self._thread is not None and not self._thread.is_alive()
        return done and self.failure is None

    def join(self) -> None:
        """Wait for a compilation in progress; a process must not exit during one."""
        if self._thread is not None:
            self._thread.join()


class CompiledSteps:
    """Compiled steps of a run by batch size; `close` waits for one still compiling.

    Args:
        make: `make(batch_rows, clips, step_rows=None)` gives the step of another batch size.
        first: the step that the run begins with.
    """

    def __init__(self, make: Callable[..., CompiledStep], first: CompiledStep):
        self._make, self.current = make, first
        self._by_size = {first.batch_rows: first}
        self._in_use = {first.batch_rows}  # compiled by having run, not in the background
        self._ready_at: dict[int, float] = {}  # by size, the counted time from which it is used

    def sizes(self) -> dict[str, Any]:
        """Batch sizes requested, ready and failed, with their compile times."""
        steps = self._by_size
        return {
            "known": frozenset(steps),
            "usable": frozenset(s for s in steps if s in self._in_use or steps[s].is_ready),
            "failed": frozenset(s for s in steps if steps[s].failure is not None),
            "compile_seconds": {s: step.compile_seconds or 0.0 for s, step in steps.items()},
        }

    def counted_sizes(self, costs: StepTimes, seconds: float, *, wait: bool) -> CompiledSizes:
        """Batch sizes as they are at a counted time, whatever the clock says.

        Args:
            costs: counted time of an update by its examples.
            wait: wait for sizes that are due to be compiled.
        """
        ready = {size for size, at in self._ready_at.items() if at <= seconds}
        if wait:
            for size in ready - self._in_use:
                self._by_size[size].join()
        failed = {size for size in ready if self._by_size[size].failure is not None}
        usable = self._in_use | (ready - failed if wait else set())
        return CompiledSizes(
            known=frozenset(self._by_size),
            usable=frozenset(usable),
            failed=frozenset(failed),
            compile_seconds=dict.fromkeys(self._by_size, COUNTED_COMPILE),
            first_compile_seconds=COUNTED_COMPILE,
            step_seconds={
                size: (costs.predict(size),) * MIN_CALLS_TIMED for size in sorted(usable)
            },
        )

    def failures(self) -> dict[int, BaseException]:
        """Reasons why batch sizes failed to compile."""
        return {s: step.failure for s, step in self._by_size.items() if step.failure is not None}

    def prepare(
        self,
        batch_size: int,
        state: State,
        position: Position,
        knobs: Knobs,
        counted_seconds: float | None = None,
    ) -> None:
        """Start compiling the step of a batch size in the background.

        Where times are counted, it counts as compiled from a counted time on, and not before.
        """
        if counted_seconds is not None:
            self._ready_at[batch_size] = counted_seconds + COUNTED_COMPILE
        step = self._by_size[batch_size] = self._make(batch_size, self.current.clips)
        step.prepare(state, position, knobs)

    def change(self, batch_size: int) -> CompiledStep:
        """Switch to the step of a batch size."""
        if batch_size not in self._by_size:
            self._by_size[batch_size] = self._make(batch_size, self.current.clips)
        self._in_use.add(batch_size)
        self.current = self._by_size[batch_size]
        return self.current

    def clip(self) -> CompiledStep:
        """Switch to a step of the same batch size that clips; drop all others.

        The run waits for the compilation, which happens at most once.
        """
        self.close()
        size = self.current.batch_rows
        self._ready_at = {}
        self.current = self._make(size, True, self.current.step_rows)
        self._by_size, self._in_use = {size: self.current}, {size}
        return self.current

    def close(self) -> None:
        """Wait for compilations in progress: a process must not exit during one."""
        for step in self._by_size.values():
            step.join()
