"""Coordinates in which a posterior is nearly round, from the curvature at its mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope.noise.curvature import extreme_eigenvalues, hessian_product
from downslope.recipes.posterior.density import ROWS_AT_ONCE, Density

Scaling = Literal["full", "diagonal", "isotropic"]
MOST_FULL = 512  # parameters, up to which the Hessian is inverted
CURVATURE_ROWS = 4096
HESSIAN_WORK = 30_000_000  # rows times parameters of a Hessian: all rows where that is enough
GRADIENT_NUMBERS = 1 << 24  # of single rows' gradients in memory
LEAST_CURVATURE = 1e-6  # of the largest


@dataclass(frozen=True)
class Scales:
    """Coordinates z with theta = center + factor z, in which the Laplace approximation is N(0, 1).

    Attributes:
        center: the mode [d].
        factor: [d, d], or its diagonal [d].
    """

    center: Array
    factor: Array

    def theta(self, z: Array) -> Array:
        """Parameters of coordinates [d]."""
        moved = self.factor @ z if self.factor.ndim == 2 else self.factor * z
        return self.center + moved

    def pulled_back(self, gradient: Any) -> Any:
        """Gradients by z from gradients by theta, [d] or [n, d]."""
        return gradient @ self.factor if self.factor.ndim == 2 else gradient * self.factor

    def rotated(self, basis: np.ndarray) -> Scales:
        """The same with orthonormal columns [d, d] as the new axes of z."""
        return Scales(self.center, self.factor @ jnp.asarray(basis, self.factor.dtype))


def laplace(
    density: Density, center: Array, scaling: Scaling, temperature: float, seed: int
) -> Scales:
    """Scales of the Laplace approximation at the mode, times the root of the temperature.

    "full" inverts the Hessian, "diagonal" the mean squares of single rows' gradients (the
    empirical Fisher information), "isotropic" their mean; the prior's precision is added.
    """
    rng = np.random.default_rng(seed)
    if scaling == "full":
        count = min(density.num_rows, max(CURVATURE_ROWS, HESSIAN_WORK // density.dim))
        places = rng.choice(density.num_rows, count, replace=False)
        matrix = density.num_rows / count * _hessian(density, center, places)
        values, vectors = np.linalg.eigh(matrix + density.precision * np.eye(density.dim))
        values = _bounded(values, density.precision)
        return Scales(center, jnp.asarray(np.sqrt(temperature / values) * vectors, center.dtype))
    count = min(density.num_rows, CURVATURE_ROWS, max(8, GRADIENT_NUMBERS // density.dim))
    places = rng.choice(density.num_rows, count, replace=False)
    g = density.example_gradients(center, places, jax.random.key(seed))
    curvature = density.num_rows * np.square(g, dtype=np.float64).mean(0) + density.precision
    if scaling == "isotropic":
        curvature = np.full(density.dim, curvature.mean())
    curvature = _bounded(curvature, density.precision)
    return Scales(center, jnp.asarray(np.sqrt(temperature / curvature), center.dtype))


def steepest(density: Density, scales: Scales, temperature: float, seed: int) -> float:
    """Largest curvature of minus the log density at the center, in scaled coordinates."""
    count = min(density.num_rows, CURVATURE_ROWS)
    rows = density.take(np.random.default_rng(seed).choice(density.num_rows, count, replace=False))
    share, key = density.num_rows / count, jax.random.key(seed)

    def energy(z: Array) -> Array:
        theta = scales.theta(z)
        likelihood = share * density.losses(theta, rows, key).sum()
        return (likelihood + density.precision * jnp.square(theta).sum() / 2) / temperature

    product = hessian_product(energy, jnp.zeros(density.dim, scales.center.dtype))
    found = extreme_eigenvalues(product, density.dim, unit="", key=seed).lambda_max
    return max(1.0, found.value or 1.0)


def _hessian(density: Density, theta: Array, places: np.ndarray) -> np.ndarray:
    """Hessian of the loss, summed over the rows at these places."""
    key = jax.random.key(0)

    @jax.jit
    def columns(units: Array, rows: Any) -> Array:
        gradient = jax.grad(lambda t: density.losses(t, rows, key).sum())
        return jax.lax.map(lambda u: jax.jvp(gradient, (theta,), (u,))[1], units, batch_size=16)

    units, found = jnp.eye(density.dim, dtype=theta.dtype), np.zeros((density.dim, density.dim))
    for first in range(0, len(places), ROWS_AT_ONCE):
        found += np.asarray(columns(units, density.take(places[first : first + ROWS_AT_ONCE])))
    return (found + found.T) / 2


def _bounded(curvature: np.ndarray, precision: float) -> np.ndarray:
    """Curvatures no smaller than the prior's, or a millionth of the largest."""
    return np.maximum(curvature, max(precision, LEAST_CURVATURE * curvature.max()))
