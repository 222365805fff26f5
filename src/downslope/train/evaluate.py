"""Loss and metrics of a model on all rows of a source, block by block."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from downslope.data.blocks import table_stream
from downslope.data.order import sequential_order
from downslope.data.source import Source
from downslope.metrics import MeanLoss, Results
from downslope.objective import Objective, Params
from downslope.tree import map_arrays

KEPT_BYTES = 32 << 20  # held-out rows kept on the device: reading takes longer than evaluating
EACH = "loss of every row"  # key beside those of the scorer
WINDOW_ROWS = 2048  # rows evaluated at once: bounds the memory of a wide model's activations


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


def make_evaluator(
    objective: Objective, scorer: Scorer, source: Source, step_rows: int | None = None
) -> Callable[[Params], Results]:
    """`evaluate(params) -> Results` over every row of `source`.

    Args:
        step_rows: rows evaluated together; for a loss whose examples interact, the number
            it is trained with: the result is then the mean over such windows.
    """
    step_rows = min(step_rows or WINDOW_ROWS, source.num_rows)
    order = sequential_order(source.num_rows, source.row_bytes, step_rows=step_rows)
    key = jax.random.key(0)  # one key for all evaluations, so that only the model makes them differ

    @jax.jit
    def outputs(params: Params, rows: Any) -> dict[str, Array]:
        def window(part: Any) -> dict[str, Array]:
            losses = objective.losses(params, part, key)
            found = scorer.score(objective.model(params), objective.unpack(part), losses)
            return found | {EACH: losses}

        parts = jax.tree.map(  # not -1: an array may have no columns
            lambda a: a.reshape(len(a) // step_rows, step_rows, *a.shape[1:]), rows
        )
        found = jax.lax.map(window, parts)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)

    kept: list[tuple[Any, int]] = []  # a small source stays on the device for the next evaluation
    small = source.num_rows * source.row_bytes <= KEPT_BYTES

    def blocks() -> Generator[tuple[Any, int], None, None]:
        if kept:
            yield from kept
            return
        stream = table_stream(
            source, order, batch_rows=step_rows, step_rows=step_rows, num_epochs=1
        )
        read = []
        with stream as found:
            for block in found:
                rows = map_arrays(np.array, block.rows) if small else block.rows
                read.append((jax.device_put(rows), int(block.windows.highs.max())))
                yield read[-1]
                if not small:
                    read.clear()
                found.release(block)
        kept.extend(read)

    def evaluate(params: Params) -> Results:
        accumulator, losses = scorer.accumulator(), []
        with contextlib.closing(blocks()) as parts:  # an error ends the reading thread too
            for rows, length in parts:
                found = outputs(params, rows)
                keep = functools.partial(_keep, length=length, objective=objective, step=step_rows)
                losses.append(keep(found.pop(EACH)))  # host sync
                accumulator.add(**{k: keep(v) for k, v in found.items()})
        results = accumulator.result()
        results.losses = np.concatenate(losses)
        return results

    return evaluate


def _keep(values: Array, *, length: int, objective: Objective, step: int) -> np.ndarray:
    """The counted rows; for a loss with one value per window, one row of each whole window."""
    host = np.asarray(values)
    if objective.separable:
        return host[:length]
    return host[: length - length % step : step]
