"""Whether a loss can be a quadratic at all, read off its program without compiling it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.objective import Objective, Params


def may_be_quadratic(objective: Objective, params: Params, rows: Any) -> bool:
    """False where the loss has a third derivative; True leaves the question to `look`.

    The Hessian's product with a vector is traced together with its derivative by the
    parameters. Where a loss is made of sums, products with constants and squares, the
    tracer knows that derivative to be zero and none of its program depends on the direction.
    Pieces of lines and parabolas (hinge, absolute, Huber) come through too. Costs tens of
    milliseconds, where `look` compiles a program for half a second.

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

    def total(p: Params) -> Any:
        loss = objective.loss_sum(p, rows, counted, key)
        return loss if objective.penalty is None else loss + objective.penalty(objective.model(p))

    def product(p: Params) -> Any:
        return jax.jvp(jax.grad(total), (p,), (jax.tree.map(jnp.ones_like, p),))[1]

    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), params)

    def third(p: Params, direction: Params) -> Any:
        return jax.jvp(product, (p,), (direction,))[1]

    closed = jax.make_jaxpr(third)(shapes, shapes)
    inputs = closed.jaxpr.invars
    depends = {id(v) for v in inputs[len(inputs) // 2 :]}
    for equation in closed.jaxpr.eqns:
        if any(id(v) in depends for v in equation.invars):
            depends.update(id(v) for v in equation.outvars)
    return not any(id(v) in depends for v in closed.jaxpr.outvars)
