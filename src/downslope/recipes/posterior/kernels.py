"""Updates of the samplers in scaled coordinates, by the integrators of blackjax."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope import UsageError
from downslope.recipes.posterior.tuning import FRICTION, MOST_STEP

EXPLORATION = 0.5  # share of a cycle that descends without noise, with the longer steps
LONGER = 5.0  # steps at the start of a cycle, over those of its end


class Walker(NamedTuple):
    """Coordinates and momentum of a chain."""

    z: Array
    momentum: Array


def check_installed(method: str) -> None:
    """Import what a method and its diagnostics need.

    Raises:
        UsageError: it is not installed.
    """
    try:
        if method != "constant_sgd":
            importlib.import_module("blackjax")
        importlib.import_module("arviz_stats")
    except ImportError as error:
        raise UsageError(
            f"{error.name} is needed for samples of a posterior: pip install 'downslope[posterior]'"
        ) from error


Update = Callable[[Array, Walker, Array, Array], Walker]  # key, walker, gradient, share of a cycle


def make_update(method: str, step: float, variances: np.ndarray, curvature: float = 1.0) -> Update:
    """One update of a chain.

    Args:
        method: "constant_sgd", "sgld", "cyclical" or "sghmc".
        step: of the update.
        variances: of the gradient along each axis [d]. What they add to the temperature, and what
            a finite step adds where the curvature is 1, is subtracted from the injected noise.
        curvature: largest one, which bounds the longer steps of a cycle.
    """
    if method == "constant_sgd":
        return lambda key, walker, gradient, share: Walker(
            walker.z - step * gradient, walker.momentum
        )
    from blackjax.sgmcmc import diffusions

    if method == "sghmc":
        return _with_momentum(diffusions, step, variances)
    langevin: Any = diffusions.overdamped_langevin()

    def overdamped(key: Array, walker: Walker, gradient: Array, share: Array) -> Walker:
        here = step
        if method == "cyclical":
            here = jnp.minimum(step * _cycle(share), MOST_STEP / curvature)
        injected = jnp.maximum(0.0, 1 - here / 2 - here * jnp.asarray(variances) / 2)
        if method == "cyclical":
            injected = jnp.where(share < EXPLORATION, 0.0, injected)
        return Walker(langevin(key, walker.z, -gradient, here, injected), walker.momentum)

    return overdamped


def _with_momentum(diffusions: Any, h: float, variances: np.ndarray) -> Update:
    """Updates with momentum; x' = x + h p, p' = (1 - 2h) p - h g(x) + noise.

    With a curvature of 1 and noise of the variance s^2, all of it, the stationary variance of x is
    s^2 (1 - h + h^2/2) / (4h - 6h^2 + 3h^3 - h^4/2), from the moments of one update.
    """
    wanted = (4 * h - 6 * h**2 + 3 * h**3 - h**4 / 2) / (1 - h + h**2 / 2)
    injected = np.maximum(0.0, wanted - h**2 * variances)
    beta = jnp.asarray((2 * FRICTION * h - injected) / h**2, jnp.float32)
    integrate = diffusions.sghmc(FRICTION, beta)

    def update(key: Array, walker: Walker, gradient: Array, share: Array) -> Walker:
        return Walker(*integrate(key, walker.z, walker.momentum, -gradient, h))

    return update


def _cycle(share: Array) -> Array:
    """Step over that of the end of a cycle, along half a cosine.

    Source: Zhang, Li, Zhang, Chen and Wilson (2020), Cyclical stochastic gradient MCMC.
    """
    return 1 + (LONGER - 1) * (1 + jnp.cos(jnp.pi * share)) / 2


@jax.jit
def first_walker(z: Array, key: Array) -> Walker:
    """A chain at rest in its coordinates, with momentum of the temperature 1."""
    return Walker(z, jax.random.normal(key, z.shape, z.dtype))
