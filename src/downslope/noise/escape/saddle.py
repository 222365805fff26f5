"""How long SGD stays at a saddle point, and when noise cannot free it at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.ranges import as_measurement, count, not_negative, positive
from downslope.noise.temperature.dynamics import Sampling, population_factor

EULER = 0.5772156649015329
FAR = 12.0  # beyond it Dawson's integral is taken from its expansion, to 1e-9
LARGE_STEP = 0.1  # learning rate * curvature; assumed: beyond it continuous time is rough
STUCK = "stuck exactly: no noise along the direction down"
FREE = "strict saddle: noise frees it in about the steps predicted"
OPEN = "open: the interval of lambda_min holds 0"
NONE = "no saddle: no direction curves down"


@dataclass(frozen=True, kw_only=True)
class SaddleEscape:
    """Whether a point is a strict saddle, and the steps that SGD spends at it.

    Attributes:
        verdict: in words; "stuck exactly" where the noise along the direction down is 0.
        steps: mean steps until the distance is reached, by the exact integral.
        steps_sd: standard deviation of the steps between runs.
        noise_free_steps: steps without noise from the offset given; None without one.
        lambda_min: least curvature.
        noise_variance: u' Sigma u along its eigenvector.
    """

    verdict: str
    steps: Estimate
    steps_sd: float | None
    noise_free_steps: float | None
    lambda_min: Estimate
    noise_variance: Estimate


def saddle_steps(
    curvature: float, noise_variance: float, distance: float, *, learning_rate: float
) -> float:
    """Mean steps from the saddle to a distance far beyond the noise.

    (ln(2 lambda rho^2 / D) + 0.5772) / (2 eta lambda) with D = eta c / 2: noise helps only
    logarithmically.

    Args:
        curvature: lambda > 0, the size of the negative curvature.
        noise_variance: c, variance of the mini-batch gradient along the direction
            (u' Sigma u phi / B).
        distance: rho, where the quadratic ends. The formula needs rho^2 >> D / lambda.
        learning_rate: eta > 0; with momentum take eta / (1 - beta), while eta lambda is small.

    Example:
        >>> round(saddle_steps(1.0, 0.02, 1.0, learning_rate=0.01), 1)
        524.0

    Source: Ornstein-Uhlenbeck process on an inverted parabola; Daneshmand et al. 2018 for SGD.
    """
    _check(curvature, noise_variance, distance, learning_rate)
    reach = 2 * curvature * distance**2 / (learning_rate * noise_variance / 2)
    return (math.log(reach) + EULER) / (2 * learning_rate * curvature)


def saddle_steps_exact(
    curvature: float, noise_variance: float, distance: float, *, learning_rate: float
) -> float:
    """Mean steps from the saddle to any distance, in continuous time.

    (1/(eta D)) int_0^rho exp(-lambda y^2/2D) int_0^y exp(lambda z^2/2D) dz dy, which is
    (2/(eta lambda)) times Dawson's function integrated up to rho sqrt(lambda / 2D).

    Args:
        curvature, noise_variance, distance, learning_rate: as in `saddle_steps`.

    Example:
        >>> round(saddle_steps_exact(1.0, 0.02, 1.0, learning_rate=0.01), 1)
        524.0
        >>> round(saddle_steps_exact(1.0, 2.0, 0.05, learning_rate=0.01), 1)
        12.0
    """
    _check(curvature, noise_variance, distance, learning_rate)
    spread = learning_rate * noise_variance / 2
    end = distance * math.sqrt(curvature / (2 * spread))
    if end < FAR:
        from scipy import integrate  # slow to import, rarely needed

        area = integrate.quad(special.dawsn, 0, end, epsabs=0, epsrel=1e-11, limit=200)[0]
    else:
        area = (math.log(2 * end) + EULER / 2) / 2 - 1 / (8 * end**2)
        area -= 3 / (32 * end**4) + 15 / (96 * end**6)
    return 2 * area / (learning_rate * curvature)


def saddle_steps_sd(curvature: float, *, learning_rate: float) -> float:
    """Standard deviation of the steps between runs: pi / (2 sqrt(2) eta lambda).

    Example:
        >>> round(saddle_steps_sd(1.0, learning_rate=0.01), 5)
        111.07207
    """
    rate = positive("learning_rate", learning_rate) * positive("curvature", curvature)
    return math.pi / (2 * math.sqrt(2) * rate)


def noise_free_steps(
    curvature: float, offset: float, distance: float, *, learning_rate: float
) -> float:
    """Steps of gradient descent from an offset to a distance: ln(rho/y0) / ln(1 + eta lambda).

    Infinite from offset 0; 0 from beyond the distance.

    Example:
        >>> round(noise_free_steps(1.0, 1e-6, 1.0, learning_rate=0.01), 1)
        1388.4
    """
    rate = positive("learning_rate", learning_rate) * positive("curvature", curvature)
    start, end = not_negative("offset", offset), positive("distance", distance)
    if start == 0:
        return math.inf
    return max(0.0, math.log(end / start)) / math.log1p(rate)


def saddle_variance(
    curvature: float, noise_variance: float, num_steps: int, *, learning_rate: float
) -> float:
    """Variance of the position along the direction after k steps from the saddle itself.

    eta^2 c (G^(2k) - 1)/(G^2 - 1), G = 1 + eta lambda: exact for steps of any size.

    Example:
        >>> round(saddle_variance(1.0, 1.0, 100, learning_rate=0.01), 6)
        0.031423
    """
    rate, steps = positive("learning_rate", learning_rate), count("num_steps", num_steps, 0)
    growth = 2 * math.log1p(rate * positive("curvature", curvature))
    noise = rate**2 * not_negative("noise_variance", noise_variance)
    if steps * growth > 700:
        return math.inf if noise > 0 else 0.0
    return noise * math.expm1(steps * growth) / math.expm1(growth)


def saddle_escape(
    lambda_min: float | Estimate,
    noise_variance: float | Estimate,
    *,
    learning_rate: float,
    batch_size: int,
    distance: float,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
    offset: float = 0.0,
    gradient_square: Estimate | None = None,
) -> SaddleEscape:
    """Verdict on a suspected saddle and the steps it will hold SGD.

    Noise along the direction down is not certain: for f = sum (u v x_i - y_i)^2 / 2 at u = v = 0
    every per-example gradient is 0, and SGD from there never moves.

    Args:
        lambda_min: least eigenvalue of the Hessian (`spectrum.extreme_eigenvalues`).
        noise_variance: u' Sigma u, variance of per-example gradients along its eigenvector.
        learning_rate: eta > 0; with momentum eta / (1 - beta), while eta |lambda| is small.
        batch_size, num_rows, sampling: for the variance of the mini-batch, c = u' Sigma u phi/B.
        distance: rho, how far from the saddle counts as free.
        offset: distance from the saddle at the start along the direction, for the noise-free run.
        gradient_square: |G|^2; flagged where it is told from 0.

    Returns:
        The verdict; the steps with an interval from those of lambda_min and noise_variance, each
        at its worse end.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> told = saddle_escape(-1.0, 0.2, learning_rate=0.01, batch_size=10, distance=1.0)
        >>> print(told.steps, "-", told.verdict)
        524 steps - strict saddle: noise frees it in about the steps predicted
        >>> saddle_escape(-1.0, 0.0, learning_rate=0.01, batch_size=10, distance=1.0).verdict
        'stuck exactly: no noise along the direction down'

    Source: Jin et al. 2017; Daneshmand et al. 2018.
    """
    positive("learning_rate", learning_rate)
    positive("distance", distance)
    not_negative("offset", offset)
    share = population_factor(batch_size, num_rows, sampling) / batch_size
    curvature = as_measurement(lambda_min, unit="loss / parameter^2")
    noise = as_measurement(noise_variance, unit="(loss / parameter)^2")
    if noise.value is not None and noise.value < 0:
        raise UsageError(f"noise_variance must be 0 or more; got {noise.value}")
    reason = _why_not(curvature, noise, share)
    sd = free = None
    if curvature.value is not None and curvature.value < 0:
        sd = saddle_steps_sd(-curvature.value, learning_rate=learning_rate)
        if offset > 0:
            free = noise_free_steps(-curvature.value, offset, distance, learning_rate=learning_rate)
    if reason:
        sd = None
        steps = not_estimable(reason, unit="steps")
    else:

        def exact(value: float, variance: float) -> float:
            return saddle_steps_exact(
                -value, variance * share, distance, learning_rate=learning_rate
            )

        steps = _steps(curvature, noise, exact, learning_rate)
        if gradient_square is not None and (gradient_square.lo or 0) > 0:
            steps = steps.flagged("the gradient is not 0: it may leave before the noise acts")
    verdict = reason or FREE
    if reason == STUCK and offset > 0:
        verdict += "; it leaves by its offset alone"
    return SaddleEscape(
        verdict=verdict, steps=steps, steps_sd=sd, noise_free_steps=free, lambda_min=curvature,
        noise_variance=noise,
    )  # fmt: skip


def _why_not(curvature: Estimate, noise: Estimate, share: float) -> str:
    if curvature.value is None:
        return f"lambda_min: {curvature.reason}"
    if curvature.hi is not None and curvature.value < 0 <= curvature.hi:
        return OPEN
    if curvature.value >= 0:
        return NONE
    if noise.value is None:
        return f"noise_variance: {noise.reason}"
    return STUCK if noise.value * share == 0 else ""


def _steps(
    curvature: Estimate,
    noise: Estimate,
    exact: Callable[[float, float], float],
    learning_rate: float,
) -> Estimate:
    """Mean steps with the interval spanned by the ends of both: they fall with either's size."""
    assert curvature.value is not None and noise.value is not None
    ends = (curvature.lo, curvature.hi, noise.lo, noise.hi)
    lo = hi = None
    if any(end is not None for end in ends):
        low, high = (curvature.value if x is None else x for x in (curvature.lo, curvature.hi))
        least, most = (noise.value if x is None else x for x in (noise.lo, noise.hi))
        if least > 0:
            lo, hi = exact(low, most), exact(high, least)
    flags: tuple[str, ...] = ()
    if learning_rate * -curvature.value > LARGE_STEP:
        flags += ("learning rate * curvature is not small: continuous time is rough here",)
    return Estimate(
        value=exact(curvature.value, noise.value), lo=lo, hi=hi, unit="steps", flags=flags,
        method="exact integral for constant noise along the direction, in continuous time",
    )  # fmt: skip


def _check(curvature: float, noise_variance: float, distance: float, rate: float) -> None:
    positive("curvature", curvature)
    positive("noise_variance", noise_variance)
    positive("distance", distance)
    positive("learning_rate", rate)
