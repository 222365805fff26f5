"""Programs for several batch sizes, so that a run can change between them.

A gear is the compiled loop for one batch size and what cuts the rows for it. Gears share the
state, and the order of the rows, so a run goes on in another gear from where it stands. The
next gear is compiled in a thread of its own while the present one trains.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from downslope.data.stream import Position, Stream
from downslope.step.state import Knobs, State

LADDER = 4  # from one batch size to the next; a finer one would gain at most an eighth
TOP = 8192  # the largest batch that is one window


@dataclass(kw_only=True)
class Gear:
    """The loop for one batch size.

    Attributes:
        batch_rows: examples per update.
        step_rows: rows the device takes at once.
        clips: gradients longer than the knob's norm are shortened.
        steps: `steps(state, rows, windows, knobs)`, see `compile_steps`.
        open_stream: blocks from a position on.
        shuffling: one sentence on what the order does and leaves undone.
        compile_seconds: time that `prepare` took, None before.
    """

    batch_rows: int
    step_rows: int
    clips: bool
    steps: Callable[..., Any]
    open_stream: Callable[[Position], Stream]
    shuffling: str
    compile_seconds: float | None = None
    _thread: threading.Thread | None = field(default=None, repr=False)
    _fault: BaseException | None = field(default=None, repr=False)

    def prepare(self, state: State, position: Position, knobs: Knobs) -> None:
        """Begins to compile in the background, for a state of these shapes."""
        if self._thread is not None:
            return
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
        wide = bool(jax.config.read("jax_enable_x64"))  # a thread has JAX's settings of its own
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
                self.steps = self.steps.lower(state, shapes, windows, knobs).compile()  # type: ignore[attr-defined]
        except BaseException as fault:  # told to whoever asks whether it is ready
            self._fault = fault
        self.compile_seconds = time.perf_counter() - begin

    @property
    def is_ready(self) -> bool:
        """Whether the compiled program can be used at once."""
        done = self._thread is not None and not self._thread.is_alive()
        return done and self._fault is None

    @property
    def failed(self) -> BaseException | None:
        """Why compiling failed, or None."""
        return self._fault

    def join(self) -> None:
        """Waits until a compilation under way has ended; a process must not exit before."""
        if self._thread is not None:
            self._thread.join()
