"""Sums over all rows of a source: loss, gradient, products with the Hessian; memory bounded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope.check.precision import make_losses, narrowest
from downslope.data.source import Source
from downslope.noise.statistics.ranges import Floats
from downslope.objective import Objective
from downslope.tree import Rows, aligned_empty, map_arrays, pad

DIRECTIONS = 256  # products taken side by side
PART_NUMBERS = 1 << 18  # rows of a part times directions: one MiB of float32, as a cache holds
PART_ROWS = (128, 8192)
BUFFER_BYTES = 8 << 20  # read at once: a call costs some 0.1 ms, whatever it computes
MOST_PARTS = 64  # of a buffer


class OutOfTimeError(Exception):
    """The time allowed for passes is used up."""


class Passes:
    """Passes over a source at one precision. Use inside `wide`: sums are taken in float64.

    Args:
        deadline: by `time.perf_counter`, after which no further buffer is read.

    Attributes:
        precision: the narrowest type that results go through.
        num_passes: passes made so far.
    """

    def __init__(
        self,
        objective: Objective,
        unravel: Callable[[Any], Any],
        dim: int,
        source: Source,
        regularizer: Callable[[Any], Any] | None,
        dtype: Any,
        part_rows: int | None,
        deadline: float = math.inf,
    ):
        self.dim, self.num_passes, self._deadline = dim, 0, deadline
        self._source, self._dtype, self._unravel = source, dtype, unravel
        self._losses, self._regularizer = make_losses(objective, dtype), regularizer
        self._part_rows = part_rows or default_part_rows(dim, source.row_bytes)
        self._part_rows = min(self._part_rows, source.num_rows)
        parts = BUFFER_BYTES // max(1, self._part_rows * source.row_bytes)
        parts = max(1, min(parts, MOST_PARTS, source.num_rows // self._part_rows))
        self._buffer_rows = parts * self._part_rows
        self._products, self._extra = jax.jit(self._second), jax.jit(self._penalty)
        template = source.read(0, 1)
        rows = map_arrays(lambda a: np.broadcast_to(a, (self._buffer_rows, *a.shape[1:])), template)
        self._traced = jax.jit(self._first).trace(np.zeros(dim, dtype), rows, np.int32(0))
        self.precision = narrowest(self._traced.jaxpr)
        self._gradients: Callable[..., Any] | None = None

    def gradient(self, x: Floats) -> tuple[float, Floats]:
        """Mean loss without penalties, and the gradient with them, at x."""
        loss, total = 0.0, np.zeros(self.dim)
        if self._gradients is None:
            self._gradients = self._traced.lower().compile()
        for value, gradient in self._over(self._gradients, x):
            loss, total = loss + float(value), total + gradient
        count = self._source.num_rows
        extra, _ = self._penalties(x, np.zeros((1, self.dim)))
        return loss / count, total / count + extra

    def products(self, x: Floats, vectors: Floats) -> tuple[float, Floats, Floats]:
        """The same, and the Hessian times each of the vectors [k, dim], in one pass."""
        loss, total, found = 0.0, np.zeros(self.dim), np.zeros(vectors.shape)
        directions = jax.device_put(_chunks(vectors.astype(self._dtype)))
        for value, gradient, part in self._over(self._products, x, directions):
            loss, total = loss + float(value), total + gradient
            found += part.reshape(-1, self.dim)[: len(vectors)]
        count = self._source.num_rows
        extra, more = self._penalties(x, vectors)
        return loss / count, total / count + extra, found / count + more

    def _penalties(self, x: Floats, vectors: Floats) -> tuple[Floats, Floats]:
        if self._regularizer is None:
            return np.zeros(self.dim), np.zeros(vectors.shape)
        extra, more = self._extra(x, vectors)
        return np.asarray(extra), np.asarray(more)

    def _over(self, program: Callable[..., Any], x: Floats, *more: Any) -> Iterator[list[Any]]:
        """Results of every buffer of rows, one buffer late."""
        self.num_passes += 1
        point, waiting = jax.device_put(x.astype(self._dtype)), None
        for rows, length in buffers(self._source, self._buffer_rows):
            if time.perf_counter() > self._deadline:
                raise OutOfTimeError
            found = program(point, jax.device_put(rows), np.int32(length), *more)
            if waiting is not None:
                yield [np.asarray(each) for each in waiting]  # host sync: frees its buffer
            waiting = found
        if waiting is not None:
            yield [np.asarray(each) for each in waiting]

    def _first(self, x: Any, rows: Any, length: Any) -> Any:
        def of_part(x: Any, part: Any, counted: Any) -> Any:
            return jax.value_and_grad(self._total)(x, part, counted)

        return self._sum(of_part, x, rows, length)

    def _second(self, x: Any, rows: Any, length: Any, directions: Any) -> Any:
        def of_part(x: Any, part: Any, counted: Any) -> Any:
            def both(x: Any) -> Any:
                value, gradient = jax.value_and_grad(self._total)(x, part, counted)
                return gradient, value

            gradient, product, value = jax.linearize(both, x, has_aux=True)
            if directions.shape[0] == 1:
                return value, gradient, jax.vmap(product)(directions[0])[None]
            return value, gradient, jax.lax.map(jax.vmap(product), directions)

        return self._sum(of_part, x, rows, length)

    def _total(self, x: Any, part: Any, counted: Any) -> Any:
        losses = self._losses(self._unravel(x), part, jax.random.key(0))
        # Not a product: an uncounted row's infinite loss would turn into a NaN.
        return jnp.where(counted, losses, 0.0).astype(jnp.float64).sum()

    def _sum(self, of_part: Callable[..., Any], x: Any, rows: Any, length: Any) -> Any:
        """The sum over the parts of a buffer whose first `length` rows count, in float64."""
        size = self._part_rows
        parts = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), rows)
        starts = jnp.arange(self._buffer_rows // size, dtype=jnp.int32) * size

        def add(sums: Any, each: Any) -> Any:
            start, part = each
            counted = start + jnp.arange(size, dtype=jnp.int32) < length
            found = of_part(x, part, counted)
            return jax.tree.map(lambda s, f: s + f.astype(s.dtype), sums, found), None

        first = jax.tree.map(lambda a: a[0], parts)
        shapes = jax.eval_shape(of_part, x, first, jnp.ones(size, bool))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float64), shapes)
        return jax.lax.scan(add, zeros, (starts, parts))[0]

    def _penalty(self, x: Any, vectors: Any) -> Any:
        """Gradient of the regularizer and its products."""
        assert self._regularizer is not None
        regularizer = self._regularizer

        def gradient(x: Any) -> Any:
            extra = regularizer(self._unravel(x.astype(self._dtype)))
            if extra is None:
                return jnp.zeros_like(x)
            return ravel_pytree(extra)[0].astype(x.dtype)

        value, product = jax.linearize(gradient, x)
        return value, jax.vmap(product)(vectors)


def default_part_rows(dim: int, row_bytes: int) -> int:
    """Rows computed at once, so that what products need of them fits a cache."""
    wide = max(min(dim, DIRECTIONS), row_bytes // 4, 1)
    low, high = PART_ROWS
    return max(low, min(high, PART_NUMBERS // wide))


def _chunks(vectors: np.ndarray) -> np.ndarray:
    """The vectors [c, at most 256, dim], filled up with zeros."""
    count, dim = vectors.shape
    size = min(count, DIRECTIONS)
    chunks = -(-count // size)
    full = np.zeros((chunks * size, dim), vectors.dtype)
    full[:count] = vectors
    return full.reshape(chunks, size, dim)


def buffers(source: Source, size: int) -> Iterator[tuple[Rows, int]]:
    """All rows in order, in two buffers by turns; the last is filled up with rows again."""
    template = source.read(0, 1)
    both = [
        map_arrays(lambda a: aligned_empty((size, *a.shape[1:]), a.dtype), template)
        for _ in range(min(2, -(-source.num_rows // size)))
    ]
    for number, start in enumerate(range(0, source.num_rows, size)):
        stop = min(start + size, source.num_rows)
        rows = both[number % 2]
        source.expect(stop, min(stop + size, source.num_rows))
        length = stop - start
        source.read(start, stop, map_arrays(lambda a, n=length: a[:n], rows))
        pad(rows, length)
        yield rows, length
