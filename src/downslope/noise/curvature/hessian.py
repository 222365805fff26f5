"""Hessian-vector products and curvature along directions, without forming the Hessian (JAX).

A product costs about two to three gradients and no more memory than one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.noise.statistics.arrays import Floats

ROWS_AT_ONCE = 1024


def hessian_product(loss: Callable[..., Any], params: Any, *data: Any) -> Callable[[Any], Any]:
    """Product v -> H v with the Hessian of a scalar loss at `params`, on flat vectors.

    The derivative of the gradient along v: jvp of grad.

    Args:
        loss: `loss(params, *data)`, a scalar.
        params: any pytree of floating arrays; flattened in the order of `ravel_pytree`.
        data: passed on; arrays given here are arguments of the compiled function, those that the
            loss closes over become constants in it.

    Returns:
        A jitted function from [dim] to [dim]; compiled once, whatever the number of products.

    Raises:
        UsageError: a leaf of params that is not floating.

    Example:
        >>> product = hessian_product(lambda p: (p["w"] ** 3).sum(), {"w": jnp.array([1.0, 2.0])})
        >>> product(np.array([1.0, 1.0])).tolist()  # second derivatives 6 w
        [6.0, 12.0]

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    flat, unravel = _flat(params)

    @jax.jit
    def product(flat: Any, vector: Any, *data: Any) -> Any:
        gradient = jax.grad(lambda x: loss(unravel(x), *data))
        return jax.jvp(gradient, (flat,), (vector,))[1]

    return lambda vector: product(flat, jnp.asarray(vector, flat.dtype), *data)


def chunked_hessian_product(
    losses: Callable[[Any, Any], Any], params: Any, rows: Any, *, chunk_size: int
) -> Callable[[Any], Any]:
    """Product with the Hessian of the mean loss over all rows, `chunk_size` rows at a time.

    Exactly the full data's Hessian, in the memory of one chunk.

    Args:
        losses: `losses(params, rows)`, one loss a row, [n]; rows must not influence each other.
        params: any pytree of floating arrays.
        rows: pytree of arrays with a common first axis, N.
        chunk_size: rows held at once.

    Returns:
        A jitted function from [dim] to [dim].

    Raises:
        UsageError: leaves of rows with different lengths or none, or a params leaf not floating.

    Example:
        >>> losses = lambda p, x: 0.5 * (x @ p) ** 2
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> product = chunked_hessian_product(losses, jnp.zeros(2), x, chunk_size=2)
        >>> (3 * product(np.array([1.0, 1.0]))).tolist()  # the sum of x x' times (1, 1)
        [1.0, 4.0]
    """
    flat, unravel = _flat(params)
    num_rows = _num_rows(rows)
    size = min(whole("chunk_size", chunk_size), num_rows)
    num_chunks = -(-num_rows // size)

    def chunk_sum(flat: Any, rows: Any, chunk: Any) -> Any:
        begin = chunk * size  # the last chunk starts earlier, so that it is full
        start = jnp.minimum(begin, num_rows - size)
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), rows)
        fresh = start + jnp.arange(size) >= begin
        return jnp.sum(jnp.where(fresh, losses(unravel(flat), part), 0))

    @jax.jit
    def product(flat: Any, rows: Any, vector: Any) -> Any:
        def add(total: Any, chunk: Any) -> Any:
            gradient = jax.grad(lambda x: chunk_sum(x, rows, chunk))
            return total + jax.jvp(gradient, (flat,), (vector,))[1], None

        total, _ = jax.lax.scan(add, jnp.zeros_like(flat), jnp.arange(num_chunks))
        return total / num_rows

    return lambda vector: product(flat, rows, jnp.asarray(vector, flat.dtype))


def directional_curvatures(
    losses: Callable[[Any, Any], Any], params: Any, rows: Any, directions: ArrayLike
) -> Floats:
    """Curvature u' H_i u of each row's loss along unit vectors, [N, k].

    The second derivative of losses(params + t u) at t = 0, forward over forward: neither
    gradients nor Hessians of single rows are formed. Input of `necessary_limit`.

    Args:
        losses: `losses(params, rows)`, one loss a row.
        params: any pytree of floating arrays.
        rows: pytree of arrays with a common first axis, N.
        directions: [k, dim], for instance the eigenvectors of a `Spectrum`.

    Raises:
        UsageError: directions that do not fit the parameters.

    Example:
        >>> losses = lambda p, x: 0.5 * (x @ p) ** 2
        >>> x = jnp.array([[1.0, 5.0], [3.0, 0.0]])
        >>> directional_curvatures(losses, jnp.zeros(2), x, [[1.0, 0.0]]).tolist()
        [[1.0], [9.0]]
    """
    flat, unravel = _flat(params)
    vectors = jnp.asarray(directions, flat.dtype)
    if vectors.ndim != 2 or vectors.shape[1] != flat.size:
        raise UsageError(f"directions must have shape [k, {flat.size}]; got {vectors.shape}")
    num_rows = _num_rows(rows)

    @jax.jit
    def curvatures(flat: Any, vectors: Any, part: Any) -> Any:
        def along(u: Any) -> Any:
            def slope(x: Any) -> Any:
                return jax.jvp(lambda y: losses(unravel(y), part), (x,), (u,))[1]

            return jax.jvp(slope, (flat,), (u,))[1]

        return jax.vmap(along)(vectors)

    found = np.empty((num_rows, len(vectors)))
    for start in range(0, num_rows, ROWS_AT_ONCE):
        chunk = slice(start, start + ROWS_AT_ONCE)
        part = jax.tree.map(operator.itemgetter(chunk), rows)
        # a deliberate host sync: the result is small, the chunk's memory is freed
        found[chunk] = np.asarray(curvatures(flat, vectors, part), np.float64).T
    return found


def _flat(params: Any) -> tuple[Any, Callable[[Any], Any]]:
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise UsageError(f"params must be floating arrays; got {jnp.result_type(leaf)}")
    return ravel_pytree(params)


def _num_rows(rows: Any) -> int:
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(rows)}
    if len(lengths) != 1 or 0 in lengths:
        raise UsageError(f"rows must share one first axis, not empty; got lengths {lengths}")
    return lengths.pop()
