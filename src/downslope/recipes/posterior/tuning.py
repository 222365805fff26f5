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
LONGEST_STEP = 0.15  # of a sampler with momentum
UNCORRECTED = 0.05  # relative error of a variance where the curvature is not 1; assumed
# Steps of the sampling half of a cycle over those of its end, at most and on average (`kernels`).
CYCLE_MOST, CYCLE_MEAN = 3.0, 1.73
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
    drawn = (density.num_rows - 1) / density.num_rows if density.num_rows > 1 else 1.0
    scale = density.num_rows / temperature * math.sqrt(drawn)  # with replacement
    parts = []
    for _ in range(POINTS):
        theta = scales.theta(jnp.asarray(rng.standard_normal(density.dim), jnp.float32))
        g = density.example_gradients(theta, places, key) - at_center
        g = np.asarray(scales.pulled_back(g), np.float64) * scale
        parts.append(g - g.mean(0))
    freedom = max(1, count - 1)
    squares = np.stack([np.square(g).sum(1) for g in parts]) * count / freedom
    total = _total(squares)
    if scales.factor.ndim == 1:
        return Noise(np.square(parts).sum((0, 1)) / (freedom * len(parts)), total)
    # Axes from half of the rows, variances from the other half: from the same rows the largest
    # would be too large and the smallest too small.
    halves = [np.concatenate([g[begin::2] for g in parts]) for begin in (0, 1 if count > 3 else 0)]
    basis = np.linalg.eigh(halves[0].T @ halves[0])[1]
    factor = count / freedom
    return Noise(factor * np.square(halves[1] @ basis).mean(0), total, basis)


def _total(squares: np.ndarray) -> Estimate:
    """Mean of squares [points, rows], with the error of its rows and of its points."""
    value, (points, count) = float(squares.mean()), squares.shape
    half = None
    if count > 1:
        ends = [
            t_quantile(number - 1) * float(means.std(ddof=1)) / math.sqrt(number)
            for means, number in ((squares.mean(0), count), (squares.mean(1), points))
        ]
        half = math.hypot(*ends)
    return Estimate(
        value=value, lo=None if half is None else max(0.0, value - half),
        hi=None if half is None else value + half, unit="", num_examples=count,
        method="gradients of single rows at points drawn from the Laplace approximation",
    )  # fmt: skip


@policy
def choose_batch(*, method: str, most_noise: float, mean_noise: float, num_rows: int) -> Decision:
    """Batch size at which a sampler needs the fewest examples.

    Relaxation takes 1/s updates, with a step s in proportion to 1/(1 + v/B) for a noise of v/B, and
    an update costs B examples and an overhead of o: (B + o)(1 + v/B) is least at B = sqrt(o v).
    Constant-step SGD takes the same number of examples at any size; the largest one at which its
    step is a fifth is taken. With momentum the step has an upper end, and the size is one at which
    noise shortens it little.

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
    temperature 1, on average over the axes. Where the curvature is not 1 everywhere, the step is
    short enough for an uncorrected error of 5 % of a variance.

    Args:
        method: "sgld", "cyclical", "sghmc" or "constant_sgd".
        most_noise, mean_noise: v along the noisiest axis, and on average over the axes.
        batch_size: B.
        curvature: largest one, where the coordinates do not make it 1.

    Example:
        >>> print(choose_step(method="sgld", most_noise=900, mean_noise=500, batch_size=256))
        step_size auto -> 0.08858: noise and discretisation add 0.2 to the temperature along the
        noisiest axis, which is subtracted from what is injected

    Source: Mandt, Hoffman and Blei (2017), Stochastic gradient descent as approximate Bayesian
    inference, equation 15; Ahn, Korattikara and Welling (2012), section 3.
    """
    noise, mean = most_noise / batch_size, mean_noise / batch_size
    if method == "constant_sgd":
        step = min(2 / (1 + mean), MOST_STEP / curvature)
        share = noise_share(method, step, mean_noise, batch_size)
        because = f"the noise itself has a temperature of {share:.3g} of the posterior's"
    elif method == "sghmc":
        step = min(2 * FRICTION * CORRECTED / max(noise, 1e-12), LONGEST_STEP)
        if curvature > 1 + UNCORRECTED:  # and others are below 1
            step = min(step, 2 * UNCORRECTED / max(1.0, curvature - 1))
        because = (
            f"noise adds {step * noise / 2 / FRICTION:.2g} to the temperature along the noisiest "
            "axis, which is subtracted from what is injected"
        )
    else:
        step = 2 * CORRECTED / (curvature + noise)
        if curvature > 1 + UNCORRECTED:
            step = min(step, 2 * UNCORRECTED / (curvature - 1))
        because = (
            f"noise and discretisation add {step * (1 + noise) / 2:.2g} to the temperature along "
            "the noisiest axis, which is subtracted from what is injected"
        )
        if method == "cyclical":
            step /= CYCLE_MOST
            because += f", at the longest step of sampling, {CYCLE_MOST:g} times this one"
    return Decision(knob="step_size", old="auto", new=float(f"{step:.4g}"), because=because)


def relaxation(method: str, step: float) -> float:
    """Updates in which a direction of curvature 1 forgets its start by a factor of e."""
    return 2 / (FRICTION * step) if method == "sghmc" else 1 / step


def noise_share(method: str, step: float, noise: float, batch_size: int) -> float:
    """Share of the temperature that the noise of the gradients adds, where the curvature is 1."""
    added = step * noise / batch_size
    if method == "constant_sgd":
        return added / (2 - step)
    if method == "cyclical":
        added *= CYCLE_MEAN
    return added / (2 * FRICTION if method == "sghmc" else 2)
