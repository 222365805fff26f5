"""Gradients of a window of rows: whole, or in two parts that measure each other's noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from downslope.objective import Objective
from downslope.step.state import State


class Parts(NamedTuple):
    """Two sums of gradients from independent rows, at the same parameters."""

    loss: Array  # sum of the window's losses
    total: Any  # sum of the window's gradients: the one that the update uses
    first: Any  # the two sums to compare
    second: Any
    rows_first: Array  # rows counted in each, float32
    rows_second: Array


class Gradients(NamedTuple):
    """`whole(state, rows, windows, i) -> (loss, gradient sum)`, and `parts(...) -> Parts`."""

    whole: Callable[[State, Any, Any, Array], tuple[Array, Any]]
    parts: Callable[[State, Any, Any, Array], Parts]


def make_gradients(objective: Objective, step_rows: int, *, accumulates: bool) -> Gradients:
    """Build the functions that compute gradients of window `i` of a buffer.

    A window is measured by its two halves, which costs no more arithmetic than the whole.
    If it cannot be halved (one row, or examples that interact), it is compared with the
    window after it, whose gradient is computed for that purpose only.
    """
    value_and_grad = jax.value_and_grad(objective.loss_sum)

    def key_of(state: State, windows: Any, i: Array) -> Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        # independent of where the buffer begins
        return jax.random.fold_in(key, windows.offsets[i]) if accumulates else key

    def of_rows(state: State, rows: Any, start: Array, count: int, span: Any, key: Array) -> Any:
        part = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, count), rows)
        place = start + jnp.arange(count)
        counted = (place >= span[0]) & (place < span[1])
        loss, grad = value_and_grad(state.params, part, counted, key)
        return loss, grad, counted.sum().astype(jnp.float32)

    def whole(state: State, rows: Any, windows: Any, i: Array) -> tuple[Array, Any]:
        span = windows.lows[i], windows.highs[i]
        key = key_of(state, windows, i)
        return of_rows(state, rows, windows.starts[i], step_rows, span, key)[:2]

    def halves(state: State, rows: Any, windows: Any, i: Array) -> Parts:
        start, span = windows.starts[i], (windows.lows[i], windows.highs[i])
        keys = jax.random.split(key_of(state, windows, i))
        half = step_rows // 2
        loss, first, count = of_rows(state, rows, start, half, span, keys[0])
        # one after the other: side by side they would compete for the same cores
        state, loss, first = lax.optimization_barrier((state, loss, first))
        more, second, rest = of_rows(state, rows, start + half, step_rows - half, span, keys[1])
        total = jax.tree.map(jnp.add, first, second)
        return Parts(loss + more, total, first, second, count, rest)

    def neighbours(state: State, rows: Any, windows: Any, i: Array) -> Parts:
        keys = key_of(state, windows, i), jax.random.split(key_of(state, windows, i))[1]
        here, there = (
            of_rows(state, rows, windows.starts[j], step_rows, (windows.lows[j], high), key)
            for j, high, key in ((i, windows.highs[i], keys[0]), (*_after(windows, i), keys[1]))
        )
        return Parts(here[0], here[1], here[1], there[1], here[2], there[2])

    can_halve = not objective.interacts and step_rows > 1
    return Gradients(whole, halves if can_halve else neighbours)


def _after(windows: Any, i: Array) -> tuple[Array, Array]:
    """Window after `i` and where its rows end; after the last one nothing is counted."""
    j = jnp.minimum(i + 1, len(windows.starts) - 1)
    return j, jnp.where(j > i, windows.highs[j], windows.lows[j])
