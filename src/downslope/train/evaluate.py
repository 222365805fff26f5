"""Loss and metrics of a model on all rows of a source, block by block."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from downslope.choose.evaluations import SAMPLE_ROWS
from downslope.data.blocks import table_stream
from downslope.data.order import sequential_order
from downslope.data.source import Source
from downslope.metrics import MeanLoss, Results
from downslope.objective import Objective, Params
from downslope.train.sources import held_out_sample
from downslope.tree import map_arrays

KEPT_BYTES = 32 << 20  # held-out rows kept on the device: reading takes longer than evaluating
EACH = "loss of every row"  # key beside those of the scorer
WINDOW_ROWS = 2048  # rows evaluated at once: bounds the memory of a wide model's activations
# Held-out rows up to which they are evaluated by the program of samples, in 64 calls at most: to
# compile another one takes longer.
SHARED_ROWS = 64 * SAMPLE_ROWS


class Scorer(Protocol):
    """Protocol of a scorer: per-row outputs, and an accumulator of them."""

    def score(self, model: Any, batch: Any, losses: Array) -> dict[str, Array]:
        """Per-row arrays [B, ...] for the accumulator's `add`; traced by JAX."""
        ...

    def accumulator(self) -> Any:
        """A new object with `add(**arrays)` and `result() -> Results`."""
        ...


class LossScorer:
    """Score the loss only."""

    def score(self, model: Any, batch: Any, losses: Array) -> dict[str, Array]:
        """The losses."""
        return {"losses": losses}

    def accumulator(self) -> MeanLoss:
        """Mean loss with its interval."""
        return MeanLoss()


class Evaluate(Protocol):
    """Protocol of an evaluator: metrics of parameters, on rows of its own."""

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling so far."""
        ...

    def __call__(self, params: Params) -> Results:
        """Metrics of every row, with the loss of each."""
        ...


class Program:
    """The compiled part of an evaluation, which several evaluators may share.

    Args:
        step_rows: rows evaluated together; for a loss whose examples interact, the number
            it is trained with: the result is then the mean over such windows.
    """

    def __init__(self, objective: Objective, scorer: Scorer, step_rows: int):
        self.objective, self.scorer, self.step_rows = objective, scorer, step_rows
        self.compile_seconds = 0.0
        self._run = jax.jit(self.outputs)
        self._compiled: set[Any] = set()  # shapes of rows
        # one key for all evaluations, so that only the model makes them differ
        self._key = jax.random.key(0)

    def outputs(self, params: Params, rows: Any) -> dict[str, Array]:
        """Outputs of every row; traced by JAX."""

        def window(part: Any) -> dict[str, Array]:
            losses = self.objective.losses(params, part, self._key)
            model, batch = self.objective.model(params), self.objective.unpack(part)
            return self.scorer.score(model, batch, losses) | {EACH: losses}

        size = self.step_rows
        parts = jax.tree.map(  # not -1: an array may have no columns
            lambda a: a.reshape(len(a) // size, size, *a.shape[1:]), rows
        )
        found = jax.lax.map(window, parts)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)

    def __call__(self, params: Params, rows: Any) -> dict[str, Array]:
        """Outputs of every row, compiled first where these shapes are new."""
        shape = tuple(a.shape for a in jax.tree.leaves(rows))
        if shape not in self._compiled:
            begin = time.perf_counter()
            self._run.lower(params, rows).compile()
            self.compile_seconds += time.perf_counter() - begin
            self._compiled.add(shape)
        return self._run(params, rows)


class Evaluator:
    """`Evaluate` over every row of a source, block by block.

    Args:
        block_rows: rows of a block; by default as many as a buffer holds.
    """

    def __init__(self, program: Program, source: Source, block_rows: int | None = None):
        self._program, self._source = program, source
        order = sequential_order(source.num_rows, source.row_bytes, step_rows=program.step_rows)
        if block_rows is not None:
            order = dataclasses.replace(order, buffer_rows=block_rows, unit_rows=block_rows)
        self._order = order
        # a small source stays on the device for the next evaluation
        self._kept: list[tuple[Any, int]] = []
        self._is_small = source.num_rows * source.row_bytes <= KEPT_BYTES

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling so far."""
        return self._program.compile_seconds

    def _blocks(self) -> Generator[tuple[Any, int], None, None]:
        if self._kept:
            yield from self._kept
            return
        size = self._program.step_rows
        stream = table_stream(
            self._source, self._order, batch_rows=size, step_rows=size, num_epochs=1
        )
        read = []
        with stream as found:
            for block in found:
                rows = map_arrays(np.array, block.rows) if self._is_small else block.rows
                read.append((jax.device_put(rows), int(block.windows.highs.max())))
                yield read[-1]
                if not self._is_small:
                    read.clear()
                found.release(block)
        self._kept.extend(read)

    def __call__(self, params: Params) -> Results:
        """Metrics of every row."""
        program = self._program
        accumulator, losses = program.scorer.accumulator(), []
        with contextlib.closing(self._blocks()) as parts:  # an error ends the reading thread too
            for rows, length in parts:
                found = program(params, rows)
                keep = functools.partial(
                    _keep, length=length, objective=program.objective, step=program.step_rows
                )
                losses.append(keep(found.pop(EACH)))  # host sync
                accumulator.add(**{k: keep(v) for k, v in found.items()})
        results = accumulator.result()
        results.losses = np.concatenate(losses)
        return results


def make_evaluator(
    objective: Objective, scorer: Scorer, source: Source, step_rows: int | None = None
) -> Evaluator:
    """Evaluator of every row of `source`; for `step_rows` see `Program`."""
    step_rows = min(step_rows or WINDOW_ROWS, source.num_rows)
    return Evaluator(Program(objective, scorer, step_rows), source)


def make_evaluators(
    objective: Objective, scorer: Scorer, source: Source, seed: int
) -> tuple[Evaluator, Callable[[int], Evaluator]]:
    """Evaluator of every row, and `evaluator(num_rows)` of that many random ones.

    `num_rows` is a multiple of 256. One program serves samples of all sizes, and all rows where
    they are few; a smaller sample is a part of a larger one.
    """
    program = Program(objective, scorer, SAMPLE_ROWS)

    def of_sample(num_rows: int) -> Evaluator:
        rows = held_out_sample(source, num_rows, seed)
        return Evaluator(program, rows, block_rows=SAMPLE_ROWS)

    if SAMPLE_ROWS < source.num_rows <= SHARED_ROWS:
        return Evaluator(program, source, block_rows=SAMPLE_ROWS), of_sample
    return make_evaluator(objective, scorer, source), of_sample


@dataclass(kw_only=True)
class Evaluations:
    """The evaluator that a run uses, and the time that its latest evaluations took."""

    in_use: Evaluate | None = None  # None before the first one
    num_rows: int = 0  # that it evaluates
    latest_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=3))
    final_seconds: float = 0.0  # set aside for the evaluation of all rows at the end


def _keep(values: Array, *, length: int, objective: Objective, step: int) -> np.ndarray:
    """The counted rows; for a loss with one value per window, one row of each whole window."""
    host = np.asarray(values)
    if objective.separable:
        return host[:length]
    return host[: length - length % step : step]
