"""Noise scale weighted by the curvature of the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.ratios import ratio
from downslope.noise.statistics.sample import Sample, read_sample

HessianProduct = Callable[[np.ndarray], np.ndarray]


def curvature_weighted(
    gradients: ArrayLike, hessian_product: HessianProduct, *, batched: bool = False
) -> Estimate:
    """Noise scale of one quadratic step, B_noise = tr(H Sigma)/(G^T H G), in examples.

    With the mean m and c_i = g_i - m: tr(H Sigma) = sum c_i^T H c_i/(n - 1), and
    G^T H G = m^T H m - tr(H Sigma)/n. Both are unbiased. It equals the plain noise scale where H
    is a multiple of the identity. Valid for a loss that curves up along its gradient.

    Args:
        gradients: [n, d], n >= 3, independent draws of one example's gradient.
        hessian_product: maps v [d] to H v [d], H the Hessian of the mean loss; n + 1 products.
        batched: hessian_product maps [k, d] to [k, d] instead.

    Returns:
        Unresolved where G^T H G cannot be told from 0.

    Raises:
        UsageError: a product of another shape.

    Example:
        >>> rng = np.random.default_rng(0)  # H = diag(4, 1), Sigma = I, G = (1, 1): 5/5 = 1
        >>> g = 1 + rng.normal(size=(400, 2))
        >>> print(curvature_weighted(g, lambda v: np.array([4.0, 1.0]) * v))
        1.11 (0.90 to 1.39) examples

    Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.8.
    """
    method = "per-example gradients and Hessian products; intervals joined on the log scale"
    sample = read_sample(gradients)
    if isinstance(sample, str):
        return not_estimable(sample, unit="examples", method=method)
    weighted = with_products(sample, hessian_product, batched=batched)
    if isinstance(weighted, str):
        return not_estimable(weighted, unit="examples", method=method)
    return ratio(
        weighted.trace_part(), weighted.signal_part(), covariance=weighted.covariance(),
        unit="examples", denominator="G^T H G", method=method, num_examples=sample.num,
    )  # fmt: skip


def with_products(
    sample: Sample, hessian_product: HessianProduct, *, batched: bool = False
) -> Sample | str:
    """The sample with lengths v^T H v, or the reason why they are not finite.

    Raises:
        UsageError: a product of another shape than its argument.
    """
    stacked = np.concatenate([sample.centred, sample.mean[None]])
    raw = hessian_product(stacked) if batched else [hessian_product(row) for row in stacked]
    products = np.asarray(raw, dtype=np.float64)
    if products.shape != stacked.shape:
        one = stacked.shape if batched else stacked.shape[1:]
        got = products.shape if batched else products.shape[1:]
        raise UsageError(f"hessian_product must give the shape it takes, {one}; got {got}")
    if not np.isfinite(products).all():
        return "a Hessian product is not finite"
    return dataclasses.replace(sample, products=products[:-1], mean_product=products[-1])
