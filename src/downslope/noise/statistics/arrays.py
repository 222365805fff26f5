"""Arrays of floats, checked and centred, and their products with a Hessian."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.errors import UsageError

Floats = NDArray[np.float64]
NOT_FINITE = "a value is not finite"
TOO_LARGE = "the result is too large, or too small, for double precision"
SHAPES = {1: "[n]", 2: "[n, d]"}
HessianProduct = Callable[[Floats], ArrayLike]


def array(name: str, values: ArrayLike, num_axes: int) -> Floats:
    """The values as float64 with one or two axes; they need not be finite.

    Raises:
        UsageError: another number of axes.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != num_axes:
        raise UsageError(f"{name} must have shape {SHAPES[num_axes]}; got {list(found.shape)}")
    return found


def centred(rows: Floats, least: int = 2) -> Floats | str:
    """Rows minus their mean, or the reason why they have no spread."""
    if len(rows) < least or rows.shape[1] == 0:
        return f"needs at least {least} rows, and a column; got {list(rows.shape)}"
    if not np.isfinite(rows).all():
        return NOT_FINITE
    if (rows == rows[0]).all():
        return "every row is the same"
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = rows - rows[0]  # first a row, then the mean: no rounding from a large mean
        deviation -= deviation.mean(axis=0)
    return deviation if np.isfinite(deviation).all() else TOO_LARGE


def hessian_products(
    hessian_product: HessianProduct, rows: Floats, batched: bool = False
) -> Floats:
    """Products of the rows [k, d] with a Hessian, one by one or, where it takes them, at once.

    Raises:
        UsageError: a product of another shape than its argument.
    """
    raw = hessian_product(rows) if batched else [hessian_product(row) for row in rows]
    found = np.asarray(raw, dtype=np.float64)
    if found.shape != rows.shape:
        one, got = (list(a.shape if batched else a.shape[1:]) for a in (rows, found))
        raise UsageError(f"hessian_product must give the shape it takes, {one}; got {got}")
    return found
