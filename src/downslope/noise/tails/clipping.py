"""Effect of clipping, g * min(1, threshold / |g|): how often it acts, how it biases the mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import number
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.arrays import NOT_FINITE, Floats, array
from downslope.noise.statistics.intervals import (
    jackknife_error,
    linear_interval,
    log_interval,
    measured,
)

MIN_ROWS = 3
Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class ClippingBias:
    """Mean clipped gradient compared with the mean raw gradient.

    Attributes:
        cosine: of the angle between them; 1 means that clipping only shortens the step.
        norm_ratio: |mean clipped| / |mean raw|.
    """

    cosine: Estimate
    norm_ratio: Estimate


def clip_fraction(norms: ArrayLike, threshold: float) -> Estimate:
    """Share of gradients longer than the threshold, with Wilson's interval.

    Args:
        norms: [n], 0 or more.
        threshold: positive.

    Returns:
        Unit "share of gradients".

    Raises:
        UsageError: threshold is not positive, or norms are not [n].

    Example:
        >>> print(clip_fraction(np.arange(1.0, 101.0), 90.0))
        0.100 (0.055 to 0.174) share of gradients

    Source: Wilson 1927.
    """
    x, border = array("norms", norms, 1), number("threshold", threshold, above=0)
    fields = {"unit": "share of gradients", "num_examples": len(x), "method": "Wilson score"}
    if not len(x):
        return not_estimable("no gradients", **fields)
    if not np.isfinite(x).all():
        return not_estimable(NOT_FINITE, **fields)
    n, share, z2 = len(x), float((x > border).mean()), Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # at shares of 0 and 1 the formula gives exactly 0 and 1, but for rounding
    interval = max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share))
    return measured(share, interval, **fields)


def clipping_bias(gradients: ArrayLike, threshold: float) -> ClippingBias:
    """Direction and length of the mean clipped gradient, relative to the mean gradient.

    With c_i the clipped g_i and sums over i != j, C.G = sum c_i.g_j / (n(n-1)), likewise |C|^2 and
    |G|^2: unbiased, while the plain means share their noise and look more alike than they are.
    cosine = C.G / (|C||G|), ratio = |C| / |G|; delete-one jackknife, the ratio's on the log scale.

    Args:
        gradients: per-example or per-batch gradients [n, d], clipped row by row, n >= 3.
        threshold: positive, in the unit of |g|.

    Returns:
        A `ClippingBias`; cosine and ratio are not estimable where the interval of |G|^2 or |C|^2
        includes 0.

    Raises:
        UsageError: gradients are not [n, d], or threshold is not positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gradients = rng.normal([1.0, 0.0], 0.3, (500, 2))
        >>> gradients[:25] += [0.0, 20.0]  # one in 20 pulls sideways
        >>> found = clipping_bias(gradients, 2.0)
        >>> print(found.cosine, found.norm_ratio)
        0.77 (0.67 to 0.87) 0.68 (0.55 to 0.84)
    """
    rows, border = array("gradients", gradients, 2), number("threshold", threshold, above=0)
    reason = None
    if not np.isfinite(rows).all():
        reason = NOT_FINITE
    elif len(rows) < MIN_ROWS:
        reason = f"needs at least {MIN_ROWS} gradients; got {len(rows)}"
    elif not rows.any():
        reason = "every gradient is 0"
    if reason:
        return _without_bias(reason, len(rows))
    scale = float(np.abs(rows).max())  # first, so that squares stay within range
    raw = rows / scale
    norms = np.linalg.norm(raw, axis=1) * scale
    return _compare(raw * (border / np.maximum(norms, border))[:, None], raw)


def clipped_mean(cdf: Callable[[float], float], threshold: float) -> float:
    """E[clip(X)] of a one-dimensional X with a known distribution function, by quadrature.

    E = integral from 0 to threshold of (1 - F(x) - F(-x)); minus E[X] it is the bias of clipping.

    Args:
        cdf: F(x) = P(X <= x).
        threshold: positive.

    Raises:
        UsageError: threshold is not positive.

    Example:
        >>> from scipy import stats
        >>> noise = stats.t(1.5, loc=0.3)
        >>> print(f"{clipped_mean(noise.cdf, 3.0) - 0.3:.3f}")
        -0.040
    """
    from scipy import integrate  # slow to import, rarely needed

    border = number("threshold", threshold, above=0)
    # split by powers of 2, for the step near 0 may be much narrower than the threshold
    ends = [0.0, *(border * 2.0**-k for k in range(12, -1, -1))]
    parts = (
        integrate.quad(lambda x: 1 - cdf(x) - cdf(-x), a, b)[0] for a, b in itertools.pairwise(ends)
    )
    return float(math.fsum(parts))


def _without_bias(reason: str, num: int) -> ClippingBias:
    none = not_estimable(reason, unit="", num_examples=num)
    return ClippingBias(cosine=none, norm_ratio=none)


def _compare(clipped: Floats, raw: Floats) -> ClippingBias:
    """Cosine and norm ratio of the two mean gradients, with jackknife intervals."""
    n = len(raw)
    dots = [_pairs(clipped, raw), _pairs(clipped, clipped), _pairs(raw, raw)]
    for (value, without), name in zip(dots[1:], ("mean clipped", "mean"), strict=True):
        reach = t_quantile(n - 1) * jackknife_error(without)
        if not value - reach > 0 or not (without > 0).all():
            reason = f"the interval of the squared {name} gradient includes 0: too much noise"
            return _without_bias(reason, n)
    (cg, cgs), (cc, ccs), (gg, ggs) = dots
    cosine, cosines = cg / math.sqrt(cc * gg), cgs / np.sqrt(ccs * ggs)
    ratio = math.sqrt(cc / gg)
    error = jackknife_error(0.5 * np.log(ccs / ggs))
    fields: dict[str, Any] = {"unit": "", "num_examples": n}
    fields["method"] = "products of different rows; delete-one jackknife"
    flags = ("by chance above 1: the means are not told apart",) if cosine > 1 else ()
    interval = linear_interval(cosine, jackknife_error(cosines), n - 1)
    return ClippingBias(
        cosine=measured(cosine, interval, flags=flags, **fields),
        norm_ratio=measured(ratio, log_interval(ratio, error, n - 1), **fields),
    )


def _pairs(a: Floats, b: Floats) -> tuple[float, Floats]:
    """Mean of a_i . b_j over i != j, and the same without each row."""
    n = len(a)
    total_a, total_b = a.sum(axis=0), b.sum(axis=0)
    own = np.einsum("ij,ij->i", a, b)
    all_pairs = float(total_a @ total_b) - float(own.sum())
    lost = a @ total_b + b @ total_a - 2 * own
    return all_pairs / (n * (n - 1)), (all_pairs - lost) / ((n - 1) * (n - 2))
