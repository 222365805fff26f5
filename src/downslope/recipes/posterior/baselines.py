"""Baselines of a posterior: a Gaussian of the iterates (SWAG), and models of several seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope import UsageError
from downslope.arguments import number, whole
from downslope.recipes.posterior.density import Density
from downslope.recipes.posterior.result import Posterior
from downslope.recipes.posterior.sampling import find_mode, sample
from downslope.recipes.posterior.scales import Scaling

RANK = 20  # latest deviations that SWAG keeps


def swag(
    loss: Callable[..., Any],
    model: Any,
    data: Any,
    *,
    prior_scale: float = 1.0,
    temperature: float = 1.0,
    num_samples: int = 1000,
    num_chains: int = 4,
    scaling: Scaling | None = None,
    trains: bool = True,
    seconds: float | None = None,
    seed: int = 0,
) -> Posterior:
    """Samples of a Gaussian fitted to the iterates of constant-step SGD.

    Its covariance is half the diagonal of theirs and half of a low rank from the latest 20 of each
    chain. All arguments are those of `sample`.

    Source: Maddox, Garipov, Izmailov, Vetrov and Wilson (2019), A simple baseline for Bayesian
    uncertainty in deep learning.
    """
    found = sample(
        loss, model, data, method="constant_sgd", prior_scale=prior_scale, temperature=temperature,
        num_samples=num_samples, num_chains=num_chains, scaling=scaling, trains=trains,
        seconds=seconds, seed=seed,
    )  # fmt: skip
    unravel = ravel_pytree(jax.tree.map(lambda a: a[0, 0], found.samples))[1]
    flat = np.asarray(jax.vmap(jax.vmap(lambda m: ravel_pytree(m)[0]))(found.samples))
    _, draws, dim = flat.shape
    rng = np.random.default_rng(seed)
    drawn = []
    for chain in flat:
        mean, rank = chain.mean(0), min(RANK, draws)
        deviations = chain[-rank:] - mean
        wide = rng.standard_normal((draws, dim)) * chain.std(0)
        low = rng.standard_normal((draws, rank)) @ deviations / math.sqrt(max(1, rank - 1))
        drawn.append(mean + (wide + low) / math.sqrt(2))
    theta = np.stack(drawn).astype(np.float32)
    samples = jax.tree.map(np.asarray, jax.vmap(jax.vmap(unravel))(jnp.asarray(theta)))
    return dataclasses.replace(
        found, samples=samples, method="swag", noise_share=None, direction_variances=None
    )


def ensemble(
    loss: Callable[..., Any], model: Callable[[int], Any], data: Any, *, prior_scale: float = 1.0,
    num_members: int = 5, seconds: float | None = None, seed: int = 0,
) -> Posterior:  # fmt: skip
    """Modes that training finds from several first parameters: no samples of a posterior.

    Args:
        loss, data, prior_scale: as for `sample`.
        model: `model(seed)`, first parameters.
        num_members: models.
        seconds: of all trainings; each ends by its own convergence without.

    Raises:
        UsageError: a model that is not a function of a seed.

    Source: Lakshminarayanan, Pritzel and Blundell (2017), Simple and scalable predictive
    uncertainty estimation using deep ensembles.
    """
    if not callable(model):
        raise UsageError("model must be a function of a seed, for members that differ")
    whole("num_members", num_members)
    density = Density(loss, model(seed), data, prior_scale)
    each = None if seconds is None else number("seconds", seconds, above=0) / num_members
    seeds = np.random.SeedSequence(seed).generate_state(num_members)
    members = [find_mode(density, model(int(own)), int(own), each) for own in seeds]
    samples = jax.tree.map(lambda *leaves: np.stack(leaves)[:, None], *members)
    return Posterior(samples=samples, method="ensemble")
