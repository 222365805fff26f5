"""The least value of an exact convex quadratic over all rows, with a certificate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from downslope.arguments import number
from downslope.check.certificate import Outcome, fits
from downslope.check.conjugate_gradients import solve_conjugate_gradients
from downslope.check.normal_equations import solve_normal_equations
from downslope.check.problem import prepare, wide
from downslope.check.quadratics import precision_of
from downslope.check.row_sums import SAMPLE_ROWS, RowSums
from downslope.data.generator import Generator
from downslope.errors import UsageError
from downslope.objective import Loss, Model, Params

GAP_TOLERANCE = 1e-6  # of the loss
DENSE_DIM = 2000  # parameters up to which the whole Hessian is formed
MAX_PRODUCTS = 1000


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where the least value is, and what proves it.

    Attributes:
        params: the trained leaves, in their own types.
        is_solved: the gap is at most `tolerance` times the loss.
        reason: why not; None where it is solved.
        loss: mean loss over all rows, without penalties.
        gap: the penalized loss is at most this much above its least value; None where nothing
            is proved.
        distance: of the parameters from the nearest solution, at most; None as before.
        gradient_norm: of the gradient over all rows, penalties included.
        lambda_min, lambda_max: extreme curvatures; with conjugate gradients the least one seen,
            which is not below the true one. Directions without curvature are left out.
        num_flat: directions without curvature; None where they were not counted. The solution of
            least norm is given then.
        method: cholesky, eigenvectors or conjugate gradients.
        precision: of the Hessian's products, and of the gradient.
        num_products: products with the Hessian over all rows.
        num_passes: passes over the data.
        seconds: wall time, with compiling.
        statement: all this in one sentence.
    """

    params: Params
    is_solved: bool
    reason: str | None
    loss: float
    gap: float | None
    distance: float | None
    gradient_norm: float
    lambda_min: float
    lambda_max: float
    num_flat: int | None
    method: str
    precision: tuple[str, str]
    num_products: int
    num_passes: int
    seconds: float
    statement: str

    def __str__(self) -> str:
        return self.statement


def solve_loss(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    l2: float = 0.0,
    penalize: Callable[[Model], Any] | None = None,
    tolerance: float = GAP_TOLERANCE,
) -> tuple[Model, Solution]:
    """The model at the least value of an exact convex quadratic loss, and the proof.

    Up to 2,000 parameters the Hessian is summed up over the rows and factorized; beyond, conjugate
    gradients. See `solve`.

    Args:
        loss, model, data, penalty: as for `downslope.fit`.
        l2, penalize: adds l2/2 |w|^2 over the leaves that `penalize(model)` marks.
        tolerance: largest gap, as a share of the loss.

    Raises:
        UsageError: an argument out of range, or a loss of a wrong shape or whose examples
            interact.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 3)).astype("float32")
        >>> y = x @ np.array([1, -2, 3], "float32") + 5
        >>> def loss(model, batch, key):
        ...     return 0.5 * (batch[0] @ model["w"] + model["b"] - batch[1]) ** 2
        >>> model = {"w": np.zeros(3, "float32"), "b": np.float32(0)}
        >>> model, solution = solve_loss(loss, model, (x, y))
        >>> model["w"].round(5).tolist(), round(float(model["b"]), 5), solution.is_solved
        ([1.0, -2.0, 3.0], 5.0, True)
    """
    number("tolerance", tolerance, above=0)
    problem = prepare(loss, model, data, penalty=penalty, l2=l2, penalize=penalize)
    if problem.objective.interacts or not problem.objective.separable:
        raise UsageError("solve needs one loss per example; the examples of this loss interact")
    if isinstance(problem.source, Generator):
        raise UsageError("solve needs a number of rows; this source has no end")
    with wide():
        found = solve(RowSums(problem), tolerance=tolerance)
    return problem.objective.model(found.params), found


def solve(
    sums: RowSums,
    *,
    dense_dim: int = DENSE_DIM,
    tolerance: float = GAP_TOLERANCE,
    max_products: int = MAX_PRODUCTS,
    seconds: float = math.inf,
) -> Solution:
    """The least value of mean loss and penalties, where they are an exact convex quadratic.

    Up to `dense_dim` parameters the Hessian H is summed up over parts of the rows, in the memory
    of one part, and factorized; x - H^-1 g is then refined with the gradient over all rows until
    the gap r' H^-1 r / 2 is small. Products are in float32, and once more in float64 where the
    scaled Hessian's condition asks for it; gradients are in float64. Beyond, conjugate gradients.

    At the solution and far from it on both sides the gradient over all rows must lie on a straight
    line, else it is not called solved; what a sample can tell is for `quadratic` to say.

    Args:
        sums: of a loss with one value per example, used inside `wide`.
        dense_dim: parameters up to which the whole Hessian is formed.
        tolerance: largest gap, as a share of the loss.
        max_products: for conjugate gradients.
        seconds: after which no further rows are read.

    Raises:
        OutOfTimeError: that time was not enough.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, chapter 12.
    """
    begin = time.perf_counter()
    sums.deadline = begin + seconds
    source = sums.problem.source
    exact = precision_of(sums, source.read(0, min(SAMPLE_ROWS, source.num_rows)))
    if sums.start.size <= dense_dim:
        outcome = solve_normal_equations(sums, exact)
    else:
        outcome = solve_conjugate_gradients(
            sums, exact, tolerance=tolerance, max_products=max_products
        )
    certificate, reason = outcome.certificate, outcome.reason
    if certificate is not None and not fits(
        certificate.gap, outcome.loss, outcome.start_gap, tolerance
    ):
        reason = f"the gradient left over all rows allows a gap of {certificate.gap:.2g}; " + (
            "more Hessian products are needed, or columns on more equal scales"
            if outcome.num_flat is None
            else "its columns are too close to each other"
        )
    return Solution(
        params=sums.rounded(outcome.x)[1], is_solved=reason is None, reason=reason,
        loss=outcome.loss, gap=certificate and certificate.gap,
        distance=certificate and certificate.distance, gradient_norm=outcome.gradient_norm,
        lambda_min=outcome.lambda_min, lambda_max=outcome.lambda_max, num_flat=outcome.num_flat,
        method=outcome.method, precision=(outcome.precision, exact),
        num_products=outcome.num_products, num_passes=sums.num_passes,
        seconds=time.perf_counter() - begin, statement=_statement(outcome, reason),
    )  # fmt: skip


def _statement(outcome: Outcome, reason: str | None) -> str:
    if reason is not None:
        return f"this loss was not solved: {reason}"
    assert outcome.certificate is not None
    how = f"solved in {outcome.num_products} Hessian products by {outcome.method}"
    flat = ""
    if outcome.num_flat:
        flat = f"; {outcome.num_flat} directions do not matter, the shortest solution is given"
    assumed = ""
    if outcome.num_flat is None:
        assumed = f", if no curvature is below {outcome.lambda_min:.2g}"
    return (
        f"this loss is an exact convex quadratic: {how}, gap <= {outcome.certificate.gap:.1e} "
        f"(loss {outcome.loss:.6g}){assumed}; training is unnecessary{flat}"
    )
