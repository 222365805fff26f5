"""The least value of a quadratic by conjugate gradients, for many parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import linalg

from downslope.check.certificate import Outcome, failed, fits, with_bound
from downslope.check.quadratics import bend_far_out, far_line
from downslope.check.row_sums import RowSums
from downslope.noise.statistics.arrays import Floats

FLAT_CURVATURE = 1e-8  # of the largest curvature: what float32 products cannot tell from 0
MAX_RESTARTS = 12
# Of the residual, before the gradient is computed anew: float32 products drift.
RESIDUAL_SHRINK = 1e-4


class _NotConvexError(Exception):
    """A direction without curvature, or with negative curvature, was met."""


@dataclass
class _Krylov:
    """Products of one call of `scipy.sparse.linalg.cg`, and the curvatures that they tell.

    Steps and directions give alpha and beta of conjugate gradients, those the Lanczos matrix,
    whose eigenvalues (Ritz values) lie inside the spectrum of H.
    """

    product: Callable[[Floats], Floats]
    squares: list[float] = field(default_factory=list)  # |p|^2 of each direction
    curvatures: list[float] = field(default_factory=list)  # p' H p
    points: list[Floats] = field(default_factory=list)  # the last two
    alphas: list[float] = field(default_factory=list)

    def apply(self, direction: Floats) -> Floats:
        image = self.product(direction)
        self.squares.append(float(direction @ direction))
        self.curvatures.append(float(direction @ image))
        seen = [c / s for c, s in zip(self.curvatures, self.squares, strict=True)]
        if not seen[-1] > FLAT_CURVATURE * max(0.0, *seen):
            raise _NotConvexError
        return image

    def follow(self, x: Floats) -> None:
        before = self.points[-1] if self.points else np.zeros_like(x)
        step = float(np.linalg.norm(x - before))
        self.alphas.append(step / math.sqrt(self.squares[len(self.alphas)]))
        self.points = [x.copy()]

    def ritz(self) -> tuple[float, float]:
        """Least and largest Ritz value; Golub and Van Loan, Matrix Computations, 10.2.6."""
        alphas = np.array(self.alphas)
        if not len(alphas):
            return math.inf, 0.0
        residuals = alphas * self.curvatures[: len(alphas)]  # |r|^2 = alpha p' H p
        betas = residuals[1:] / residuals[:-1]
        diagonal = 1 / alphas
        diagonal[1:] += betas / alphas[:-1]
        values = linalg.eigvalsh_tridiagonal(diagonal, np.sqrt(betas) / alphas[:-1])
        # rounding may leave a tiny or negative one, which no Hessian without flat directions has
        return max(float(values[0]), 1e-12 * float(values[-1])), float(values[-1])


def solve_conjugate_gradients(
    sums: RowSums, exact: str, *, tolerance: float, max_products: int
) -> Outcome:
    """The solution by `scipy.sparse.linalg.cg`, begun anew where rounding has led it astray.

    Products are in float32, a pass over the rows each. Along directions without curvature it does
    not move: of all solutions, the nearest to the start.

    Args:
        sums: of a loss that is a quadratic.
        exact: what its gradients are precise to.
        tolerance: largest gap, as a share of the loss.
        max_products: to spend at most.
    """
    from scipy.sparse import linalg as sparse

    make_operator: Any = sparse.LinearOperator

    x, spent, least, most, start_gap = sums.start, 0, math.inf, 0.0, 0.0
    losses, gradients = sums.gradients(far_line(x))
    reason: str | None = None
    certificate = with_bound(gradients[0], 0.0)
    for _ in range(MAX_RESTARTS):
        krylov = _Krylov(lambda v, x=x: sums.products(x, v[None], "float32")[2][0])
        operator = make_operator((x.size, x.size), matvec=krylov.apply, dtype=np.float64)
        try:
            move, _ = sparse.cg(operator, -gradients[0], rtol=RESIDUAL_SHRINK, atol=0.0,
                         maxiter=max_products - spent, callback=krylov.follow)  # fmt: skip
        except _NotConvexError:
            move = krylov.points[-1] if krylov.points else np.zeros_like(x)
            reason = "along some direction it does not curve upward"
        spent += len(krylov.squares)
        low, high = krylov.ritz()
        least, most = min(least, low), max(most, high)
        start_gap = start_gap or float(-gradients[0] @ move) / 2
        x = sums.rounded(x + move)[0]
        points = far_line(x)
        losses, gradients = sums.gradients(points)
        if not np.isfinite(gradients[0]).all():
            return failed(sums.start, float(losses[0]), gradients[0], spent, "float32")
        certificate = with_bound(gradients[0], least if math.isfinite(least) else 0.0)
        reason = reason or bend_far_out(points, gradients, exact)
        close = fits(certificate.gap, float(losses[0]), start_gap, tolerance / 2)
        if reason or close or spent >= max_products:
            break
    return Outcome(
        x=x, loss=float(losses[0]), certificate=certificate if reason is None else None,
        start_gap=start_gap, lambda_min=least if math.isfinite(least) else 0.0,
        lambda_max=most, num_flat=None, method="conjugate gradients", precision="float32",
        num_products=spent, gradient_norm=certificate.gradient_norm, reason=reason,
    )  # fmt: skip
