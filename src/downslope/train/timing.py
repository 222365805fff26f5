"""Time of an update by batch size, measured on the run's own program and rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from downslope.arguments import whole
from downslope.choose.step_time import StepTimes, fit_step_times
from downslope.config import Training
from downslope.data.stream import Position
from downslope.errors import UsageError
from downslope.objective import Loss, Model
from downslope.train.assemble import assemble
from downslope.train.compiled_step import CompiledStep
from downslope.train.setup import TrainSetup

LADDER = (16, 64, 256, 1024, 4096)
REPEATS = 7  # timings per size, interleaved so that all see the same machine
CALL_SECONDS = 0.02  # of one timed call, far above its fixed cost
MAX_BLOCKS = 1 << 12  # in one call
LATE_STEP = 1 << 20  # where measured updates are as rare as in most of a run


def time_steps(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    training: Training | None = None,
    batch_sizes: Sequence[int] = LADDER,
    repeats: int = REPEATS,
    penalty: Callable[[Model], Any] | None = None,
) -> StepTimes:
    """Measure the time of an update by batch size, which the choice of a batch size rests on.

    Every size costs a compilation, a second or so. Nothing is trained.

    Args:
        loss, model, data, penalty: as for `downslope.fit`.
        training: as for `downslope.fit`; its batch size does not matter.
        batch_sizes: sizes to time, in examples; those above the number of rows are left out.
        repeats: times that each size is timed, 3 or more.

    Raises:
        UsageError: fewer than two sizes are left, or as `downslope.fit`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 8)).astype("float32")
        >>> def loss(model, batch, key):
        ...     return (batch @ model["w"] - 1) ** 2
        >>> times = time_steps(loss, {"w": np.zeros(8, "float32")}, x, batch_sizes=(16, 64, 256))
        >>> times.batch_sizes, bool(times.predict(64) > 0)
        ((16.0, 64.0, 256.0), True)
    """
    training = training or Training()
    whole("repeats", repeats, least=3)
    free = dataclasses.replace(training, batch_size="auto", microbatch_size=None)
    setup = assemble(loss, model, data, free, penalty=penalty)
    if not setup.can_change:
        raise UsageError("only stored rows with one loss per example can be timed by batch size")
    sizes = [size for size in sorted(set(batch_sizes)) if 1 <= size <= setup.most_rows]
    if len(sizes) < 2:
        raise UsageError(
            f"batch_sizes must hold two sizes of at most {setup.most_rows:,}; got {batch_sizes}"
        )
    clips = setup.training.clip_norm is not None
    timers = [Timer(setup, setup.make_step(size, clips)) for size in sizes]
    seconds = [[timer.window_seconds() for timer in timers] for _ in range(repeats)]
    return fit_step_times(sizes, [list(column) for column in zip(*seconds, strict=True)])


class Timer:
    """Time of a window of a compiled step, over calls of `CALL_SECONDS` or more.

    A call runs as many windows of the first block as that takes, if need be several times. At a
    rate of 0 the parameters do not change, however often a window is run.
    """

    def __init__(self, setup: TrainSetup, step: CompiledStep):
        self._step = step
        self._knobs = setup.knobs()._replace(
            batch_size=np.float32(step.batch_rows), learning_rate=np.float32(0)
        )
        with step.open_stream(Position()) as stream:
            block = next(iter(stream))
            self._rows = jax.tree.map(lambda a: jax.device_put(np.array(a)), block.rows)
            self._windows = block.windows
        state = setup.start()
        self._state = state._replace(step=state.step + LATE_STEP)
        self.num_windows, most = 1, MAX_BLOCKS * self._windows.count
        self._call()
        # the quicker of two calls: other programs may interrupt one
        while min(self._call(), self._call()) < CALL_SECONDS and self.num_windows < most:
            self.num_windows *= 2

    def _call(self) -> float:
        begin, left = time.perf_counter(), self.num_windows
        metrics: Any = None
        while left > 0:
            windows = self._windows._replace(count=min(left, self._windows.count))
            self._state, metrics = self._step.run(self._state, self._rows, windows, self._knobs)
            left -= windows.count
        if not metrics.healthy:  # host sync
            raise UsageError("the loss is not finite at the first parameters: nothing can be timed")
        return time.perf_counter() - begin

    def window_seconds(self) -> float:
        """Seconds per window, over one call."""
        return self._call() / self.num_windows
