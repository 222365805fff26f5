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

LARGEST_LOG = 40.0  # up to which an exponential is one; e^40 times 1e18 is in float32


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


def poisson(prediction: Array, target: Array) -> Array:
    """Half the Poisson deviance of a count `y >= 0` under the log of its rate `p`.

    `y log y - y p - y + exp(p)`, the negative log likelihood less its least value.

    Example:
        >>> import jax.numpy as jnp
        >>> float(poisson(jnp.log(jnp.float32(2)), jnp.float32(2)))
        0.0
    """
    return jax.scipy.special.xlogy(target, target) - target * prediction - target + _exp(prediction)


def gamma(prediction: Array, target: Array) -> Array:
    """Half the gamma deviance of an amount `y > 0` under the log of its mean `p`.

    `p - log y + y exp(-p) - 1`: errors count in proportion to the amount.
    """
    return prediction - jnp.log(target) + target * _exp(-prediction) - 1


def quantile(prediction: Array, target: Array, levels: tuple[float, ...]) -> Array:
    """Pinball loss, mean over levels q of `max(q r, (q - 1) r)` with `r = y - p`.

    Args:
        prediction: of the quantiles, [B, K], or [B] for one level.
        target: [B].
        levels: K numbers between 0 and 1.

    Source: Koenker and Bassett (1978).

    Example:
        >>> import jax.numpy as jnp
        >>> found = quantile(jnp.float32([[1, 5]]), jnp.float32([3]), (0.25, 0.75))
        >>> found.tolist()  # 0.25 * 2 and 0.25 * 2
        [0.5]
    """
    rest = target[:, None] - prediction.reshape(len(target), -1)
    level = jnp.asarray(levels, rest.dtype)
    return jnp.maximum(level * rest, (level - 1) * rest).mean(-1)


def _exp(x: Array) -> Array:
    """The exponential, continued by its tangent beyond what float32 holds."""
    inside = jnp.minimum(x, LARGEST_LOG)
    return jnp.exp(inside) * (1 + x - inside)


NAMED: dict[str, Callable[..., Array]] = {
    "squared": squared,
    "absolute": absolute,
    "huber": huber,
    "logistic": logistic,
    "softmax": softmax,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
    "poisson": poisson,
    "gamma": gamma,
}
