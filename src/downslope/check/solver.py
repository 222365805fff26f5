"""The least value of an exact convex quadratic over all rows, with a certificate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from downslope.arguments import number
from downslope.check.factor import Factor, factorize
from downslope.check.problem import prepare, wide
from downslope.check.quadratics import bend_far_out, far_line, precision_of
from downslope.check.row_sums import SAMPLE_ROWS, RowSums
from downslope.data.generator import Generator
from downslope.errors import UsageError
from downslope.estimate import counted
from downslope.noise.statistics.arrays import Floats
from downslope.objective import Loss, Model, Params

GAP_TOLERANCE = 1e-6  # of the loss
# Of the way down from the start: enough where the loss itself ends at 0.
ZERO_LOSS_TOLERANCE = 1e-10
DENSE_DIM = 2000  # parameters up to which the whole Hessian is formed
GRADIENT_ROUNDINGS = 4.0  # units in the last place of a sum of losses' gradients; assumed
REFINED_GAP = 1e-12  # of the loss: about what rounding float32 parameters leaves
MAX_REFINEMENTS = 6
# Condition of the scaled Hessian up to which one in float32 serves: each refinement then
# shrinks the error by about this times 4e-7.
MAX_FLOAT32_CONDITION = 1e4
HESSIAN_NOISE = {"float32": 4e-7, "float64": 8e-16}  # of an entry of the Hessian: a few roundings
# Below these shares of the scaled Hessian's largest eigenvalue directions are left out, in turn.
FAINT = (1e-10, 1e-7)
UNBOUNDED = 16.0  # times the fall times the curvature: a square; 2 is the bound, the rest rounding


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The least value that was found, and its proof.

    Attributes:
        params: the trained leaves, in their own types.
        is_solved: the gap is at most `tolerance` times the loss.
        reason: why not; None where it is solved.
        loss: mean loss over all rows, without penalties.
        gap: the penalized loss is at most this much above its least value; None where nothing
            is proved.
        distance: of the parameters from the nearest solution, at most; None as before.
        gradient_norm: of the gradient over all rows, penalties included.
        lambda_min, lambda_max: extreme curvatures; directions without curvature are left out.
        num_flat: directions without curvature; None where the loss is not finite. The solution
            of least norm is given then.
        method: of factorizing the Hessian: cholesky, eigenvectors or none.
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

    The Hessian is summed up over the rows and factorized. See `solve`.

    Args:
        loss, model, data, penalty: as for `downslope.fit`; at most 2,000 trained parameters.
        l2, penalize: adds l2/2 |w|^2 over the leaves that `penalize(model)` marks.
        tolerance: largest gap, as a share of the loss.

    Raises:
        UsageError: an argument out of range, too many parameters, or a loss of a wrong shape or
            whose examples interact.

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
        sums = RowSums(problem)
        if sums.start.size > DENSE_DIM:
            raise UsageError(
                f"solve takes up to {DENSE_DIM:,} parameters; got {sums.start.size:,}: train this "
                "model with downslope.fit"
            )
        found = solve(sums, tolerance=tolerance)
    return problem.objective.model(found.params), found


def solve(
    sums: RowSums, *, tolerance: float = GAP_TOLERANCE, seconds: float = math.inf
) -> Solution:
    """The least value of mean loss and penalties, where they are an exact convex quadratic.

    The Hessian H is summed up over parts of the rows, in the memory of one part, and factorized;
    x - H^-1 g is then refined with the gradient over all rows until the gap r' H^-1 r / 2 is
    small. Products are in float32, and once more in float64 where the scaled Hessian's condition
    asks for it; gradients are in float64.

    At the solution and far from it on both sides the gradient over all rows must lie on a straight
    line, else it is not called solved; what a sample can tell is for `quadratic` to say.

    Args:
        sums: of a loss with one value per example, used inside `wide`.
        tolerance: largest gap, as a share of the loss.
        seconds: after which no further rows are read.

    Raises:
        OutOfTimeError: that time was not enough.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, chapter 12.
    """
    begin = time.perf_counter()
    sums.deadline = begin + seconds
    source = sums.problem.source
    exact = precision_of(sums, source.read(0, min(SAMPLE_ROWS, source.num_rows)))
    first, factor, used, num_products = _factorized(sums, exact)
    best, reason = first, "it is not finite"
    if factor is not None:
        best, reason = _refined(sums, factor, first, used, exact)
    is_proved, faint = reason is None, None

    def is_close(point: _Point) -> bool:
        allowed = max(tolerance * abs(point.loss), ZERO_LOSS_TOLERANCE * first.gap)
        return point.gap <= allowed

    if factor is not None and is_proved and not is_close(best):
        faint = _without_faint(sums, factor, first, used, exact, is_close)
    if faint is not None:
        best, factor = faint
    elif is_proved and not is_close(best):
        reason = (
            f"the gradient left over all rows allows a gap of {best.gap:.2g}; its columns are too "
            "close to each other"
        )
    method = "none" if factor is None else factor.method
    num_flat = None if factor is None else factor.null.shape[1]
    statement = f"this loss was not solved: {reason}"
    if reason is None:
        statement = (
            f"this loss is an exact convex quadratic: solved in {num_products} Hessian products by "
            f"{method}, gap <= {best.gap:.1e} (loss {best.loss:.6g}); training is unnecessary"
        )
        if faint is not None:
            statement += (
                f"; left out: {counted(num_flat or 0, 'direction')} along which columns are too "
                "close to each other for numbers of 32 bits"
            )
        elif num_flat:
            flat = "1 direction does" if num_flat == 1 else f"{num_flat} directions do"
            statement += f"; {flat} not matter, the shortest solution is given"
    return Solution(
        params=sums.rounded(best.x)[1], is_solved=reason is None, reason=reason, loss=best.loss,
        gap=best.gap if is_proved else None,
        distance=float(np.linalg.norm(best.step)) if is_proved else None,
        gradient_norm=float(np.linalg.norm(best.gradient)),
        lambda_min=0.0 if factor is None else factor.lambda_min,
        lambda_max=0.0 if factor is None else factor.lambda_max, num_flat=num_flat, method=method,
        precision=(used, exact), num_products=num_products, num_passes=sums.num_passes,
        seconds=time.perf_counter() - begin, statement=statement,
    )  # fmt: skip


class _Point(NamedTuple):
    """Parameters, mean loss and gradient r over all rows, Newton's step H^-1 r, and the gap."""

    x: Floats
    loss: float
    gradient: Floats
    step: Floats
    gap: float


