"""Conjugate gradients around any product, with what a certificate needs (NumPy)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from downslope.noise.statistics.ranges import Floats

FLAT = 1e-8  # of the largest curvature: what float32 products cannot tell from 0


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Where conjugate gradients arrived.

    Attributes:
        move: from the start, [dim].
        num_products: products spent.
        decrease: of the quadratic, from the start.
        is_convex: no direction without curvature was met along which the gradient is not 0.
        lambda_min, lambda_max: extreme Ritz values; the least is not below the true one.
        is_done: the tolerance was reached.
    """

    move: Floats
    num_products: int
    decrease: float
    is_convex: bool
    lambda_min: float
    lambda_max: float
    is_done: bool


def conjugate_gradients(
    product: Callable[[Floats], Floats],
    gradient: Floats,
    *,
    gap: float,
    max_products: int,
    floor: float = 0.0,
    least: float = np.inf,
) -> Descent:
    """The step from a point with this gradient to the least value of a convex quadratic.

    It ends when |r|^2 / (2 lambda_min) is at most `gap`, with the least Ritz value so far. Without
    curvature along some directions, it never enters them: of all solutions, the nearest.

    Args:
        product: H v of a vector [dim].
        gradient: g at the start, [dim].
        gap: how far above the least value it may end.
        max_products: products to spend at most.
        floor: size of a residual that is rounding.
        least: least curvature known of, such as a Ritz value from before.

    Example:
        >>> found = conjugate_gradients(lambda v: np.array([1.0, 4.0]) * v, np.array([1.0, 4.0]),
        ...                             gap=1e-12, max_products=10)
        >>> found.move.round(9).tolist(), found.num_products
        ([-1.0, -1.0], 2)

    Source: Nocedal and Wright, Numerical Optimization, algorithm 5.2.
    """
    move, left, way = np.zeros_like(gradient), -gradient, -gradient
    square, decrease = float(left @ left), 0.0
    shares, ratios = [], []  # alpha and beta, which give the Lanczos matrix
    most, is_convex = 0.0, True
    while len(shares) < max_products and square > floor**2:
        image = product(way)
        curvature = float(way @ image)
        if curvature <= FLAT * most * float(way @ way):
            is_convex = False
            break
        share = square / curvature
        shares.append(share)
        move = move + share * way
        left = left - share * image
        decrease += share * square / 2
        before, square = square, float(left @ left)
        ratios.append(square / before)
        way = left + ratios[-1] * way
        low, most = _ritz(shares, ratios)
        least = min(least, low)
        if square <= 2 * gap * least:
            break
    done = square <= floor**2 or square <= 2 * gap * least
    return Descent(
        move=move, num_products=len(shares) + (not is_convex), decrease=decrease,
        is_convex=is_convex, lambda_min=least if np.isfinite(least) else 0.0, lambda_max=most,
        is_done=is_convex and done,
    )  # fmt: skip


def _ritz(shares: list[float], ratios: list[float]) -> tuple[float, float]:
    """Ends of the spectrum seen so far; Golub and Van Loan, 10.2.6."""
    a, b = np.array(shares), np.array(ratios)
    diagonal = 1 / a
    diagonal[1:] += b[:-1] / a[:-1]
    off = np.sqrt(b[:-1]) / a[:-1]
    values = linalg.eigvalsh_tridiagonal(diagonal, off)
    # rounding may leave a tiny or negative one, which no Hessian without such a direction has
    return max(float(values[0]), 1e-12 * float(values[-1])), float(values[-1])
