"""The least value of an exact convex quadratic over all rows, with a certificate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.check.asked import prepare
from downslope.check.certificate import DENSE_DIM
from downslope.check.least import Outcome, Work
from downslope.check.precision import wide
from downslope.data.generator import Generator
from downslope.errors import UsageError
from downslope.noise.statistics.ranges import count, positive
from downslope.objective import Loss, Model, Objective, Params

TOLERANCE = 1e-6  # of the loss
MAX_PRODUCTS = 1000


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where the least value is, and what proves it.

    Attributes:
        params: the trained leaves, in their own types.
        is_solved: the gap is at most `tolerance` times the loss.
        reason: why not; None where it is solved.
        loss: mean loss over all rows, without penalties.
        gap: the penalized loss is at most so much above its least value; None where nothing
            is proved.
        distance: of the parameters from the nearest solution, at most; None as before.
        gradient_norm: |r| over all rows, penalties included.
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
    tolerance: float = TOLERANCE,
) -> tuple[Model, Solution]:
    """The model at the least value of an exact convex quadratic loss, and the proof.

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
    asked = prepare(loss, model, data, penalty=penalty, l2=l2, penalize=penalize)
    found = solve(
        asked.objective, asked.params, asked.source, asked.regularizer, tolerance=tolerance
    )
    return asked.objective.model(found.params), found


def solve(
    objective: Objective,
    params: Params,
    source: Any,
    regularizer: Callable[[Params], Any] | None = None,
    *,
    part_rows: int | None = None,
    dense_dim: int = DENSE_DIM,
    tolerance: float = TOLERANCE,
    max_products: int = MAX_PRODUCTS,
    seconds: float = math.inf,
) -> Solution:
    """The least value of mean loss and penalties, where they are an exact convex quadratic.

    Up to `dense_dim` parameters the Hessian H is summed up over parts of the rows, in the memory
    of one part, and taken apart; x - H^-1 g is then refined with the gradient over all rows until
    the gap r' H^-1 r / 2 is small. Products are in float32, and once more in float64 where the
    scaled Hessian's condition asks for it; gradients are in float64. Beyond, conjugate gradients.
    Whether the loss is a quadratic is for `quadratic` to say; where it is none, the gradient
    does not vanish and the solution is not called solved.

    Args:
        objective: what is minimised; with one loss per example.
        params: the trained leaves to start at.
        source: rows of a table; read in order, once a pass.
        regularizer: gradient of what is added to the mean loss, linear in the parameters.
        part_rows: rows computed at once; by default what fits a cache.
        dense_dim: parameters up to which the whole Hessian is formed.
        tolerance: largest gap, as a share of the loss.
        max_products: for conjugate gradients.
        seconds: after which no further rows are read.

    Raises:
        OutOfTimeError: that time was not enough.
        UsageError: examples that interact, a source without end, or a value out of range.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, chapter 12.
    """
    if objective.interacts or not objective.separable:
        raise UsageError("solve needs one loss per example; the examples of this loss interact")
    if isinstance(source, Generator):
        raise UsageError("solve needs a number of rows; this source has no end")
    positive("tolerance", tolerance)
    count("max_products", max_products)
    if part_rows is not None:
        count("part_rows", part_rows)
    begin = time.perf_counter()
    with wide():
        try:
            deadline = begin + seconds
            work = Work(objective, params, source, regularizer, part_rows, tolerance, deadline)
            work.at("float32")
        except (TypeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"loss must do with 64-bit numbers of JAX; got {first}") from error
        outcome = work.dense() if work.start.size <= dense_dim else work.iterate(max_products)
    return _solution(work, outcome, time.perf_counter() - begin)


def _solution(work: Work, outcome: Outcome, seconds: float) -> Solution:
    """The outcome in the user's terms."""
    certificate, reason = outcome.certificate, outcome.reason
    if certificate is not None and not work.fits(
        certificate.gap, outcome.loss, outcome.start_gap, work.tolerance
    ):
        reason = f"the gradient left over all rows allows a gap of {certificate.gap:.2g}; " + (
            "more Hessian products are needed, or columns on more equal scales"
            if outcome.num_flat is None
            else "the loss is no quadratic there, or its columns are too close to each other"
        )
    with wide():
        whole = work.unravel(outcome.x)
        params = jax.tree.map(lambda p, q: np.asarray(p, q.dtype), whole, work.params)
    return Solution(
        params=params, is_solved=reason is None, reason=reason, loss=outcome.loss,
        gap=certificate and certificate.gap, distance=certificate and certificate.distance,
        gradient_norm=outcome.norm, lambda_min=outcome.lambda_min,
        lambda_max=outcome.lambda_max, num_flat=outcome.num_flat, method=outcome.method,
        precision=(outcome.precision, work.exact), num_products=outcome.num_products,
        num_passes=work.num_passes(), seconds=seconds,
        statement=_statement(outcome, reason),
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
