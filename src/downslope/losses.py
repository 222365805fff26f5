"""Losses of one example by name, and their subgradients at kinks.

Each function takes predictions and targets of shape [B] (softmax: [B, K] and class
numbers [B]) and returns losses of shape [B]. Where a loss is not differentiable, the
gradient that JAX takes is one valid subgradient, named in the docstring.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def squared(prediction: Array, target: Array) -> Array:
    """Half the squared error, `(p - y)^2 / 2`; its gradient is the residual.

    Example:
        >>> import jax.numpy as jnp
        >>> float(squared(jnp.float32(3), jnp.float32(1)))
        2.0
    """
    return 0.5 * jnp.square(prediction - target)


def absolute(prediction: Array, target: Array) -> Array:
    """Absolute error `|p - y|`. At `p = y` the subgradient is 0."""
    residual = prediction - target
    return residual * jnp.sign(residual)  # the gradient of jnp.abs at 0 is 1


def huber(prediction: Array, target: Array, delta: float = 1.0) -> Array:
    """Squared error up to `delta`, absolute error beyond (Huber 1964); differentiable.

    `r^2/2` for `|r| <= delta`, else `delta (|r| - delta/2)`, with `r = p - y`.
    """
    size = jnp.abs(prediction - target)
    inside = jnp.minimum(size, delta)
    return 0.5 * jnp.square(inside) + delta * (size - inside)


def logistic(prediction: Array, target: Array) -> Array:
    """Negative log likelihood of a class 0 or 1 under log-odds `p`, in nats.

    `log(1 + exp(p)) - y p`, computed without overflow.
    """
    return jnp.logaddexp(prediction, 0.0) - target * prediction


def softmax(prediction: Array, target: Array) -> Array:
    """Negative log likelihood of class `y` under logits `p` [B, K], in nats."""
    classes = jnp.arange(prediction.shape[-1])
    # a comparison instead of a gather: its gradient is a product, not a slow scatter
    chosen = jnp.where(classes == target[..., None], prediction, 0.0).sum(-1)
    return jax.nn.logsumexp(prediction, axis=-1) - chosen


def hinge(prediction: Array, target: Array) -> Array:
    """Hinge loss `max(0, 1 - s p)` with `s = 2y - 1` for a class y of 0 or 1.

    At the kink `s p = 1` the subgradient is 0, that of the flat side.
    """
    margin = 1.0 - (2.0 * target - 1.0) * prediction
    return jnp.where(margin > 0, margin, 0.0)


def squared_hinge(prediction: Array, target: Array) -> Array:
    """Squared hinge loss `max(0, 1 - s p)^2` with `s = 2y - 1`; differentiable."""
    return jnp.square(hinge(prediction, target))


NAMED: dict[str, Callable[..., Array]] = {
    "squared": squared,
    "absolute": absolute,
    "huber": huber,
    "logistic": logistic,
    "softmax": softmax,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
}
