"""Resource estimate of a run that has not begun: memory from shapes, time from timed calls."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from downslope.check.findings import Finding
from downslope.check.footprint import (
    FreeMemory,
    free_memory,
    largest_microbatch,
    memory,
    temporary_bytes,
    tree_bytes,
)
from downslope.check.pace import epoch_time
from downslope.config import Training
from downslope.data.arrays import Arrays
from downslope.data.generator import Generator
from downslope.data.order import plan_order
from downslope.data.stored import RowFile
from downslope.data.stream import Ring
from downslope.data.windows import Windows, capacity
from downslope.errors import UsageError
from downslope.objective import Loss, Model
from downslope.train.assemble import assemble
from downslope.train.defaults import begin_with
from downslope.train.setup import TrainSetup
from downslope.train.sources import sizes, sources
from downslope.train.timing import Timer

SNAPSHOTS = 2  # copies of the state on the host: the last good one, and the next while it is made
# What compiling and the runtime's own buffers add, 200 to 245 MiB for four nets of 10^4 to 10^7
# parameters (measured, on a CPU).
COMPILER_BYTES = 200 << 20
NUM_CALLS = 9  # that are timed
READ_BYTES = 64 << 20


class _Layout(NamedTuple):
    """Rows of an update, of a window and of a buffer; and how many buffers there are."""

    batch_rows: int
    step_rows: int
    buffer_rows: int
    num_buffers: int


def estimate_resources(
    loss: Loss,
    model: Model,
    data: Any,
    training: Training,
    *,
    penalize: Callable[[Model], Any] | None = None,
    holds_out: bool = True,
    subjects: tuple[str, ...] = ("memory", "pace"),
    free: FreeMemory | None = None,
) -> tuple[Finding, ...]:
    """Estimate memory and time of a run of `downslope.fit`, without training.

    Memory is added up from shapes: the state by tracing its construction, temporary memory as the
    compiled program reports it. For the time, the program is run on a few windows. Settings that
    are "auto" take their initial values.

    Args:
        loss, model, data, training, penalize: as for `downslope.fit`.
        holds_out: whether the run has held-out rows, and so keeps its best parameters.
        subjects: "memory", "pace", or both.
        free: available memory; by default what is free now.

    Returns:
        The findings, in the order of `subjects`.

    Raises:
        UsageError: an unknown subject, a generator, or as for `downslope.fit`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(1000, 3)).astype("float32")
        >>> def loss(model, batch, key):
        ...     return (batch @ model["w"]) ** 2
        >>> model = {"w": np.ones(3, "float32")}
        >>> training = Training(batch_size=32, optimizer="adam")
        >>> found, = estimate_resources(loss, model, x, training, subjects=("memory",))
        >>> found.values["bytes"]["optimizer state"]  # two moments of 3 numbers, and a count
        28
    """
    unknown = set(subjects) - {"memory", "pace"}
    if unknown:
        raise UsageError(f"subjects must be memory or pace; got {', '.join(sorted(unknown))}")
    training = begin_with(training, sources(data, None, training.seed)[0])
    setup = assemble(loss, model, data, training, penalize=penalize)
    if isinstance(setup.source, Generator):
        raise UsageError("a generator has no epochs to estimate; give arrays or a table")
    begin = time.perf_counter()
    compiled = _compiled(setup, training)
    seconds = time.perf_counter() - begin
    found = {}
    if "memory" in subjects:
        found["memory"] = _memory(setup, training, compiled, holds_out, free or free_memory())
    if "pace" in subjects:
        found["pace"] = _pace(setup, training, compiled, seconds)
    return tuple(found[name] for name in subjects)


def _layout(setup: TrainSetup, training: Training) -> _Layout:
    source = setup.source
    batch_rows, step_rows = sizes(source, training)
    order = plan_order(
        source.num_rows, source.row_bytes, step_rows=step_rows, batch_size=batch_rows,
        shuffled=source.shuffled, seed=training.seed,
    )  # fmt: skip
    # the ring, and the buffer that a file is read into before mixing
    num_buffers = Ring.SIZE + (order.mix and not isinstance(source, Arrays))
    return _Layout(batch_rows, step_rows, order.buffer_rows, num_buffers)


def _row_shapes(source: Any, count: int) -> Any:
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), source.read(0, 1)
    )


def _compiled(setup: TrainSetup, training: Training) -> Any:
    """Program of the run, compiled from shapes: nothing is allocated."""
    layout = _layout(setup, training)
    size = capacity(layout.buffer_rows, layout.batch_rows, layout.step_rows)
    place = jax.ShapeDtypeStruct((size,), np.int32)
    ends = jax.ShapeDtypeStruct((size,), np.bool_)
    windows: Any = Windows(place, place, place, place, ends, 0, 1)  # type: ignore[arg-type]
    rows = _row_shapes(setup.source, layout.buffer_rows)
    return setup.first_step.run.lower(setup.state_shapes, rows, windows, setup.knobs()).compile()  # type: ignore[attr-defined]


def _memory(
    setup: TrainSetup, training: Training, compiled: Any, holds_out: bool, free: FreeMemory
) -> Finding:
    layout = _layout(setup, training)
    state = setup.state_shapes
    whole, parameters = tree_bytes(state), tree_bytes(state.params)
    temporary = temporary_bytes(compiled)
    parts = {
        "parameters": 2 * parameters,  # those given, and those that are trained
        "optimizer state": tree_bytes(state.opt_state),
        "averages, sums and anchor": whole - parameters - tree_bytes(state.opt_state),
        "copies to go back to": SNAPSHOTS * whole
        + (parameters if holds_out and training.patience else 0),
        "rows read ahead": layout.num_buffers * layout.buffer_rows * setup.source.row_bytes,
        "activations and gradients": temporary or 0,
        "the compiler": COMPILER_BYTES,
    }
    largest = None
    if free.bytes is not None and temporary is not None:
        rest = free.bytes - sum(parts.values()) + temporary
        largest = _largest(setup, layout.step_rows, temporary, rest)
    return memory(parts, free, microbatch_size=layout.step_rows, largest=largest)


def _largest(setup: TrainSetup, step_rows: int, temporary: int, free: int) -> int | None:
    """Rows that the device can take at once."""
    most = setup.source.num_rows
    if temporary * most <= free * step_rows:  # memory grows no faster than rows, so all would fit
        return most
    # the gradient alone: two small programs instead of two of whole runs
    tried = max(1, step_rows // 4)
    return largest_microbatch(functools.partial(_temporary, setup), free, tried=tried, most=most)


def _temporary(setup: TrainSetup, num_rows: int) -> int:
    """Temporary bytes of the gradient over this many rows at once."""
    rows = _row_shapes(setup.source, num_rows)
    counted = jax.ShapeDtypeStruct((num_rows,), np.bool_)
    gradient = jax.jit(jax.grad(setup.objective.loss_sum))
    compiled = gradient.lower(setup.params, rows, counted, jax.random.key(0)).compile()
    return temporary_bytes(compiled) or 0


def _pace(setup: TrainSetup, training: Training, compiled: Any, compiling: float) -> Finding:
    layout = _layout(setup, training)
    num_rows = setup.source.num_rows
    num_steps = -(-num_rows // layout.batch_rows)
    a_batch = -(-layout.batch_rows // layout.step_rows)
    reading = _reading_seconds(setup.source) if isinstance(setup.source, RowFile) else None
    return epoch_time(
        _window_seconds(setup, compiled), num_steps * a_batch, num_steps=num_steps,
        reading_seconds=reading, compiling_seconds=compiling,
    )  # fmt: skip


def _window_seconds(setup: TrainSetup, compiled: Any) -> list[float]:
    """Seconds per window in each of several calls; none if the loss is not finite."""
    try:
        timer = Timer(setup, dataclasses.replace(setup.first_step, run=compiled))
    except UsageError:
        return []
    return [timer.window_seconds() for _ in range(NUM_CALLS)]


def _reading_seconds(source: RowFile) -> float:
    """Seconds to read all rows at the rate of the first ones, which may already be cached."""
    count = max(1, min(source.num_rows, READ_BYTES // source.row_bytes))
    out = source.read(0, count)
    begin = time.perf_counter()
    source.read(0, count, out)
    return (time.perf_counter() - begin) * source.num_rows / count
