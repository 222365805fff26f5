"""Step, batch and burn-in of a sampler, from the noise of the gradients in its coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from downslope.choose import Decision, policy
from downslope.estimate import Estimate, t_quantile
from downslope.recipes.posterior.density import Density
from downslope.recipes.posterior.scales import GRADIENT_NUMBERS, Scales

CORRECTED = (
    0.2  # of the temperature that a step's known errors may have, before correction; assumed
)
OVERHEAD = 64  # examples whose gradients cost as much as the rest of an update; assumed
POINTS = 4  # drawn from the Laplace approximation, where noise is measured
MOST_ROWS = 2048  # single gradients at each
FRICTION = 2.0  # critical damping of a unit curvature
LONGEST_STEP = 0.3  # of a sampler with momentum; its error is of second order
SGD_STEP, MOST_STEP = 0.2, 1.0  # of SGD: aimed at, and half the edge of stability


@dataclass(frozen=True)
class Noise:
    """Variance of the gradient of minus the log posterior from a single row, in scaled coordinates.

    Attributes:
        variances: along each axis [d], for batches of one row drawn with replacement.
        total: their sum, with its interval.
        basis: axes [d, d] along which the noise is uncorrelated; None where the axes are kept.
    """

    variances: np.ndarray
    total: Estimate
    basis: np.ndarray | None = None

    @property
    def mean(self) -> float:
        """Mean over the axes."""
        return float(self.variances.mean())

    @property
    def most(self) -> float:
        """Largest along an axis."""
        return float(self.variances.max())


def measure_noise(
    density: Density, scales: Scales, *, has_control: bool, temperature: float, seed: int
) -> Noise:
    """Noise of single rows' gradients at points of the Laplace approximation.

    Args:
        has_control: the gradient at the center is subtracted.
        temperature: by which the log posterior is divided.
    """
    rng = np.random.default_rng(seed)
    count = min(density.num_rows, MOST_ROWS, max(8, GRADIENT_NUMBERS // density.dim))
    places, key = rng.choice(density.num_rows, count, replace=False), jax.random.key(seed)
    at_center = density.example_gradients(scales.center, places, key) if has_control else 0.0
    parts = []
    for _ in range(POINTS if has_control else 1):
        z = rng.standard_normal(density.dim) if has_control else np.zeros(density.dim)
        theta = scales.theta(jnp.asarray(z, jnp.float32))
        g = density.example_gradients(theta, places, key) - at_center
        g = np.asarray(scales.pulled_back(g), np.float64) * density.num_rows / temperature
        parts.append(g - g.mean(0))
    squares = np.stack([np.square(g).sum(1) for g in parts])
    freedom = max(1, count - 1)
    each = squares.mean(0) * count / freedom
    value = float(each.mean())
    half = None
    if count > 1:
        error = float(each.std(ddof=1)) / math.sqrt(count)
        if has_control:
            between = float(squares.mean(1).std(ddof=1)) / math.sqrt(len(parts))
            error = math.hypot(error, between)
        half = t_quantile(freedom) * error
    total = Estimate(
        value=value, lo=None if half is None else max(0.0, value - half),
        hi=None if half is None else value + half, unit="", num_examples=count,
        method="gradients of single rows at points of the Laplace approximation",
    )  # fmt: skip
    if scales.factor.ndim == 1:
        return Noise(np.square(parts).sum((0, 1)) / (freedom * len(parts)), total)
    stacked = np.concatenate(parts)
    matrix = stacked.T @ stacked / (freedom * len(parts))
    variances, basis = np.linalg.eigh(matrix)
    return Noise(np.maximum(variances, 0.0), total, basis)


@policy
def choose_batch(*, method: str, most_noise: float, mean_noise: float, num_rows: int) -> Decision:
    """Batch size at which a sampler needs the fewest examples.

    Relaxation takes 1/s updates, with a step s in proportion to 1/(1 + v/B) for a noise of v/B, and
    an update costs B examples and an overhead of o: (B + o)(1 + v/B) is least at B = sqrt(o v).
    Constant-step SGD takes the same number of examples at any size; the largest one at which its
    step is a fifth is taken.

    Args:
        method: as for `choose_step`.
        most_noise, mean_noise: v, variance of the gradient from one row, along the noisiest axis
            and on average, in coordinates in which the posterior has a curvature of 1.
        num_rows: N; no batch is larger.

    Example:
        >>> print(choose_batch(method="sgld", most_noise=900, mean_noise=500, num_rows=10_000))
        batch_size auto -> 256: with a noise of 900 for one row and an overhead of 64 examples an
        update, (B + 64)(1 + 900/B) is least at 240
    """
    if method == "constant_sgd":
        best = mean_noise / (2 / SGD_STEP - 1)
        because = f"the largest one at which a step of {SGD_STEP:g} has the posterior's temperature"
    else:
        best = math.sqrt(OVERHEAD * max(most_noise, 1e-12))
        because = (
            f"with a noise of {most_noise:.3g} for one row and an overhead of {OVERHEAD} examples "
            f"an update, (B + {OVERHEAD})(1 + {most_noise:.3g}/B) is least at {best:.3g}"
        )
    size = int(min(num_rows, 2 ** round(math.log2(max(1.0, best)))))
    return Decision(knob="batch_size", old="auto", new=size, because=because)


@policy
def choose_step(
    *,
    method: str,
    most_noise: float,
    mean_noise: float,
    batch_size: int,
    curvature: float = 1.0,
) -> Decision:
    """Step of a sampler, by the noise of its gradients.

    In coordinates with a curvature of 1, a step s of Langevin dynamics adds s w/2 to a temperature
    of 1, where w = v/B is the variance of a gradient, and discretisation another s/2. Both are
    subtracted from what is injected, so that only their errors bias the samples; the step is the
    one at which they are a fifth: s = 0.4/(1 + w). With momentum and the friction 2, the share of
    the noise is h w/4. Constant-step SGD injects nothing: at s = 2/(1 + w) the noise itself has the
    temperature 1, on average over the axes.

    Args:
        method: "sgld", "cyclical", "sghmc" or "constant_sgd".
        most_noise, mean_noise: v along the noisiest axis, and on average over the axes.
        batch_size: B.
        curvature: largest one, where the coordinates do not make it 1.

    Example:
        >>> print(choose_step(method="sgld", most_noise=900, mean_noise=500, batch_size=256))
        step_size auto -> 0.08858: noise and discretisation add a fifth to the temperature along the
        noisiest axis, which is subtracted from what is injected

    Source: Mandt, Hoffman and Blei (2017), Stochastic gradient descent as approximate Bayesian
    inference, equation 15; Ahn, Korattikara and Welling (2012), section 3.
    """
    noise, mean = most_noise / batch_size, mean_noise / batch_size
    if method == "constant_sgd":
        step = min(2 / (1 + mean), MOST_STEP / curvature)
        because = f"the noise itself has a temperature of {step * mean / 2:.3g} of the posterior's"
    elif method == "sghmc":
        step = min(2 * FRICTION * CORRECTED / max(noise, 1e-12), LONGEST_STEP / curvature)
        because = (
            f"noise adds {step * noise / 2 / FRICTION:.2g} to the temperature along the noisiest "
            "axis, which is subtracted from what is injected"
        )
    else:
        step = 2 * CORRECTED / (curvature + noise)
        because = (
            "noise and discretisation add a fifth to the temperature along the noisiest axis, "
            "which is subtracted from what is injected"
        )
    return Decision(knob="step_size", old="auto", new=float(f"{step:.4g}"), because=because)


def relaxation(method: str, step: float) -> float:
    """Updates in which a direction of curvature 1 forgets its start by a factor of e."""
    return 2 / (FRICTION * step) if method == "sghmc" else 1 / step


def noise_share(method: str, step: float, noise: float, batch_size: int) -> float:
    """Share of the temperature that the noise of the gradients adds."""
    return step * noise / batch_size / (2 * FRICTION if method == "sghmc" else 2)
