"""The least value of a quadratic by its whole Hessian, refined with gradients over all rows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from downslope.check.certificate import Certificate, Outcome, failed, with_factor
from downslope.check.factor import Factor, factorize
from downslope.check.quadratics import bend_far_out, far_line
from downslope.check.row_sums import RowSums
from downslope.noise.statistics.arrays import Floats

REFINED_GAP = 1e-12  # of the loss: about what rounding float32 parameters leaves
MAX_REFINEMENTS = 6
# Condition of the scaled Hessian up to which one in float32 serves: each refinement then
# shrinks the error by about this times 4e-7.
MAX_FLOAT32_CONDITION = 1e4
HESSIAN_NOISE = {"float32": 4e-7, "float64": 8e-16}  # of an entry of the Hessian: a few roundings
UNBOUNDED_SLOPE = 1e-4  # of the gradient, along directions without curvature


def solve_normal_equations(sums: RowSums, exact: str) -> Outcome:
    """The solution by a factor of the Hessian.

    The Hessian is summed up in float32, and once more in float64 where its condition asks for it.

    Args:
        sums: of a loss that is a quadratic.
        exact: what its gradients are precise to.
    """
    x, directions, products = sums.start, np.eye(sums.start.size), 0
    for precision in ("float32",) if exact == "float32" else ("float32", "float64"):
        loss, gradient, hessian = sums.products(x, directions, precision)
        products += len(directions)
        if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
            return failed(sums.start, loss, gradient, products, precision)
        factor = factorize(hessian, HESSIAN_NOISE[precision])
        if factor.method == "cholesky" and factor.condition <= MAX_FLOAT32_CONDITION:
            break
    return _refine(sums, factor, exact, precision, loss, gradient, products)


def _refine(
    sums: RowSums, factor: Factor, exact: str, used: str, loss: float, gradient: Floats,
    products: int,
) -> Outcome:  # fmt: skip
    """Newton's steps with one factor, until rounding the parameters is all that is left."""

    def certify(gradient: Floats, loss: float, precision: str) -> Certificate:
        epsilon = float(jnp.finfo(precision).eps)
        return with_factor(factor, gradient, noise=HESSIAN_NOISE[used], epsilon=epsilon, loss=loss)

    certificate = first = certify(gradient, loss, used)
    reason = None if factor.is_convex else "it curves downward along some direction"
    x = new = sums.start
    step = factor.solve(gradient)
    for turn in range(MAX_REFINEMENTS if reason is None else 0):
        new = sums.rounded(factor.nearest(new - step))[0]
        points = far_line(new)
        losses, gradients = sums.gradients(points)
        if not np.isfinite(gradients[0]).all():
            break
        step = factor.solve(gradients[0])
        found = certify(gradients[0], float(losses[0]), exact)
        shrunk = found.gap < certificate.gap / 4
        if turn == 0 or found.gap < certificate.gap:
            certificate, x, loss, gradient = found, new, float(losses[0]), gradients[0]
            reason = bend_far_out(points, gradients, exact)
        if found.gap <= REFINED_GAP * max(abs(loss), first.gap / 100) or (turn and not shrunk):
            break
    reason = reason or _unbounded(factor, x, gradient)
    return Outcome(
        x=x, loss=loss, certificate=certificate if reason is None else None,
        start_gap=first.gap, lambda_min=factor.lambda_min, lambda_max=factor.lambda_max,
        num_flat=factor.null.shape[1], method=factor.method, precision=used,
        num_products=products, gradient_norm=certificate.gradient_norm, reason=reason,
    )  # fmt: skip


def _unbounded(factor: Factor, x: Floats, gradient: Floats) -> str | None:
    """Why there is no least value: a slope along a direction without curvature."""
    flat = float(np.linalg.norm(factor.null.T @ gradient))
    scale = factor.lambda_max * max(1.0, float(np.linalg.norm(x)))
    if flat > UNBOUNDED_SLOPE * min(scale, max(float(np.linalg.norm(gradient)), 1e-12 * scale)):
        return "it falls for ever along a direction without curvature"
    return None
