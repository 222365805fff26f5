"""Density of a posterior, and estimates of its gradient from mini-batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from downslope import UsageError
from downslope.arguments import number

ROWS_AT_ONCE = 4096  # of a pass over all
LEAST_SCALE = 1e-12  # of a prior


class Density:
    """Unnormalised posterior of the flat parameters [d]: likelihood of all rows times the prior.

    Args:
        loss: `loss(model, batch, key) -> [B]`, negative log likelihood of each row, in nats.
        model: parameters, a pytree of floating-point arrays.
        data: rows, arrays with the same first axis.
        prior_scale: standard deviation of independent normal priors around 0; infinite for a flat
            prior.

    Raises:
        UsageError: no rows, a prior scale of 0, or a loss that is not one number a row.
    """

    def __init__(self, loss: Callable[..., Any], model: Any, data: Any, prior_scale: float):
        if prior_scale != math.inf:
            number("prior_scale", prior_scale, least=LEAST_SCALE)
        leaves = jax.tree.leaves(model)
        if not leaves or not all(_is_floating(leaf) for leaf in leaves):
            raise UsageError("model must be a pytree of floating-point arrays, all of them sampled")
        self.rows: Any = jax.tree.map(jnp.asarray, data)
        counts = {np.shape(a)[0] if np.ndim(a) else 0 for a in jax.tree.leaves(data)}
        if len(counts) != 1 or counts == {0}:
            raise UsageError("data must be arrays with the same number of rows, one at least")
        self.num_rows = counts.pop()
        self.precision = 0.0 if prior_scale == math.inf else prior_scale**-2.0
        flat, self.unravel = ravel_pytree(
            jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), model)
        )
        self.dim = flat.size
        self.loss = loss
        shape = jax.eval_shape(self.losses, flat, self.take(np.arange(1)), jax.random.key(0)).shape
        if shape != (1,):
            raise UsageError(
                f"loss must return one number per row, shape (B,); for B = 1 it returned {shape}"
            )

    def take(self, places: Any) -> Any:
        """Rows at these places."""
        return jax.tree.map(lambda a: a[places], self.rows)

    def losses(self, theta: Array, rows: Any, key: Array) -> Array:
        """Negative log likelihood of rows [B]."""
        return self.loss(self.unravel(theta), rows, key)

    def gradient(self, theta: Array, rows: Any, key: Array) -> Array:
        """Unbiased estimate of the gradient of minus the log posterior, from a batch of rows."""
        mean = jax.grad(lambda t: self.losses(t, rows, key).mean())(theta)
        return self.num_rows * mean + self.precision * theta

    def full_gradient(self, theta: Array, key: Array) -> Array:
        """Gradient of minus the log posterior over all rows."""
        parts = (
            self._gradient_sum(theta, self.take(slice(first, first + ROWS_AT_ONCE)), key)
            for first in range(0, self.num_rows, ROWS_AT_ONCE)
        )
        return sum(parts, self.precision * theta)

    def example_gradients(self, theta: Array, places: Any, key: Array) -> np.ndarray:
        """Gradients of the loss of single rows, [n, d]."""
        return np.asarray(self._example_gradients(theta, jnp.asarray(places), key))

    @functools.cached_property
    def _gradient_sum(self) -> Any:
        return jax.jit(jax.grad(lambda theta, rows, key: self.losses(theta, rows, key).sum()))

    @functools.cached_property
    def _example_gradients(self) -> Any:
        def one(theta: Array, place: Array, key: Array) -> Array:
            return jax.grad(lambda t: self.losses(t, self.take(place[None]), key)[0])(theta)

        return jax.jit(
            lambda theta, places, key: jax.lax.map(
                lambda place: one(theta, place, key), places, batch_size=64
            )
        )


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def check_finite(density: Density, theta: Array) -> None:
    """Refuse a loss without a finite gradient, or one that uses its key.

    Raises:
        UsageError: there is one.
    """
    if not bool(jnp.isfinite(density.full_gradient(theta, jax.random.key(0))).all()):
        raise UsageError("loss must have a finite gradient at the parameters to begin with")
    rows = density.take(slice(0, min(density.num_rows, 64)))
    first, second = (density.losses(theta, rows, jax.random.key(seed)) for seed in (0, 1))
    if not np.array_equal(first, second):
        raise UsageError(
            "loss must not use its key: with dropout it is no likelihood of the parameters"
        )


def controlled(density: Density, center: Array, key: Array) -> Callable[[Array, Any, Array], Array]:
    """Gradient estimate with a control variate: the batch's gradient at a center is replaced by
    that of all rows there, so that only the difference of both is noisy.

    Source: Baker, Fearnhead, Fox and Nemeth (2019), Control variates for stochastic gradient MCMC.
    """
    whole = density.full_gradient(center, key)

    def gradient(theta: Array, rows: Any, key: Array) -> Array:
        return density.gradient(theta, rows, key) - density.gradient(center, rows, key) + whole

    return gradient
