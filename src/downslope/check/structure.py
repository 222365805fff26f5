"""Test that rules out quadratics by tracing a loss; nothing is compiled."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from downslope.objective import Objective, Params


def may_be_quadratic(objective: Objective, params: Params, rows: Any) -> bool:
    """False where the loss has a third derivative; True leaves the question to `examine`.

    The Hessian's product with a vector is differentiated by the parameters while it is traced.
    Where a loss is made of sums, products with constants and squares, JAX knows that derivative
    to be zero, and gives a rule of `jax.custom_jvp` a `SymbolicZero`. Pieces of lines and
    parabolas (hinge, absolute, Huber) pass too. Costs tens of milliseconds.

    Args:
        objective, params: as made by `downslope.objective.build`.
        rows: a few rows of the source.

    Example:
        >>> from downslope.objective import build
        >>> x = np.ones((4, 2), np.float32)
        >>> def squared(model, batch, key):
        ...     return (batch @ model) ** 2
        >>> def logistic(model, batch, key):
        ...     return jnp.logaddexp(0, batch @ model)
        >>> [may_be_quadratic(*build(loss, np.ones(2, np.float32), x, lambda r: r, None), x)
        ...  for loss in (squared, logistic)]
        [True, False]
    """
    counted = jnp.ones(jax.tree.leaves(rows)[0].shape[0], bool)
    key = jax.random.key(0)
    found: list[bool] = []

    @jax.custom_jvp
    def observe(leaf: Any) -> Any:
        return leaf

    @functools.partial(observe.defjvp, symbolic_zeros=True)
    def _(primals: Any, tangents: Any) -> Any:
        found.append(not isinstance(tangents[0], SymbolicZero))
        return primals[0], tangents[0]

    def total(p: Params) -> Any:
        loss = objective.loss_sum(p, rows, counted, key)
        return loss if objective.penalty is None else loss + objective.penalty(objective.model(p))

    def product(p: Params) -> Any:
        image = jax.jvp(jax.grad(total), (p,), (jax.tree.map(jnp.ones_like, p),))[1]
        return jax.tree.map(observe, image)

    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), params)
    jax.eval_shape(lambda p, v: jax.jvp(product, (p,), (v,)), shapes, shapes)
    return not any(found)
