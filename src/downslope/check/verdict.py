"""What slopes say of a gradient: right, wrong, at a kink, or not to be told (NumPy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from downslope.check.slopes import Slopes
from downslope.noise.statistics.ranges import Floats

Verdict = Literal["right", "wrong", "kink", "unresolved"]

# Median error of a right gradient, over |g| / sqrt(dim): above what was seen on smooth networks
# (3e-11 and 3e-5 in the median, 1.2e-10 and 1.1e-4 at most).
TOLERANCE = {"float64": 1e-8, "float32": 3e-4}
CLEARLY = 10.0  # times the differences' own error: then it is not theirs; assumed
# Halving the step halves the distance of both one-sided slopes where the loss is smooth, and
# leaves it where there is a kink at the point itself.
PERSISTS = 0.75


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The judgement over one range of coordinates.

    Attributes:
        verdict: right, wrong, kink (at the point itself), or unresolved.
        error: median of |difference - g.v|, over |g| / sqrt(dim).
        resolution: median error of the differences themselves, on the same scale.
        is_subgradient: g.v lies between both one-sided slopes along every direction.
        taylor_ratio: by how much halving the step shrinks what is left of the loss after its
            linear part: 4 for a right gradient, 2 for a wrong one; None where nothing is left.
    """

    verdict: Verdict
    error: float
    resolution: float
    is_subgradient: bool
    taylor_ratio: float | None


def judge(slopes: Slopes, precision: str) -> Judgement:
    """The judgement, by the rules at the top of this module.

    A wrong gradient g + e is off by about |e| / |g| along a random direction on this scale,
    whatever the step; the error of differences changes with the step.
    """
    tolerance, scale = TOLERANCE[precision], slopes.scale
    if scale == 0:  # neither a gradient nor a slope
        return _judgement("right", slopes, 0.0, 0.0, True)
    if not np.isfinite(scale):
        return _judgement("unresolved", slopes, 0.0, 0.0, False)
    errors = np.abs(slopes.central - slopes.given)
    doubts = np.abs(slopes.central - slopes.central_half) + slopes.rounding
    error, doubt = float(np.median(errors)) / scale, float(np.median(doubts)) / scale
    kinked, inside = _kinks(slopes, tolerance * scale + doubts)
    if error <= tolerance:
        return _judgement("right", slopes, error, doubt, True)
    failing = errors > tolerance * scale
    if kinked[failing].mean() > 0.5:
        return _judgement("kink", slopes, error, doubt, bool(inside.all()))
    wrong = error > CLEARLY * doubt
    return _judgement("wrong" if wrong else "unresolved", slopes, error, doubt, False)


def _judgement(
    verdict: Verdict, slopes: Slopes, error: float, doubt: float, inside: bool
) -> Judgement:
    return Judgement(
        verdict=verdict,
        error=error,
        resolution=doubt,
        is_subgradient=inside,
        taylor_ratio=_taylor(slopes),
    )


def _kinks(slopes: Slopes, tolerance: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Along which directions there is a kink at the point, and where g.v suits both sides."""
    gap = slopes.forward - slopes.backward
    gap_half = slopes.forward_half - slopes.backward_half
    kinked = (np.abs(gap) > CLEARLY * tolerance) & (np.abs(gap_half) > PERSISTS * np.abs(gap))
    # how far the one-sided slopes still are from their limits
    slack = np.abs(slopes.forward - slopes.forward_half)
    slack = tolerance + slack + np.abs(slopes.backward - slopes.backward_half)
    low = np.minimum(slopes.forward_half, slopes.backward_half) - slack
    high = np.maximum(slopes.forward_half, slopes.backward_half) + slack
    return kinked, (slopes.given >= low) & (slopes.given <= high)


def _taylor(slopes: Slopes) -> float | None:
    with np.errstate(invalid="ignore"):
        clear = np.abs(slopes.remainder_half) > 0
    if not np.isfinite(slopes.remainder).all() or not clear.any():
        return None
    ratios = np.abs(slopes.remainder[clear] / slopes.remainder_half[clear])
    return float(np.median(ratios))
