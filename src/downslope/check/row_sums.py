"""Sums over the rows of a source: losses, gradients, products with the Hessian."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.check.problem import Problem, cast, in_widest_type
from downslope.data.source import Source
from downslope.noise.statistics.arrays import Floats
from downslope.tree import Rows, aligned_empty, map_arrays, pad

PRODUCTS_AT_ONCE = 256
PART_NUMBERS = 1 << 18  # rows of a part times directions: one MiB of float32, as a cache holds
PART_ROWS = (128, 8192)
BUFFER_BYTES = 8 << 20  # read at once: a call costs some 0.1 ms, whatever it computes
MAX_PARTS = 64  # of a buffer
SAMPLE_ROWS = 256  # that a few calls look at, where a pass over all rows would be too much
# Where there are few numbers, computing takes less time than optimizing the program: 0.3 s saved
# for 2,000 rows of 10 columns, 1 ms a pass lost (two cores of an AMD EPYC).
MAX_QUICK_NUMBERS = 1 << 19
QUICK_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


class OutOfTimeError(Exception):
    """The time allowed for passes is used up."""


class RowSums:
    """Mean loss, gradient and Hessian products over all rows, in the memory of a buffer.

    Use inside `wide`: sums are taken in float64. Gradients are taken at three points, a point and
    its neighbours on a line, where a quadratic's gradient has no second difference; in a pass over
    many rows they are taken side by side, which costs about what one does.

    Attributes:
        problem: loss, parameters and rows.
        start: the parameters given, [dim] float64.
        dtype: that gradients are computed in: float64, or float32 for a loss that insists on it.
        num_passes: passes over the rows so far.
        deadline: by `time.perf_counter`, after which no further buffer is read.

    Raises:
        UsageError: a loss whose code does not run where JAX has 64-bit numbers.
    """

    def __init__(self, problem: Problem, part_rows: int | None = None):
        self.problem, self.num_passes, self.deadline = problem, 0, math.inf
        leaves, self._treedef = jax.tree.flatten(jax.tree.map(np.asarray, problem.params))
        self._leaves, self.start = leaves, _flat(leaves)
        source = problem.source
        numbers = source.num_rows * max(self.start.size, source.row_bytes // 4)
        self._is_small = numbers <= MAX_QUICK_NUMBERS and part_rows is None
        default = default_part_rows(self.start.size, source.row_bytes)
        most = part_rows or (source.num_rows if self._is_small else default)
        self._part_rows = min(most, source.num_rows)
        parts = BUFFER_BYTES // max(1, self._part_rows * source.row_bytes)
        parts = max(1, min(parts, MAX_PARTS, source.num_rows // self._part_rows))
        self._buffer_rows = parts * self._part_rows
        self._sample_sums = jax.jit(self._make_gradients, compiler_options=QUICK_COMPILATION)
        self._gradient_sums = jax.jit(self._make_gradients)
        options = QUICK_COMPILATION if self._is_small else None
        self._product_sums = jax.jit(self._make_products, compiler_options=options)
        self._penalty_gradients = jax.jit(jax.vmap(self._penalty))
        self._penalty_products = jax.jit(self._make_penalty_products)
        self._is_penalized = _is_penalized(problem)
        self.dtype = in_widest_type(self._traced)

    def _traced(self, dtype: Any) -> Any:
        """The type, if the loss can be traced with it."""
        source = self.problem.source
        count = self._padded_count(min(SAMPLE_ROWS, source.num_rows))
        rows = map_arrays(
            lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), source.read(0, 1)
        )
        point = jax.ShapeDtypeStruct(self.start.shape, dtype)
        jax.eval_shape(self._sample_sums, point, rows, np.int32(1), np.uint32(0))
        return dtype

    # --- what is asked ------------------------------------------------------------------------

    def gradients(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean losses [3] without penalties, and gradients [3, dim] with them, over all rows."""
        self.num_passes += 1
        source = self.problem.source
        if self._is_small:
            return self.sample_gradients(source.read(0, source.num_rows), points)
        sums = self._over(self._gradient_sums, points.astype(self.dtype), np.uint32(0))
        return self._means(_added(sums), points, source.num_rows)

    def sample_gradients(
        self, rows: Rows, points: Floats, *, length: int | None = None, key: int = 0
    ) -> tuple[Floats, Floats]:
        """The same over the first `length` of a few rows; it is no pass.

        Args:
            rows: a few hundred, always as many: another number is compiled anew.
            key: seed of the random key that the loss is given.
        """
        count = jax.tree.leaves(rows)[0].shape[0]
        length = int(count if length is None else length)
        more = jax.device_put(map_arrays(self._padded, rows)), np.int32(length), np.uint32(key)
        sums = [self._sample_sums(point, *more) for point in points.astype(self.dtype)]
        return self._means([np.stack(part) for part in zip(*sums, strict=True)], points, length)

    def products(self, x: Floats, vectors: Floats, dtype: Any) -> tuple[float, Floats, Floats]:
        """Loss, gradient, and the Hessian times each of the vectors [k, dim], in one pass.

        Args:
            dtype: to compute in.
        """
        point, num_rows = x.astype(dtype), self.problem.source.num_rows
        directions = jax.device_put(_chunks(vectors.astype(dtype)))
        self.num_passes += 1
        loss, gradient, images = _added(self._over(self._product_sums, point, directions))
        loss, gradient = float(loss) / num_rows, gradient / num_rows
        images = images.reshape(-1, self.start.size)[: len(vectors)] / num_rows
        if self._is_penalized:
            extra = self._penalty_products(point, vectors.astype(dtype))
            gradient, images = gradient + np.asarray(extra[0]), images + np.asarray(extra[1])
        return loss, gradient, images

    def rounded(self, x: Floats) -> tuple[Floats, Any]:
        """The point as the parameters' own types can hold it, flat and as their tree."""
        tree = self._tree(x)
        held = jax.tree.map(lambda p, q: np.asarray(p, q.dtype), tree, self.problem.params)
        return _flat(jax.tree.leaves(held)), held

    # --- how it is computed -------------------------------------------------------------------

    def _tree(self, x: Any) -> Any:
        """The flat vector as the tree of the parameters; of NumPy or of JAX, of any type."""
        ends = np.cumsum([leaf.size for leaf in self._leaves])
        parts = [
            x[end - leaf.size : end].reshape(leaf.shape)
            for leaf, end in zip(self._leaves, ends.tolist(), strict=True)
        ]
        return jax.tree.unflatten(self._treedef, parts)

    def _padded_count(self, count: int) -> int:
        """Rows of a sample: as many, or up to the end of a part, or of what is compiled anyhow."""
        if self._is_small:
            return self._buffer_rows
        parts = -(-count // self._part_rows)
        return count if parts == 1 else parts * self._part_rows

    def _padded(self, a: np.ndarray) -> np.ndarray:
        count = self._padded_count(len(a))
        return a if count == len(a) else np.resize(a, (count, *a.shape[1:]))

    def _means(self, sums: Any, points: Floats, count: int) -> tuple[Floats, Floats]:
        losses, gradients = sums[0], sums[1] / count
        if self._is_penalized:
            gradients = gradients + np.asarray(self._penalty_gradients(points.astype(self.dtype)))
        return losses / count, gradients

    def _over(self, program: Callable[..., Any], point: Any, *more: Any) -> Iterator[Any]:
        """Sums of every buffer of rows, one buffer late."""
        point, waiting = jax.device_put(point), None
        for rows, length in buffers(self.problem.source, self._buffer_rows):
            if time.perf_counter() > self.deadline:
                raise OutOfTimeError
            found = program(point, jax.device_put(rows), np.int32(length), *more)
            if waiting is not None:
                yield jax.device_get(waiting)  # host sync: frees its buffer
            waiting = found
        yield jax.device_get(waiting)

    def _make_gradients(self, points: Any, rows: Any, length: Any, number: Any) -> Any:
        def of_part(part: Any, counted: Any) -> Any:
            one = jax.value_and_grad(lambda x: self._total(x, part, counted, number))
            return (jax.vmap(one) if points.ndim == 2 else one)(points)

        return self._sum(of_part, rows, length)

    def _make_products(self, x: Any, rows: Any, length: Any, directions: Any) -> Any:
        def of_part(part: Any, counted: Any) -> Any:
            def both(x: Any) -> Any:
                total = lambda x: self._total(x, part, counted, np.uint32(0))  # noqa: E731
                value, gradient = jax.value_and_grad(total)(x)
                return gradient, value

            gradient, product, value = jax.linearize(both, x, has_aux=True)
            if directions.shape[0] == 1:
                return value, gradient, jax.vmap(product)(directions[0])[None]
            return value, gradient, jax.lax.map(jax.vmap(product), directions)

        return self._sum(of_part, rows, length)

    def _total(self, x: Any, part: Any, counted: Any, number: Any) -> Any:
        objective = self.problem.objective
        params = self._tree(x)
        batch = cast(objective.unpack(part), x.dtype)
        losses = objective.loss(objective.model(params), batch, jax.random.key(number))
        # Not a product: an uncounted row's infinite loss would turn into a NaN.
        return jnp.where(counted, losses, 0.0).astype(jnp.float64).sum()

    def _sum(self, of_part: Callable[..., Any], rows: Any, length: Any) -> Any:
        """The sum over the parts of a buffer whose first `length` rows count, in float64."""
        num_rows = jax.tree.leaves(rows)[0].shape[0]
        size = min(self._part_rows, num_rows)
        if num_rows == size:
            found = of_part(rows, jnp.arange(size, dtype=jnp.int32) < length)
            return jax.tree.map(lambda f: f.astype(jnp.float64), found)
        parts = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), rows)

        def add(number: Any, sums: Any) -> Any:
            counted = number * size + jnp.arange(size, dtype=jnp.int32) < length
            found = of_part(jax.tree.map(lambda a: a[number], parts), counted)
            return jax.tree.map(lambda s, f: s + f.astype(s.dtype), sums, found)

        first = jax.tree.map(lambda a: a[0], parts)
        shapes = jax.eval_shape(of_part, first, jnp.ones(size, bool))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float64), shapes)
        return jax.lax.fori_loop(0, (length + size - 1) // size, add, zeros)

    def _penalty(self, x: Any) -> Any:
        """Gradient of the regularizer."""
        assert self.problem.regularizer is not None
        extra = self.problem.regularizer(self._tree(x))
        return jnp.concatenate([leaf.ravel().astype(x.dtype) for leaf in jax.tree.leaves(extra)])

    def _make_penalty_products(self, x: Any, vectors: Any) -> Any:
        value, product = jax.linearize(self._penalty, x)
        return value, jax.vmap(product)(vectors)


def default_part_rows(dim: int, row_bytes: int) -> int:
    """Rows computed at once, so that what products need of them fits a cache."""
    width = max(min(dim, PRODUCTS_AT_ONCE), row_bytes // 4, 1)
    low, high = PART_ROWS
    return max(low, min(high, PART_NUMBERS // width))


def _flat(leaves: list[Any]) -> Floats:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])


def _is_penalized(problem: Problem) -> bool:
    """True where the regularizer, which may return None, adds anything."""
    regularizer = problem.regularizer
    return regularizer is not None and jax.eval_shape(regularizer, problem.params) is not None


def _added(sums: Any) -> list[Any]:
    """The sums of all buffers, added up."""
    total: list[Any] = []
    for each in sums:
        each = [np.asarray(part) for part in each]
        total = [a + b for a, b in zip(total, each, strict=True)] if total else each
    return total


def _chunks(vectors: np.ndarray) -> np.ndarray:
    """The vectors [c, at most 256, dim], filled up with zeros."""
    count, dim = vectors.shape
    size = min(count, PRODUCTS_AT_ONCE)
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
