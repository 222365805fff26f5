"""Noise variance by direction of curvature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import Floats, array, centred
from downslope.noise.statistics.intervals import jackknife_error, log_interval, measured

LEAST_ROWS = 10  # for the jackknife of a ratio; assumed
SLACK = 1e-6  # by which directions may miss being orthonormal: float32 Lanczos vectors


@dataclass(frozen=True, kw_only=True)
class NoiseProfile:
    """Noise variance n_i = u_i' Sigma u_i along directions u_i of curvature lambda_i.

    Attributes:
        curvatures: lambda_i [k], largest first.
        variances: n_i [k], in the same order.
        sharp_over_flat: mean n_i of the `num_sharp` sharpest directions over that of the flat.
        num_sharp: how many directions count as sharp.
    """

    curvatures: Floats
    variances: Floats
    sharp_over_flat: Estimate
    num_sharp: int


def noise_profile(
    gradients: ArrayLike,
    curvatures: ArrayLike,
    directions: ArrayLike,
    *,
    num_sharp: int = 10,
) -> NoiseProfile:
    """Noise variance along eigenvectors of the Hessian, and how much larger it is in sharp ones.

    n_i = sum_j (u_i.(g_j - mean))^2 / (n-1). "Flat" is the flatter half of the d directions if
    all are given; else the mean over everything outside the given directions, from the trace.
    Interval: delete-one jackknife on the log scale.

    Args:
        gradients: per-example gradients [n, d], n >= 10.
        curvatures: eigenvalues of H [k].
        directions: eigenvectors of H [k, d], one a row (the transpose of `numpy.linalg.eigh`'s).
        num_sharp: directions that count as sharp; no more than half of those given are used.

    Raises:
        UsageError: shapes do not match, or the directions are not orthonormal.

    Example:
        >>> rng = np.random.default_rng(2)
        >>> curvatures = 2.0 ** -np.arange(8)
        >>> gradients = rng.normal(size=(400, 8)) * np.sqrt(curvatures)  # Sigma = H
        >>> profile = noise_profile(gradients, curvatures, np.eye(8), num_sharp=2)
        >>> print(profile.sharp_over_flat)  # truth: 0.75 / 0.0293 = 25.6
        26.9 (23.5 to 30.9)
    """
    rows, lams = array("gradients", gradients, 2), array("curvatures", curvatures, 1)
    basis = array("directions", directions, 2)
    sharp = whole("num_sharp", num_sharp)
    if basis.shape != (len(lams), rows.shape[1]):
        raise UsageError(
            f"directions must have shape [{len(lams)}, {rows.shape[1]}]; got {list(basis.shape)}"
        )
    order = np.argsort(-lams, kind="stable")
    lams, basis = lams[order], basis[order]
    deviation = centred(rows, LEAST_ROWS)
    sharp = max(1, min(sharp, len(lams) // 2))
    reason = deviation if isinstance(deviation, str) else _unfit(lams, basis)
    if reason is not None or isinstance(deviation, str):
        none = not_estimable(str(reason), unit="", num_examples=len(rows))
        unknown = np.full(len(lams), np.nan)
        return NoiseProfile(
            curvatures=lams, variances=unknown, sharp_over_flat=none, num_sharp=sharp
        )
    scale = float(np.abs(deviation).max())
    along = deviation / scale @ basis.T
    return NoiseProfile(
        curvatures=lams,
        variances=(along**2).sum(axis=0) / (len(rows) - 1) * scale * scale,
        sharp_over_flat=_sharp_over_flat(along**2, (deviation / scale) ** 2, sharp),
        num_sharp=sharp,
    )


def _sharp_over_flat(along: Floats, squares: Floats, num_sharp: int) -> Estimate:
    """Ratio of mean variances, from squared coordinates [n, k] and all squares [n, d]."""
    n, k = along.shape
    d = squares.shape[1]
    top, flags = along[:, :num_sharp].mean(axis=1), ()
    if k == d:
        bottom = along[:, d - d // 2 :].mean(axis=1)
    else:
        bottom = (squares.sum(axis=1) - along.sum(axis=1)) / (d - k)
        flags = (f"flat: the mean over all {d - k} directions but the {k} given",)
    fields = {"unit": "", "num_examples": n, "flags": flags}
    c = n / (n - 1)
    tops, bottoms = top.sum() - c * top, bottom.sum() - c * bottom
    # what is left after subtracting the given directions may be rounding
    least = np.finfo(float).eps * d * squares.sum() / max(d - k, 1)
    if bottom.sum() <= least or not (bottoms > least).all():
        return not_estimable("the flat directions carry no noise", unit="", num_examples=n)
    value, method = top.sum() / bottom.sum(), "ratio of means; jackknife over examples, log scale"
    if not (tops > 0).all():
        return measured(float(value), method=method, **fields)
    error = jackknife_error(np.log(tops) - np.log(bottoms))
    return measured(float(value), log_interval(float(value), error, n - 1), method=method, **fields)


def _unfit(lams: Floats, basis: Floats) -> str | None:
    if not (np.isfinite(lams).all() and np.isfinite(basis).all()):
        return "a curvature or direction is not finite"
    if len(basis) < 2:
        return f"needs at least 2 directions; got {len(basis)}"
    off = float(np.abs(basis @ basis.T - np.eye(len(basis))).max(initial=0))
    if off > SLACK * max(10, len(basis)):
        raise UsageError(f"directions must be orthonormal rows; got some that miss it by {off:.2g}")
    return None
