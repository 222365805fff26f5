"""Net in place of a solution, and derivatives of a function of a point."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclass(frozen=True, kw_only=True)
class Net:
    """Dense tanh layers of a point, scaled to [-1, 1] by the bounds of the geometry.

    Attributes:
        low, high: bounds, [d].
        num_outputs: components of the solution.
        hidden: widths of the hidden layers.
        num_features: random Fourier features, cosine and sine of each; 0 for the coordinates alone.
        frequency: standard deviation of their frequencies, in cycles over the bounds.
        seed: of the features and of the first parameters.

    Source: Fourier features: Tancik et al. (2020).
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    num_outputs: int = 1
    hidden: tuple[int, ...] = (32, 32)
    num_features: int = 0
    frequency: float = 1.0
    seed: int = 0

    @property
    def features(self) -> np.ndarray:
        """Frequencies [d, m] in cycles over the bounds."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 1]))
        return self.frequency * rng.standard_normal((len(self.low), self.num_features))

    def init(self) -> list[dict[str, Any]]:
        """Parameters before training: normal weights of variance 1/fan-in, float32."""
        rng = np.random.Generator(np.random.Philox(self.seed))
        inputs = 2 * self.num_features or len(self.low)
        widths = (inputs, *self.hidden, self.num_outputs)
        return [
            {
                "weights": np.float32(rng.standard_normal((a, b)) / np.sqrt(a)),
                "bias": np.zeros(b, np.float32),
            }
            for a, b in itertools.pairwise(widths)
        ]

    def __call__(self, params: Any, x: Array) -> Array:
        """Outputs [num_outputs] at a point [d]."""
        low, high = (np.asarray(end, x.dtype) for end in (self.low, self.high))
        h = (x - low) / (high - low)
        if self.num_features:
            turns = 2 * np.pi * (h @ self.features.astype(x.dtype))
            h = jnp.concatenate([jnp.cos(turns), jnp.sin(turns)])
        else:
            h = 2 * h - 1
        *inner, last = params
        for layer in inner:
            h = jnp.tanh(h @ layer["weights"] + layer["bias"])
        return h @ last["weights"] + last["bias"]


def derivative(u: Callable[[Array], Array], x: Array, *axes: int) -> Array:
    """Partial derivative of a function at a point, along one axis after the other.

    Args:
        u: of a point [d], number or [outputs].
        x: the point.
        axes: numbers of coordinates; `(0, 0)` is the second derivative along the first.

    Example:
        >>> x = jnp.array([2.0, 3.0])
        >>> float(derivative(lambda x: x[0] ** 3 * x[1], x, 0, 1))
        12.0
    """
    for axis in axes:
        u = _along(u, axis)
    return u(x)


def _along(u: Callable[[Array], Array], axis: int) -> Callable[[Array], Array]:
    def derived(x: Array) -> Array:
        unit = jnp.zeros_like(x).at[axis].set(1)
        return jax.jvp(u, (x,), (unit,))[1]

    return derived


def laplacian(u: Callable[[Array], Array], x: Array, axes: tuple[int, ...] | None = None) -> Array:
    """Sum of the second derivatives along some axes, all by default.

    Example:
        >>> float(laplacian(lambda x: x[0] ** 2 + 3 * x[1] ** 2, jnp.array([1.0, 1.0])))
        8.0
    """
    axes = tuple(range(len(x))) if axes is None else axes
    return sum(
        (derivative(u, x, axis, axis) for axis in axes[1:]), derivative(u, x, axes[0], axes[0])
    )
