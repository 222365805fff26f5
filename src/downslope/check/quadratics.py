"""Test of a loss for being an exact quadratic of its parameters, which can be solved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.check.problem import prepare, spread_sample, wide
from downslope.check.row_sums import SAMPLE_ROWS, RowSums
from downslope.data.arrays import Arrays
from downslope.noise.statistics.arrays import Floats
from downslope.objective import Loss, Model
from downslope.tree import map_arrays

# Lengths of the lines, times the typical size of a parameter. The first rejects most losses; the
# last ones find pieces that begin far out.
LINE_SCALES = (1.0, 1e2, 1e-2, 1e4, 1e6)
LINES_PER_SCALE = 3
# The same for the line through a solution, on which all rows are checked.
FAR_SCALE = 100.0
BEND_TOLERANCE = {"float64": 1e-8, "float32": 1e-3}  # of a gradient's change along a line
SUM_ROUNDINGS = 32.0  # units in the last place that a sum of gradients may be off by; assumed
# A gradient of float64 resolves a change of this share of it with four digits; one of float32
# does not see the change at all.
FINE_STEP = 2.0**-33
MAX_EXACT_DIM = 2000  # parameters up to which all curvatures of the sample are computed
CURVES_DOWNWARD = "a quadratic that curves downward along some direction: it has no least value"


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """Verdict on a loss: an exact quadratic or none, solvable or not.

    Attributes:
        is_quadratic: its gradient is linear in the parameters, at every scale.
        is_solvable: nothing in a sample speaks against solving it over all rows.
        kappa: |g(x+v) + g(x-v) - 2 g(x)| over |g(x+v) - g(x)| + |g(x-v) - g(x)|, the largest
            seen, without what rounding explains; None where a gradient was not finite.
        scale: the scale at which that was, times the typical size of a parameter.
        precision: float64, or float32 where the loss insists on it.
        statement: all this in one sentence, with the reason why it cannot be solved.
    """

    is_quadratic: bool
    is_solvable: bool
    kappa: float | None
    scale: float
    precision: str
    statement: str

    def __str__(self) -> str:
        return self.statement


def quadratic(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    l2: float = 0.0,
    penalize: Callable[[Model], Any] | None = None,
) -> Quadratic:
    """Test a loss for being an exact, convex quadratic of the trained parameters.

    At five scales, from random points x along random v, g(x+v) + g(x-v) - 2 g(x) must be 0 but
    for rounding. One scale is not enough: a small quartic looks like a quadratic on a small one,
    and a kink far out is met on a large one only. Rows are fixed, 256 of them: a sum of quadratics
    over rows is a quadratic on any sample, and what a rare row does otherwise shows when
    `solve_loss` takes the same difference over all rows.

    Args:
        loss, model, data, penalty: as for `downslope.fit`.
        l2, penalize: adds l2/2 |w|^2 over the leaves that `penalize(model)` marks.

    Raises:
        UsageError: an argument out of range, a loss of a wrong shape, or one whose code does not
            run where JAX has 64-bit numbers.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 3)).astype("float32")
        >>> def loss(model, batch, key):
        ...     return 0.5 * (batch @ model["w"] - 1) ** 2
        >>> print(quadratic(loss, {"w": np.zeros(3, "float32")}, x))
        an exact quadratic, nothing seen against convexity: it can be solved
    """
    problem = prepare(loss, model, data, penalty=penalty, l2=l2, penalize=penalize)
    rows = spread_sample(problem.source, SAMPLE_ROWS)
    with wide():
        sums = RowSums(dataclasses.replace(problem, source=Arrays(rows, wide=True)))
        found = examine(sums, rows)
        if not found.is_solvable or sums.start.size > MAX_EXACT_DIM:
            return found
        hessian = sums.products(sums.start, np.eye(sums.start.size), sums.dtype)[2]
    curvatures = np.linalg.eigvalsh(hessian)
    if curvatures[0] >= -BEND_TOLERANCE[found.precision] * curvatures[-1]:
        return found
    return dataclasses.replace(found, is_solvable=False, statement=CURVES_DOWNWARD)


def examine(sums: RowSums, rows: Any) -> Quadratic:
    """The same from a sample of stored rows; inside `wide`.

    Args:
        sums: of the loss.
        rows: a few rows of the source, before unpacking; 256 are enough.
    """
    draw, start, size = np.random.default_rng(0), sums.start, typical(sums.start)
    precision = precision_of(sums, rows)
    tolerance, seen = BEND_TOLERANCE[precision], []
    for scale in LINE_SCALES:
        for _ in range(LINES_PER_SCALE):
            x, v = (scale * size * draw.standard_normal(start.size) for _ in range(2))
            points = line(start + x, v)
            bend = bend_of(points, sums.sample_gradients(rows, points)[1], precision)
            if bend is None or bend.kappa > tolerance:
                how = "it is not finite"
                if bend is not None:
                    how = f"its gradient bends by {bend.kappa:.2g} of its change"
                return Quadratic(
                    is_quadratic=False, is_solvable=False, kappa=bend and bend.kappa, scale=scale,
                    precision=precision,
                    statement=f"not a quadratic: at {scale:g} times the parameters {how}",
                )  # fmt: skip
            seen.append((scale, bend))
    scale, worst = max(seen, key=lambda each: each[1].kappa)
    x = start + size * draw.standard_normal(start.size)
    fault = _fault(sums, rows, x, [bend for _, bend in seen], tolerance)
    return Quadratic(
        is_quadratic=True, is_solvable=fault is None, kappa=worst.kappa, scale=scale,
        precision=precision, statement=fault or "an exact quadratic, nothing seen against "
        "convexity: it can be solved",
    )  # fmt: skip


@dataclass(frozen=True)
class Bend:
    """Second difference of a gradient along a line.

    Attributes:
        kappa: its size over that of the first differences, without what rounding explains.
        is_curved: the gradient changes at all.
        cosine: between the step and the gradient's change: below 0 where it curves downward.
    """

    kappa: float
    is_curved: bool
    cosine: float


def line(x: Floats, v: Floats) -> Floats:
    """The points x, x + v and x - v, [3, dim]."""
    return np.stack([x, x + v, x - v])


def bend_of(points: Floats, gradients: Floats, precision: str) -> Bend | None:
    """Bend of the gradient along a `line`, or None where it is not finite."""
    here, above, below = gradients
    size, norm = float(np.linalg.norm(np.abs(gradients).sum(axis=0))), np.linalg.norm
    if not np.isfinite(size):
        return None
    rounding = SUM_ROUNDINGS * float(jnp.finfo(precision).eps) * size
    turn = float(norm(above - here) + norm(below - here))
    bend = float(norm(above + below - 2 * here))
    way = points[1] - points[2]
    span = float(norm(above - below) * norm(way))
    return Bend(
        kappa=max(bend - rounding, 0.0) / turn if turn > rounding else 0.0,
        is_curved=turn > rounding,
        cosine=float((above - below) @ way) / span if span > 0 else 0.0,
    )


def far_line(x: Floats) -> Floats:
    """A line through a solution, to points far from it; the same for the same x."""
    return line(x, FAR_SCALE * typical(x) * np.random.default_rng(0).standard_normal(x.size))


def bend_far_out(points: Floats, gradients: Floats, precision: str) -> str | None:
    """The reason why a solution, on its `far_line`, is none of a quadratic over all rows."""
    bend = bend_of(points, gradients, precision)
    if bend is None:
        return f"it is not finite at {FAR_SCALE:g} times the solution"
    if bend.kappa > BEND_TOLERANCE[precision]:
        return f"it is no quadratic: its gradient over all rows bends by {bend.kappa:.2g}"
    return None


def typical(x: Floats) -> float:
    """Root mean square of the parameters; 1 where all are 0."""
    return float(np.sqrt(np.square(x).mean())) or 1.0


def precision_of(sums: RowSums, rows: Any) -> str:
    """The type that gradients are precise to: float64, or float32.

    A loss may compute in float32 whatever it is given. Then a gradient does not change by 2^-33 of
    itself where a step along a line says that it must.
    """
    draw, size = np.random.default_rng(0), typical(sums.start)
    x = sums.start + size * draw.standard_normal(sums.start.size)
    v = size * draw.standard_normal(sums.start.size)
    _, (here, far, _) = sums.sample_gradients(rows, line(x, v))
    turn = float(np.linalg.norm(far - here))
    step = FINE_STEP * float(np.linalg.norm(here)) / turn if turn > 0 else 0.0
    _, (_, near, _) = sums.sample_gradients(rows, line(x, step * v))
    missed = float(np.linalg.norm(near - here - step * (far - here)))
    return "float64" if sums.dtype == np.float64 and missed <= step * turn / 8 else "float32"


def _fault(sums: RowSums, rows: Any, x: Floats, bends: list[Bend], tolerance: float) -> str | None:
    """The reason why a quadratic of a sample cannot be solved over all rows; or None."""
    points = np.stack([x, x, x])

    def gradient(rows: Any, **options: Any) -> Floats:
        return sums.sample_gradients(rows, points, **options)[1][0]

    count = jax.tree.leaves(rows)[0].shape[0]
    half, order = (count + 1) // 2, np.arange(count)
    mixed = map_arrays(lambda a: a[np.where(order < half, order, count - 1 - order)], rows)
    if _difference(gradient(rows), gradient(rows, key=1)) > 10 * tolerance:
        return "a quadratic for each key, but it depends on the key: it can only be searched"
    alone, beside_others = gradient(rows, length=half), gradient(mixed, length=half)
    interacts = _difference(alone, beside_others) > 10 * tolerance
    if interacts or not sums.problem.objective.separable:
        return "a quadratic of each batch whose examples interact: there is none of all rows"
    if not any(bend.is_curved for bend in bends):
        return "linear: it has no curvature, and no least value"
    if any(bend.is_curved and bend.cosine < -tolerance for bend in bends):
        return CURVES_DOWNWARD
    return None


def _difference(one: Floats, other: Floats) -> float:
    size = float(np.linalg.norm(one) + np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / size if size > 0 else 0.0
