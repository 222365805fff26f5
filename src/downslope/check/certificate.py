"""What a gradient at the end of a solution proves, and what a solution costs (NumPy)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from downslope.check.factor import Factor
from downslope.errors import UsageError
from downslope.noise.statistics.ranges import Floats, count, positive

ROUNDINGS = 4.0  # units in the last place of a sum of losses' gradients; assumed


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How far a point can be from the least value of a convex quadratic.

    Attributes:
        gap: loss above the least value, at most.
        distance: from the nearest solution, in parameters.
        gradient_norm: |r|, with what rounding may hide not added.
    """

    gap: float
    distance: float
    gradient_norm: float


def with_factor(
    factor: Factor, gradient: Floats, *, noise: float, epsilon: float, loss: float
) -> Certificate:
    """gap = r' H^-1 r / 2 and |H^-1 r|, with room for the rounding of H and of r.

    Args:
        factor: of the Hessian H.
        gradient: r, over all rows.
        noise: relative error of the entries of H.
        epsilon: unit in the last place of what r was computed in.
        loss: mean loss there, which bounds what rounding does to r: by Cauchy and Schwarz
            the size of what is summed up in r_j is at most sqrt(2 loss H_jj).
    """
    move = factor.solve(gradient)
    gap = max(0.0, float(gradient @ move) / 2)
    hidden = ROUNDINGS * epsilon * math.sqrt(2 * abs(loss) * len(gradient))
    hidden = hidden**2 / (2 * factor.least) if factor.least else 0.0
    # (1 - rho) H <= H true, with rho the error of the scaled matrix over its least eigenvalue
    rho = min(0.5, math.sqrt(len(gradient)) * noise * factor.condition)
    return Certificate(
        gap=(math.sqrt(gap) + math.sqrt(hidden)) ** 2 / (1 - rho),
        distance=float(np.linalg.norm(move)),
        gradient_norm=float(np.linalg.norm(gradient)),
    )


def with_bound(gradient: Floats, lambda_min: float) -> Certificate:
    """gap <= |r|^2 / (2 lambda_min) and |x - x*| <= |r| / lambda_min.

    Example:
        >>> with_bound(np.array([0.3, 0.4]), 0.5)
        Certificate(gap=0.25, distance=1.0, gradient_norm=0.5)
    """
    norm = float(np.linalg.norm(gradient))
    if norm == 0:
        return Certificate(gap=0.0, distance=0.0, gradient_norm=0.0)
    if lambda_min <= 0:
        return Certificate(gap=math.inf, distance=math.inf, gradient_norm=norm)
    return Certificate(
        gap=norm**2 / (2 * lambda_min), distance=norm / lambda_min, gradient_norm=norm
    )


@dataclass(frozen=True, kw_only=True)
class SolveCost:
    """What a solution costs, to be set against a search.

    Attributes:
        method: dense (the whole Hessian, then a factor) or conjugate gradients.
        num_products: products with the Hessian over all rows.
        num_passes: passes over the data.
        num_gradients: gradients over all rows that cost as much; divide by the gradients of a
            search, batch_size * steps / num_rows.
        flops: floating-point operations, for a model linear in its parameters with one output.
    """

    method: str
    num_products: int
    num_passes: int
    num_gradients: float
    flops: float


DENSE_DIM = 2000  # parameters up to which the whole Hessian is formed
GRADIENTS_PER_PRODUCT = 1.0  # beside others that share the forward part: two matrix products


def solve_cost(
    num_rows: float,
    dim: int,
    *,
    dense_dim: int = DENSE_DIM,
    condition_number: float = 1e4,
    tolerance: float = 1e-6,
) -> SolveCost:
    """Products, passes and operations that `solve` will need.

    Dense: dim products in one pass, two or three passes for the gradient, dim^3/3 for the factor.
    Conjugate gradients: at most sqrt(kappa) / 2 ln(2 / tolerance) products, a pass each.

    Args:
        num_rows: rows of the data.
        dim: trained parameters.
        dense_dim: parameters up to which the whole Hessian is formed.
        condition_number: kappa of the Hessian, for conjugate gradients; 1e4 is assumed.
        tolerance: relative gap to reach.

    Raises:
        UsageError: a value out of range.

    Example:
        >>> cost = solve_cost(1_000_000, 64)
        >>> cost.num_products, cost.num_passes, f"{cost.flops:.2g}"
        (64, 3, '1.7e+10')
    """
    positive("num_rows", num_rows)
    count("dim", dim)
    positive("tolerance", tolerance)
    if not condition_number >= 1:
        raise UsageError(f"condition_number must be 1 or more; got {condition_number}")
    gradient = 4.0 * num_rows * dim
    if dim <= dense_dim:
        gradients = 2 + GRADIENTS_PER_PRODUCT * dim
        flops = gradient * gradients + dim**3 * 2
        return SolveCost(
            method="dense", num_products=dim, num_passes=3, num_gradients=gradients, flops=flops
        )
    products = max(1, math.ceil(math.sqrt(condition_number) / 2 * math.log(2 / tolerance)))
    products = min(products, dim)
    gradients = 2 + 2 * GRADIENTS_PER_PRODUCT * products
    return SolveCost(
        method="conjugate gradients", num_products=products, num_passes=products + 2,
        num_gradients=gradients, flops=gradient * gradients,
    )  # fmt: skip
