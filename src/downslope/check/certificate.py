"""Bounds on the distance from a least value, by the gradient that is left (NumPy)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from downslope.check.factor import Factor
from downslope.noise.statistics.arrays import Floats

# Of the way down from the start: enough where the loss itself ends at 0.
ZERO_LOSS_TOLERANCE = 1e-10
GRADIENT_ROUNDINGS = 4.0  # units in the last place of a sum of losses' gradients; assumed


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
    hidden = GRADIENT_ROUNDINGS * epsilon * math.sqrt(2 * abs(loss) * len(gradient))
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
class Outcome:
    """Where solving ended, in flat vectors; the fields are those of `Solution`.

    Attributes:
        start_gap: by how much the loss at the start lies above its least value.
    """

    x: Floats
    loss: float
    certificate: Certificate | None
    start_gap: float
    lambda_min: float
    lambda_max: float
    num_flat: int | None
    method: str
    precision: str
    num_products: int
    gradient_norm: float
    reason: str | None = None


def failed(x: Floats, loss: float, gradient: Floats, products: int, precision: str) -> Outcome:
    """The outcome where a gradient or a product is not finite."""
    return Outcome(
        x=x, loss=loss, certificate=None, start_gap=0.0, lambda_min=0.0, lambda_max=0.0,
        num_flat=None, method="none", precision=precision, num_products=products,
        gradient_norm=float(np.linalg.norm(gradient)), reason="it is not finite",
    )  # fmt: skip


def fits(gap: float, loss: float, start_gap: float, tolerance: float) -> bool:
    """Whether a gap is small beside the loss, or beside the way down from the start."""
    return gap <= max(tolerance * abs(loss), ZERO_LOSS_TOLERANCE * start_gap)
