"""Largest stable learning rate for a given curvature, and the ratio of a rate to it.

Bounds of the noise-free iteration on a quadratic, exact for each kind of momentum. Mini-batches
lower them: `downslope.noise.curvature.mean_square`.
"""

from __future__ import annotations

import cmath
import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import number
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import array
from downslope.noise.statistics.intervals import as_estimate
from downslope.noise.temperature.dynamics import MomentumKind, checked_kind, recursion

MONOTONE = "decays monotonically"
OSCILLATES = "oscillates and decays"
AT_THE_BOUND = "neither decays nor grows"
DIVERGES = "diverges"
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
        largest = _inverse(curvature, limit)
    if ratio.lo is not None and ratio.hi is not None and ratio.lo < 1 < ratio.hi:
        ratio = ratio.flagged("the interval includes 1: stability is undecided")
    at_edge = ratio.value is not None and EDGE[0] < ratio.value < EDGE[1] and _fell(losses)
    return StabilityRatio(ratio=ratio, largest_stable_rate=largest, regime=regime, at_edge=at_edge)


def _regime(
    rate_times_curvature: float, momentum: float, momentum_kind: MomentumKind | None
) -> str:
    a, b = recursion(rate_times_curvature, momentum, momentum_kind)
    root = cmath.sqrt(a * a + 4 * b)
    roots = ((a + root) / 2, (a - root) / 2)
    growth = max(abs(each) for each in roots)  # of the error, per step in the long run
    if growth > 1 + ROUNDING:
        return DIVERGES
    if growth > 1 - ROUNDING:
        return AT_THE_BOUND
    one_sign = all(abs(each.imag) < ROUNDING and each.real > -ROUNDING for each in roots)
    return MONOTONE if one_sign else OSCILLATES


def _inverse(value: Estimate, numerator: float) -> Estimate:
    """numerator / value; an end of the interval at or below 0 leaves the inverse open."""
    assert value.value is not None
    known = value.lo is not None and value.hi is not None and value.lo > 0
    return dataclasses.replace(
        value, value=numerator / value.value, unit=RATE_UNIT,
        lo=numerator / value.hi if known and value.hi else None,
        hi=numerator / value.lo if known and value.lo else None,
    )  # fmt: skip


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
