"""Steps of SGD at a saddle point, with and without noise along the direction down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from downslope.arguments import number
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.intervals import as_estimate
from downslope.noise.temperature.dynamics import Sampling, population_factor

__all__ = ["SaddleEscape", "noise_free_steps", "saddle_escape"]

ASYMPTOTIC_FROM = 12.0  # beyond it Dawson's integral is taken from its expansion, to 1e-9
LARGE_STEP = 0.1  # learning rate * curvature; assumed: beyond it continuous time is rough


@dataclass(frozen=True, kw_only=True)
class SaddleEscape:
    """Verdict on a suspected saddle point, and the steps that SGD spends at it.

    Attributes:
        verdict: in words; "stuck" where the noise along the direction down is 0.
        steps: mean number of steps until the distance is reached.
        lambda_min: least curvature.
        noise_variance: u' Sigma u along its eigenvector.
    """

    verdict: str
    steps: Estimate
    lambda_min: Estimate
    noise_variance: Estimate


def noise_free_steps(
    curvature: float, offset: float, distance: float, *, learning_rate: float
) -> float:
    """Steps of gradient descent from an offset to a distance: ln(rho/y0) / ln(1 + eta lambda).

    Infinite from offset 0; 0 from beyond the distance.

    Args:
        curvature: lambda > 0, the size of the negative curvature.
        offset: y0 >= 0, distance from the saddle at the start.
        distance: rho > 0, how far from the saddle counts as free.
        learning_rate: eta > 0.

    Example:
        >>> round(noise_free_steps(1.0, 1e-6, 1.0, learning_rate=0.01), 1)
        1388.4
    """
    rate = number("learning_rate", learning_rate, above=0) * number("curvature", curvature, above=0)
    start, end = number("offset", offset, least=0), number("distance", distance, above=0)
    if start == 0:
        return math.inf
    return max(0.0, math.log(end / start)) / math.log1p(rate)


def saddle_escape(
    lambda_min: float | Estimate,
    noise_variance: float | Estimate,
    *,
    learning_rate: float,
    batch_size: int,
    distance: float,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
    gradient_square: Estimate | None = None,
) -> SaddleEscape:
    """Verdict on a suspected saddle, and the mean number of steps that SGD spends at it.

    The steps are those of an Ornstein-Uhlenbeck process on an inverted parabola, in continuous
    time: (1/(eta D)) int_0^rho exp(-lambda y^2/2D) int_0^y exp(lambda z^2/2D) dz dy with
    D = eta c / 2 and c = u' Sigma u phi / B. Far from the saddle they are
    (ln(2 lambda rho^2 / D) + 0.5772) / (2 eta lambda), so noise helps by a logarithm only.

    Args:
        lambda_min: least eigenvalue of the Hessian (`curvature.extreme_eigenvalues`).
        noise_variance: u' Sigma u, variance of per-example gradients along its eigenvector.
        learning_rate: eta > 0; with momentum eta / (1 - beta), while eta |lambda| is small.
        batch_size, num_rows, sampling: B, N and how batches are drawn, for phi.
        distance: rho, how far from the saddle counts as free.
        gradient_square: |G|^2; the steps are flagged where its interval lies above 0.

    Returns:
        The verdict; the steps with an interval from those of lambda_min and noise_variance, each
        at its worse end.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> found = saddle_escape(-1.0, 0.2, learning_rate=0.01, batch_size=10, distance=1.0)
        >>> print(found.steps, "-", found.verdict)
        524 steps - strict saddle: noise leaves it in about the predicted number of steps
        >>> saddle_escape(-1.0, 0.0, learning_rate=0.01, batch_size=10, distance=1.0).verdict
        'stuck: no noise along the direction down'

    Source: Jin et al. 2017; Daneshmand et al. 2018.
    """
    number("learning_rate", learning_rate, above=0)
    number("distance", distance, above=0)
    share = population_factor(batch_size, num_rows, sampling) / batch_size
    curvature = as_estimate(lambda_min, unit="loss / parameter^2")
    noise = as_estimate(noise_variance, unit="(loss / parameter)^2")
    if noise.value is not None and noise.value < 0:
        raise UsageError(f"noise_variance must be 0 or more; got {noise.value}")
    reason = _reason_for_none(curvature, noise, share)
    if reason:
        steps = not_estimable(reason, unit="steps")
    else:
        steps = _steps(curvature, noise, share, distance, learning_rate)
        if gradient_square is not None and (gradient_square.lo or 0) > 0:
            steps = steps.flagged("the gradient is not 0: it may leave before the noise acts")
    verdict = reason or "strict saddle: noise leaves it in about the predicted number of steps"
    return SaddleEscape(verdict=verdict, steps=steps, lambda_min=curvature, noise_variance=noise)


def _reason_for_none(curvature: Estimate, noise: Estimate, share: float) -> str:
    if curvature.value is None:
        return f"lambda_min: {curvature.reason}"
    if curvature.hi is not None and curvature.value < 0 <= curvature.hi:
        return "undecided: the interval of lambda_min includes 0"
    if curvature.value >= 0:
        return "no saddle: no direction curves down"
    if noise.value is None:
        return f"noise_variance: {noise.reason}"
    return "stuck: no noise along the direction down" if noise.value * share == 0 else ""


def _steps(
    curvature: Estimate, noise: Estimate, share: float, distance: float, learning_rate: float
) -> Estimate:
    """Mean steps with the interval spanned by the ends of both: they fall with either's size."""

    def mean(curvature: float, variance: float) -> float:
        return _mean_steps(-curvature, variance * share, distance, learning_rate)

    assert curvature.value is not None and noise.value is not None
    lo = hi = None
    if any(end is not None for end in (curvature.lo, curvature.hi, noise.lo, noise.hi)):
        low, high = (curvature.value if x is None else x for x in (curvature.lo, curvature.hi))
        least, most = (noise.value if x is None else x for x in (noise.lo, noise.hi))
        if least > 0:
            lo, hi = mean(low, most), mean(high, least)
    flags = ()
    if learning_rate * -curvature.value > LARGE_STEP:
        flags = ("learning rate * curvature is not small: continuous time is rough here",)
    return Estimate(
        value=mean(curvature.value, noise.value), lo=lo, hi=hi, unit="steps", flags=flags,
        method="exact integral for constant noise along the direction, in continuous time",
    )  # fmt: skip


def _mean_steps(curvature: float, variance: float, distance: float, learning_rate: float) -> float:
    """The double integral: 2/(eta lambda) times Dawson's function up to rho sqrt(lambda / 2D)."""
    spread = learning_rate * variance / 2
    end = distance * math.sqrt(curvature / (2 * spread))
    if end < ASYMPTOTIC_FROM:
        from scipy import integrate  # slow to import, rarely needed

        area = integrate.quad(special.dawsn, 0, end, epsabs=0, epsrel=1e-11, limit=200)[0]
    else:
        area = (math.log(2 * end) + np.euler_gamma / 2) / 2 - 1 / (8 * end**2)
        area -= 3 / (32 * end**4) + 15 / (96 * end**6)
    return 2 * area / (learning_rate * curvature)
