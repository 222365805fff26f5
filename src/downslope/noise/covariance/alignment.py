"""Does gradient noise sit in the sharp or in the flat directions of the loss? Two indices.

Sigma is the covariance of per-example gradients, H the Hessian of the mean loss; "sharp" means a
large eigenvalue of H. The answer differs between problems, so it is measured: see also the
profile by direction in `downslope.noise.covariance.profile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.delete_one import (
    NOT_FINITE,
    Floats,
    as_rows,
    centred,
    jackknife_error,
    linear_interval,
    log_interval,
    measured,
)

EXACT = "matrices taken as known"
Z95 = 1.96


def alignment(covariance: ArrayLike, hessian: ArrayLike) -> Estimate:
    """How alike Sigma and H are as matrices: a = tr(Sigma H) / (|Sigma|_F |H|_F), from -1 to 1.

    Read it beside `isotropic_alignment`, the value for noise equal in all directions.

    Args:
        covariance: Sigma [d, d].
        hessian: H [d, d].

    Returns:
        A share without interval; not estimable for a zero or non-finite matrix.

    Raises:
        UsageError: the matrices are not square and of one size.

    Example:
        >>> print(alignment(np.eye(2), np.diag([4.0, 1.0])))
        0.857
    """
    sigma, h = _pair(covariance, hessian)
    if reason := _unusable(sigma, h):
        return not_estimable(reason, unit="")
    sigma, h = sigma / np.abs(sigma).max(), h / np.abs(h).max()  # squares stay within range
    value = _inner(sigma, h) / (np.linalg.norm(sigma) * np.linalg.norm(h))
    return measured(float(value), unit="", method=EXACT)


def isotropic_alignment(covariance: ArrayLike, hessian: ArrayLike) -> Estimate:
    """Alignment that noise of the same trace, spread evenly over directions, would show.

    a0 = tr Sigma tr H / (d |Sigma|_F |H|_F), so that alignment / a0 = `sharpness_ratio`.

    Args:
        covariance: Sigma [d, d].
        hessian: H [d, d].

    Returns:
        A share without interval; not estimable for a zero or non-finite matrix.

    Raises:
        UsageError: the matrices are not square and of one size.

    Example:
        >>> matrix = np.diag([4.0, 1.0])
        >>> print(alignment(matrix, matrix), isotropic_alignment(matrix, matrix))
        1 0.735
    """
    sigma, h = _pair(covariance, hessian)
    if reason := _unusable(sigma, h):
        return not_estimable(reason, unit="")
    sigma, h = sigma / np.abs(sigma).max(), h / np.abs(h).max()
    value = np.trace(sigma) * np.trace(h) / (len(h) * np.linalg.norm(sigma) * np.linalg.norm(h))
    return measured(float(value), unit="", method=EXACT)


def sharpness_ratio_of(covariance: ArrayLike, hessian: ArrayLike) -> Estimate:
    """Sharpness ratio R = d tr(Sigma H) / (tr Sigma tr H) of two known matrices.

    1: noise and curvature unrelated; above 1: noise sits in sharp directions; below: in flat.

    Args:
        covariance: Sigma [d, d].
        hessian: H [d, d].

    Returns:
        A ratio without interval; not estimable unless both traces are positive.

    Raises:
        UsageError: the matrices are not square and of one size.

    Example:
        >>> matrix = np.diag([4.0, 1.0])
        >>> print(sharpness_ratio_of(matrix, matrix))
        1.36

    Source: tr(H Sigma) over its isotropic value, Zhu et al. 2019, section 3.
    """
    sigma, h = _pair(covariance, hessian)
    if reason := _unusable(sigma, h):
        return not_estimable(reason, unit="")
    sigma, h = sigma / np.abs(sigma).max(), h / np.abs(h).max()
    traces = float(np.trace(sigma)), float(np.trace(h))
    if min(traces) <= 0:
        return not_estimable(_NO_TRACE, unit="")
    return measured(len(h) * _inner(sigma, h) / math.prod(traces), unit="", method=EXACT)


def sharpness_ratio(
    gradients: ArrayLike,
    hessian_product: Callable[[Floats], ArrayLike],
    hessian_trace: Estimate | float,
) -> Estimate:
    """Sharpness ratio R = d tr(Sigma H) / (tr Sigma tr H) without forming either matrix.

    tr(Sigma H) = sum (g_i - mean)'H(g_i - mean) / (n-1): one Hessian product an example. Interval:
    delete-one jackknife of tr(Sigma H) / tr Sigma, on the log scale where tr(Sigma H) is
    positive, with the error of tr H added as independent.

    Args:
        gradients: per-example gradients [n, d], n >= 2.
        hessian_product: H times a vector [d], full batch, as NumPy arrays.
        hessian_trace: tr H, as a measurement (its interval is used) or a known number.

    Returns:
        A ratio. Unresolved where the interval of tr H includes 0: then at least the lower end of
        d tr(Sigma H)/tr Sigma over the upper end of tr H. Not estimable where tr H is negative.

    Raises:
        UsageError: gradients are not [n, d], or a product is not [d].

    Example:
        >>> rng = np.random.default_rng(0)
        >>> inputs = rng.normal(size=(500, 2)) * [2.0, 0.5]  # linear regression at its optimum:
        >>> gradients = inputs * rng.normal(size=(500, 1))   # noise has the shape of H
        >>> H = np.diag([4.0, 0.25])
        >>> print(sharpness_ratio(gradients, lambda v: H @ v, 4.25))  # truth: 1.78
        1.756 (1.722 to 1.791)

    Source: Zhu et al. 2019, section 3; its isotropic value as the baseline.
    """
    rows = as_rows(gradients)
    n, d = rows.shape
    fields = {"unit": "", "num_examples": n, "method": "Hessian products; jackknife over examples"}
    deviation = centred(rows)
    if isinstance(deviation, str):
        return not_estimable(deviation, **fields)
    trace, low, high = _known(hessian_trace)
    if trace is None:
        return not_estimable("the trace of H is not known", **fields)
    deviation = deviation / np.abs(deviation).max()  # the scale of the noise cancels
    curved = np.array([_product(hessian_product, row) for row in deviation])
    if not np.isfinite(curved).all():
        return not_estimable("a Hessian product is not finite", **fields)
    bends, norms = (deviation * curved).sum(axis=1), (deviation**2).sum(axis=1)
    top = d * bends.sum() / norms.sum()
    if n < 3:
        return not_estimable("two examples give no interval", **fields)
    c = n / (n - 1)
    without = d * (bends.sum() - c * bends) / (norms.sum() - c * norms)
    error = jackknife_error(without)
    if low <= 0:
        return _over_unknown_trace(top, error, n, low, high, fields)
    value = top / trace
    trace_error = (math.log(high) - math.log(low)) / (2 * Z95)  # the interval is Gaussian enough
    if (without > 0).all() and top > 0:
        error = math.hypot(jackknife_error(np.log(without)), trace_error)
        interval = log_interval(value, error, n - 1)
    else:
        interval = linear_interval(value, math.hypot(error / trace, value * trace_error), n - 1)
    return measured(value, interval, **fields)


def in_words(
    ratio: Estimate, sharp_over_flat: Estimate | None = None, num_sharp: int | None = None
) -> str:
    """One sentence: is noise stronger in the sharp or in the flat directions here?

    Args:
        ratio: the sharpness ratio R.
        sharp_over_flat: noise variance of sharp over flat directions, if measured.
        num_sharp: how many directions counted as sharp.

    Returns:
        The sentence with its numbers; "cannot be told" where the interval of R includes 1 or is
        missing.

    Example:
        >>> r = Estimate(value=9.0, lo=6.5, hi=12.0, unit="")
        >>> k = Estimate(value=154.0, lo=120.0, hi=190.0, unit="")
        >>> in_words(r, k, 10)
        'Noise is stronger in the sharp directions here: R = 9.0 (6.5 to 12.0; 1 = unrelated); its
        variance is 154 (120 to 190) times as large in the 10 sharpest directions as in flat ones.'
        >>> in_words(Estimate(value=1.1, lo=0.8, hi=1.5, unit=""))
        'Whether noise is stronger in sharp or in flat directions cannot be told here: R = 1.10
        (0.80 to 1.50; 1 = unrelated).'
    """
    lo, hi = ratio.lo, ratio.hi
    if ratio.value is None:
        numbers = f"R is {ratio}"
    elif lo is None or hi is None:
        numbers = f"R = {ratio} without an interval (1 = unrelated)"
    else:
        numbers = f"R = {str(ratio).removesuffix(')')}; 1 = unrelated)"
    if lo is not None and lo > 1:
        text = f"Noise is stronger in the sharp directions here: {numbers}"
    elif hi is not None and hi < 1:
        text = f"Noise is stronger in the flat directions here: {numbers}"
    else:
        text = (
            "Whether noise is stronger in sharp or in flat directions cannot be told here: "
            f"{numbers}"
        )
    if sharp_over_flat is not None and sharp_over_flat.value is not None:
        which = f"the {num_sharp} sharpest directions" if num_sharp else "sharp directions"
        text += f"; its variance is {sharp_over_flat} times as large in {which} as in flat ones"
    return f"{text}."


_NO_TRACE = "needs positive traces: a loss that curves down on average has no sharp directions"


def _over_unknown_trace(top, error, n, low, high, fields) -> Estimate:
    """R where the trace of H may be 0: a lower bound if there is one."""
    if high <= 0:
        return not_estimable(_NO_TRACE, **fields)
    reason = "the interval of the trace of H includes 0"
    bound = (top - t_quantile(n - 1) * error) / high
    if bound <= 0 or not math.isfinite(bound):
        return not_estimable(reason, **fields)
    return Estimate(value=None, lo=bound, reason=reason, **fields)


def _known(trace: Estimate | float) -> tuple[float | None, float, float]:
    """Value and interval; the interval of a known number is the number."""
    if not isinstance(trace, Estimate):
        value = float(trace)
        return (value, value, value) if math.isfinite(value) else (None, 0.0, 0.0)
    if trace.value is None:
        return None, 0.0, 0.0
    if trace.lo is None or trace.hi is None:
        return trace.value, trace.value, trace.value
    return trace.value, trace.lo, trace.hi


def _product(hessian_product: Callable[[Floats], ArrayLike], row: Floats) -> Floats:
    product = np.asarray(hessian_product(row), dtype=np.float64)
    if product.shape != row.shape:
        raise UsageError(
            f"hessian_product must give shape {list(row.shape)}; got {list(product.shape)}"
        )
    return product


def _pair(covariance: ArrayLike, hessian: ArrayLike) -> tuple[Floats, Floats]:
    sigma, h = as_rows(covariance, "covariance"), as_rows(hessian, "hessian")
    if sigma.shape != h.shape or sigma.shape[0] != sigma.shape[1]:
        raise UsageError(
            "covariance and hessian must be square and of one size; "
            f"got {list(sigma.shape)} and {list(h.shape)}"
        )
    return sigma, h


def _unusable(sigma: Floats, h: Floats) -> str | None:
    if not (np.isfinite(sigma).all() and np.isfinite(h).all()):
        return NOT_FINITE
    if not (sigma.any() and h.any()):
        return "a matrix is zero"
    return None


def _inner(sigma: Floats, h: Floats) -> float:
    return float(np.einsum("ij,ji->", sigma, h))