def _point(
    x: Floats, loss: float, gradient: Floats, factor: Factor, used: str, precision: str
) -> _Point:
    """The point with its gap r' H^-1 r / 2, with room for the rounding of H and of r.

    By Cauchy and Schwarz the size of what is summed up in r_j is at most sqrt(2 loss H_jj).

    Args:
        used: what H was computed in.
        precision: what r was.
    """
    dim, step, epsilon = len(gradient), factor.solve(gradient), float(jnp.finfo(precision).eps)
    gap = max(0.0, float(gradient @ step) / 2)
    hidden = GRADIENT_ROUNDINGS * epsilon * math.sqrt(2 * abs(loss) * dim)
    hidden = hidden**2 / (2 * factor.least) if factor.least else 0.0
    # (1 - rho) H <= H true, with rho the error of the scaled matrix over its least eigenvalue
    rho = min(0.5, math.sqrt(dim) * HESSIAN_NOISE[used] * factor.condition)
    gap = (math.sqrt(gap) + math.sqrt(hidden)) ** 2 / (1 - rho)
    return _Point(x, loss, gradient, step, gap)


def _factorized(sums: RowSums, exact: str) -> tuple[_Point, Factor | None, str, int]:
    """The start, a factor of the Hessian there, its precision, and the products that it took.

    The Hessian is summed up in float32, and once more in float64 where its condition asks for it;
    there is no factor of one that is not finite.
    """
    x, directions, num_products = sums.start, np.eye(sums.start.size), 0
    for precision in ("float32",) if exact == "float32" else ("float32", "float64"):
        loss, gradient, hessian = sums.products(x, directions, precision)
        num_products += len(directions)
        if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
            return _Point(x, loss, gradient, gradient, math.inf), None, precision, num_products
        factor = factorize(hessian, HESSIAN_NOISE[precision])
        if factor.method == "cholesky" and factor.condition <= MAX_FLOAT32_CONDITION:
            break
    first = _point(x, loss, gradient, factor, precision, precision)
    return first, factor, precision, num_products


def _refined(
    sums: RowSums, factor: Factor, first: _Point, used: str, exact: str
) -> tuple[_Point, str | None]:
    """Newton's steps with one factor, until rounding the parameters is all that is left.

    Returns the best point, and the reason why the loss has no least value there.
    """
    if not factor.is_convex:
        return first, "it curves downward along some direction"
    best = last = first
    reason: str | None = None
    for turn in range(MAX_REFINEMENTS):
        x = sums.rounded(factor.nearest(last.x - last.step))[0]
        points = far_line(x)
        losses, gradients = sums.gradients(points)
        if not np.isfinite(gradients[0]).all():
            break
        last = _point(x, float(losses[0]), gradients[0], factor, used, exact)
        shrunk = last.gap < best.gap / 4
        if turn == 0 or last.gap < best.gap:
            best, reason = last, bend_far_out(points, gradients, exact)
        if last.gap <= REFINED_GAP * max(abs(best.loss), first.gap / 100) or (turn and not shrunk):
            break
    return best, reason or _unbounded(factor, first, best)


def _without_faint(
    sums: RowSums,
    factor: Factor,
    first: _Point,
    used: str,
    exact: str,
    is_close: Callable[[_Point], bool],
) -> tuple[_Point, Factor] | None:
    """The solution without directions that ask for larger parameters than float32 resolves.

    Its gap is that over all directions.
    """
    for limit in FAINT:
        fewer = factor.without(limit)
        point, reason = _refined(sums, fewer, first, used, exact)
        if reason is None and is_close(point):
            left = _point(point.x, point.loss, point.gradient, factor, used, exact)
            return point._replace(gap=left.gap), fewer
    return None


def _unbounded(factor: Factor, first: _Point, point: _Point) -> str | None:
    """The reason why there is no least value: a slope along a direction without curvature.

    Columns that nearly depend on each other leave a slope too, along a direction whose curvature
    is lost in rounding. A loss that falls by f at most has a slope of at most sqrt(2 f c) there,
    with c that curvature.
    """
    slopes = np.abs(factor.null.T @ point.gradient)
    falls = abs(first.loss) + abs(point.loss)
    if (slopes > np.sqrt(UNBOUNDED * falls * factor.null_curvature)).any():
        return "it falls for ever along a direction without curvature"
    return None
