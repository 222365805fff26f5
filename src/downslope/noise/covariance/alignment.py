"""Alignment of gradient noise with the sharp directions of the loss and with the inputs.

Sigma is the covariance of per-example gradients, H the Hessian of the mean loss; "sharp" means a
large eigenvalue of H. The answer differs between problems, so it is measured: see also the
profile by direction in `downslope.noise.covariance.profile`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.statistics.arrays import (
    Floats,
    HessianProduct,
    array,
    centred,
    hessian_products,
)
from downslope.noise.statistics.intervals import (
    as_estimate,
    jackknife_error,
    linear_interval,
    log_interval,
    measured,
)


def sharpness_ratio(
    gradients: ArrayLike,
    hessian_product: HessianProduct,
    hessian_trace: Estimate | float,
) -> Estimate:
    """Sharpness ratio R = d tr(Sigma H) / (tr Sigma tr H), without forming either matrix.

    1: noise and curvature unrelated; above 1: noise sits in sharp directions; below: in flat ones.
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
    rows = array("gradients", gradients, 2)
    n, d = rows.shape
    fields = {"unit": "", "num_examples": n, "method": "Hessian products; jackknife over examples"}
    deviation = centred(rows)
    if isinstance(deviation, str):
        return not_estimable(deviation, **fields)
    known = as_estimate(hessian_trace, unit="loss / parameter^2")
    if known.value is None:
        return not_estimable("the trace of H is not known", **fields)
    trace = low = high = known.value
    if known.lo is not None and known.hi is not None:
        low, high = known.lo, known.hi
    deviation = deviation / np.abs(deviation).max()  # the scale of the noise cancels
    curved = hessian_products(hessian_product, deviation)
    if not np.isfinite(curved).all():
        return not_estimable("a Hessian product is not finite", **fields)
    bends, norms = (deviation * curved).sum(axis=1), (deviation**2).sum(axis=1)
    top = d * bends.sum() / norms.sum()
    if n < 3:
        return not_estimable("two examples give no interval", **fields)
    c = n / (n - 1)
    without = d * (bends.sum() - c * bends) / (norms.sum() - c * norms)
    error = jackknife_error(without)
    if high <= 0:
        reason = "needs positive traces: a loss that curves down on average has no sharp directions"
        return not_estimable(reason, **fields)
    if low <= 0:
        reason = "the interval of the trace of H includes 0"
        bound = linear_interval(top, error, n - 1)[0] / high
        if bound <= 0 or not math.isfinite(bound):
            return not_estimable(reason, **fields)
        return Estimate(value=None, lo=bound, reason=reason, **fields)
    value = top / trace
    trace_error = (math.log(high) - math.log(low)) / (2 * t_quantile(math.inf))  # near Gaussian
    if (without > 0).all() and top > 0:
        error = math.hypot(jackknife_error(np.log(without)), trace_error)
        interval = log_interval(value, error, n - 1)
    else:
        interval = linear_interval(value, math.hypot(error / trace, value * trace_error), n - 1)
    return measured(value, interval, **fields)


def in_words(
    ratio: Estimate, sharp_over_flat: Estimate | None = None, num_sharp: int | None = None
) -> str:
    """Sentence saying whether noise is stronger in the sharp or in the flat directions.

    Args:
        ratio: the sharpness ratio R.
        sharp_over_flat: noise variance of sharp over flat directions, if measured.
        num_sharp: how many directions counted as sharp.

    Returns:
        The sentence with its numbers; "undecided" where the interval of R includes 1 or is
        missing.

    Example:
        >>> r = Estimate(value=9.0, lo=6.5, hi=12.0, unit="")
        >>> k = Estimate(value=154.0, lo=120.0, hi=190.0, unit="")
        >>> in_words(r, k, 10)
        'Noise is stronger in the sharp directions here: R = 9.0 (6.5 to 12.0; 1 = unrelated); its
        variance is 154 (120 to 190) times as large in the 10 sharpest directions as in flat ones.'
        >>> in_words(Estimate(value=1.1, lo=0.8, hi=1.5, unit=""))
        'It is undecided whether noise is stronger in sharp or in flat directions here: R = 1.10
        (0.80 to 1.50; 1 = unrelated).'
    """
    lo, hi = ratio.lo, ratio.hi
    if ratio.value is None:
        numbers = f"R is {ratio}"
    elif lo is None or hi is None:
        numbers = f"R = {ratio} without an interval (1 = unrelated)"
    else:
        numbers = f"R = {str(ratio).removesuffix(')')}; 1 = unrelated)"
    if (lo is not None and lo > 1) or (hi is not None and hi < 1):
        where = "sharp" if lo is not None and lo > 1 else "flat"
        text = f"Noise is stronger in the {where} directions here: {numbers}"
    else:
        what = "noise is stronger in sharp or in flat directions here"
        text = f"It is undecided whether {what}: {numbers}"
    if sharp_over_flat is not None and sharp_over_flat.value is not None:
        which = f"the {num_sharp} sharpest directions" if num_sharp else "sharp directions"
        text += f"; its variance is {sharp_over_flat} times as large in {which} as in flat ones"
    return f"{text}."


def input_alignment(weight_gradients: ArrayLike, inputs: ArrayLike, num: int = 3) -> Floats:
    """|cos| between leading directions of first-layer noise and of the inputs.

    Eigenvectors of the covariance over examples of dl/dW[:, o], [p, p], summed over the outputs
    o, against those of the covariance of the inputs. Only first-layer weights live in the space
    of the inputs.

    Args:
        weight_gradients: per-example gradients of the first weight matrix [n, p, outputs], or
            [n, p] for one output.
        inputs: [n, p].
        num: number of eigenvectors of each to compare.

    Returns:
        [num, num], noise eigenvector (row) by principal component (column); NaN where a value is
        not finite or there is one row only.

    Raises:
        UsageError: shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> inputs = rng.normal(size=(300, 3)) * [5.0, 1.0, 0.2]
        >>> gradients = inputs * rng.normal(size=(300, 1))  # linear regression at its optimum
        >>> print(f"{input_alignment(gradients, inputs)[0, 0]:.3f}")
        1.000
    """
    x = array("inputs", inputs, 2)
    grads = np.asarray(weight_gradients, dtype=np.float64)
    grads = grads[:, :, None] if grads.ndim == 2 else grads
    if grads.ndim != 3 or grads.shape[:2] != x.shape:
        raise UsageError(
            f"weight_gradients must have shape [{x.shape[0]}, {x.shape[1]}, outputs]; "
            f"got {list(grads.shape)}"
        )
    num = min(whole("num", num), x.shape[1])
    if not (np.isfinite(x).all() and np.isfinite(grads).all()) or len(x) < 2:
        return np.full((num, num), np.nan)
    noise = grads - grads.mean(axis=0)
    spread = x - x.mean(axis=0)
    sigma = np.einsum("npo,nqo->pq", noise, noise, optimize=True)
    return np.abs(_leading(sigma, num) @ _leading(spread.T @ spread, num).T)


def _leading(matrix: Floats, num: int) -> Floats:
    """Unit eigenvectors [num, p] of the largest eigenvalues, largest first."""
    return np.linalg.eigh(matrix)[1].T[::-1][:num]
