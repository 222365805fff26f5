"""Largest learning rate for a given curvature: on a quadratic, and under mini-batch noise.

The bounds of the noise-free iteration are exact for each kind of momentum. Mini-batches lower them:
rows that disagree about the curvature multiply the error by a random matrix at every step. Above
that bound the mean square of the error grows, carried by rare large excursions; the median run can
still shrink.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import number
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import Floats, array
from downslope.noise.statistics.intervals import (
    as_estimate,
    jackknife_error,
    log_interval,
    monotone,
)
from downslope.noise.temperature.dynamics import (
    MomentumKind,
    Sampling,
    checked_kind,
    population_factor,
)

NOT_CURVED = "the loss does not curve up"
EDGE = (0.9, 1.2)  # ratios called the edge of stability while the loss falls; assumed
ROUNDING = 1e-12
RATE_UNIT = "parameter^2 / loss"


@dataclass(frozen=True, kw_only=True)
class StabilityRatio:
    """Ratio of a learning rate to the largest stable one, and the regime that follows.

    Attributes:
        ratio: s = eta / eta_max; above 1 the sharpest direction grows on a quadratic.
        largest_stable_rate: eta_max for this momentum.
        regime: what the error along the sharpest direction does: it "decays monotonically",
            "oscillates and decays", "neither decays nor grows" (at the bound) or "diverges"; "no
            limit" where the loss does not curve up.
        at_edge: edge of stability: .9 < s < 1.2 while the loss fell. Nets trained with the full
            batch stay there: not a failure.
    """

    ratio: Estimate
    largest_stable_rate: Estimate
    regime: str
    at_edge: bool


def rate_limit(momentum: float = 0.0, momentum_kind: MomentumKind | None = None) -> float:
    """The largest stable value of learning rate times curvature.

    2 for gradient descent, 2 (1 + beta) for heavy ball, 2 (1 + beta) / (1 - beta) for EMA
    momentum (and Adam with a frozen preconditioner P, the curvature then being that of P^-1 H),
    2 (1 + beta) / (1 + 2 beta) for Nesterov.

    Example:
        >>> round(rate_limit(0.9, "ema"), 9)  # Adam: 38 / learning_rate bounds the curvature
        38.0

    Source: Polyak 1964; for Adam Cohen, Ghorbani et al. 2022.
    """
    kind = checked_kind(momentum, momentum_kind)
    if kind == "nesterov":
        return 2 * (1 + momentum) / (1 + 2 * momentum)
    return 2 * (1 + momentum) / (1 - momentum if kind == "ema" else 1)


def stability_ratio(
    lambda_max: float | Estimate,
    learning_rate: float,
    *,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
    losses: ArrayLike | None = None,
) -> StabilityRatio:
    """Learning rate over the largest stable one, s = eta / eta_max, with the regime in words.

    Along the sharpest direction the error of gradient descent multiplies by 1 - eta lambda: it
    shrinks with one sign up to eta lambda = 1, changes sign and shrinks up to 2, and grows beyond.
    With momentum the same three come from the roots of its two-step recursion.

    Args:
        lambda_max: largest curvature; of P^-1 H for Adam.
        learning_rate: eta > 0.
        momentum: beta, 0 or more and below 1.
        momentum_kind: needed unless momentum is 0; "ema" for Adam's beta_1.
        losses: [K >= 4] losses of the last window, in order: for the edge of stability, the
            median of its second half is compared with that of its first.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> found = stability_ratio(30.0, 0.05)
        >>> print(found.ratio, found.regime)
        0.75 oscillates and decays
        >>> stability_ratio(41.0, 0.05, losses=[1.0, 1.2, 0.8, 0.9]).at_edge
        True

    Source: Cohen, Kaur et al. 2021.
    """
    number("learning_rate", learning_rate, above=0)
    limit = rate_limit(momentum, momentum_kind)
    curvature = as_estimate(lambda_max, unit="loss / parameter^2")
    ratio = curvature.scaled(learning_rate / limit, unit="")
    if curvature.value is None:
        regime = f"unknown: {curvature.reason}"
        largest = not_estimable(str(curvature.reason), unit=RATE_UNIT)
    elif curvature.value <= 0:
        regime, largest = f"no limit: {NOT_CURVED}", not_estimable(NOT_CURVED, unit=RATE_UNIT)
    else:
        regime = _regime(learning_rate * curvature.value, momentum, momentum_kind)
        # an interval that reaches 0 leaves the inverse without one
        known = curvature if (curvature.lo or 0) > 0 else replace(curvature, lo=None, hi=None)
        largest = monotone(known, lambda c: limit / c, unit=RATE_UNIT, falling=True)
    if ratio.lo is not None and ratio.hi is not None and ratio.lo < 1 < ratio.hi:
        ratio = ratio.flagged("the interval includes 1: stability is undecided")
    at_edge = ratio.value is not None and EDGE[0] < ratio.value < EDGE[1] and _fell(losses)
    return StabilityRatio(ratio=ratio, largest_stable_rate=largest, regime=regime, at_edge=at_edge)


def _regime(
    rate_times_curvature: float, momentum: float, momentum_kind: MomentumKind | None
) -> str:
    """Regime from the roots of theta_(t+1) = a theta_t + b theta_(t-1) along one curvature."""
    kind = checked_kind(momentum, momentum_kind)
    x = rate_times_curvature * (1 - momentum if kind == "ema" else 1.0)
    a, b = 1 + momentum - x, -momentum
    if kind == "nesterov":
        a, b = (1 + momentum) * (1 - x), -momentum * (1 - x)
    root = cmath.sqrt(a * a + 4 * b)
    roots = ((a + root) / 2, (a - root) / 2)
    growth = max(abs(each) for each in roots)  # of the error, per step in the long run
    if growth > 1 + ROUNDING:
        return "diverges"
    if growth > 1 - ROUNDING:
        return "neither decays nor grows"
    one_sign = all(abs(each.imag) < ROUNDING and each.real > -ROUNDING for each in roots)
    return "decays monotonically" if one_sign else "oscillates and decays"


def _fell(losses: ArrayLike | None) -> bool:
    if losses is None:
        return False
    window = array("losses", losses, 1)
    if len(window) < 4:
        raise UsageError(f"losses must hold at least 4 values; got {len(window)}")
    if not np.isfinite(window).all():
        return False
    half = len(window) // 2
    return bool(np.median(window[-half:]) < np.median(window[:half]))


def necessary_limit(
    curvatures: ArrayLike,
    batch_size: int,
    *,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
) -> Estimate:
    """Upper bound on learning rates that keep the mean square of plain SGD's error from growing.

    min over directions u of 2a / (a^2 + f Var_i(u' H_i u)), a = u' H u; f Var is S^2 (1/B - 1/N)
    for reshuffled epochs, S^2 / B for streams, S^2 the sample variance. One side only: stability
    below it is not promised.

    Args:
        curvatures: u' H_i u, [n >= 3 rows, k directions]
            (`downslope.noise.curvature.directional_curvatures`), u the top eigenvectors of H.
        batch_size: B.
        num_rows: N, for reshuffled epochs and for drawing with replacement.
        sampling: how mini-batches are drawn.

    Returns:
        The limit of the binding direction, with a delete-one jackknife interval on the log scale;
        exact where the sample is the whole data set.

    Raises:
        UsageError: shapes or sizes that do not fit.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 1))
        >>> print(necessary_limit(x**2, 4))  # 2 / (1 + 2/4) for Gaussian inputs
        1.355 (1.289 to 1.424) parameter^2 / loss

    Source: Rayleigh quotient at u u' of the operator in Mulayoff and Michaeli 2024.
    """
    values = array("curvatures", curvatures, 2)
    num, factor = len(values), population_factor(batch_size, num_rows, sampling) / batch_size
    if sampling != "streaming" and num_rows is not None:
        factor = factor * (num_rows - 1) / num_rows  # the variance of N rows from S^2
    if num_rows is not None and num > num_rows:
        raise UsageError(f"curvatures must have at most num_rows ({num_rows}) rows; got {num}")
    if values.shape[1] == 0:
        raise UsageError("curvatures must have at least one direction; got none")
    if num < 3:
        return not_estimable("fewer than 3 rows", unit=RATE_UNIT, num_examples=num)
    if not np.isfinite(values).all():
        return not_estimable("a curvature is not finite", unit=RATE_UNIT, num_examples=num)
    mean, variance = values.mean(axis=0), values.var(axis=0, ddof=1)
    rising = mean > 0
    if not rising.any():
        return not_estimable("no direction curves up", unit=RATE_UNIT, num_examples=num)
    flags = ("above it: rare large excursions, not steady divergence",)
    if not rising.all():
        flags += (f"{int((~rising).sum())} directions that curve down were left out",)
    limits = np.full(len(mean), math.inf)
    limits[rising] = 2 * mean[rising] / (mean[rising] ** 2 + factor * variance[rising])
    best = int(np.argmin(limits))
    limit = float(limits[best])
    method = f"necessary bound, binding direction {best + 1} of {values.shape[1]}"
    if num == num_rows:
        lo = hi = limit
        method += "; every row was used"
    else:
        lo, hi = _interval(values[:, best], factor, limit)
        method += "; delete-one jackknife on the log scale"
    return Estimate(
        value=limit, lo=lo, hi=hi, unit=RATE_UNIT, num_examples=num, method=method, flags=flags
    )


def _interval(row: Floats, factor: float, limit: float) -> tuple[float | None, float | None]:
    num, mean = len(row), row.mean()
    deviation = row - mean
    means = mean - deviation / (num - 1)
    scatter = deviation @ deviation - deviation**2 * num / (num - 1)
    left_out = 2 * means / (means**2 + factor * scatter / (num - 2))
    if (left_out <= 0).any() or not np.isfinite(left_out).all():
        return None, None
    return log_interval(limit, jackknife_error(np.log(left_out)), num - 1)
