"""Whether a loss is an exact quadratic of its parameters: then it can be solved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.check.precision import wide
from downslope.check.problem import prepare, spread_sample
from downslope.check.row_sums import SAMPLE_ROWS, RowSums, typical
from downslope.data.arrays import Arrays
from downslope.estimate import Estimate
from downslope.noise.curvature.spectrum import extreme_eigenvalues
from downslope.noise.statistics.ranges import Floats
from downslope.objective import Loss, Model
from downslope.tree import map_arrays

# Lengths of the lines, times the typical size of a parameter. The first rejects most losses; the
# last ones find pieces that begin far out.
SCALES = (1.0, 1e2, 1e-2, 1e4, 1e6)
LINES_PER_SCALE = 3
BEND_TOLERANCE = {"float64": 1e-8, "float32": 1e-3}  # of a gradient's change along a line
ROUNDINGS = 32.0  # units in the last place that a sum of gradients may be off by; assumed
FAR = 100.0  # times the typical size of a parameter: where a solution is checked over all rows
EXACT_DIM = 64  # parameters up to which the spectrum of the sample's Hessian is found exactly


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """Whether a loss is an exact quadratic.

    Attributes:
        is_quadratic: its gradient is linear in the parameters, at every scale.
        kappa: |g(x+v) + g(x-v) - 2 g(x)| over |g(x+v) - g(x)| + |g(x-v) - g(x)|, the largest
            seen, without what rounding explains; None where a gradient was not finite.
        scale: the scale at which that was, times the typical size of a parameter.
        is_random: the gradient depends on the key.
        interacts: the loss of a row depends on the other rows of its batch.
        is_flat: no curvature was seen: a linear loss, without a least value.
        has_negative_curvature: along some direction, so that there is no least value.
        precision: float64, or float32 where the loss insists on it.
        lambda_min, lambda_max: least and largest curvature of the sample's mean loss; None where
            they were not asked for.
        statement: all this in one sentence.
    """

    is_quadratic: bool
    kappa: float | None
    scale: float
    precision: str
    is_random: bool = False
    interacts: bool = False
    is_flat: bool = False
    has_negative_curvature: bool = False
    lambda_min: Estimate | None = None
    lambda_max: Estimate | None = None

    @property
    def is_solvable(self) -> bool:
        """Whether nothing seen speaks against solving it over all rows."""
        fault = self.is_random or self.interacts or self.is_flat or self.has_negative_curvature
        return self.is_quadratic and not fault

    @property
    def statement(self) -> str:
        if self.kappa is None:
            return f"not a quadratic: at {self.scale:g} times the parameters it is not finite"
        if not self.is_quadratic:
            return (
                f"not a quadratic: at {self.scale:g} times the parameters its gradient bends by "
                f"{self.kappa:.2g} of its change"
            )
        if self.is_random:
            return "a quadratic for each key, but it depends on the key: it can only be searched"
        if self.interacts:
            return "a quadratic of each batch whose examples interact: there is none of all rows"
        if self.is_flat:
            return "linear: it has no curvature, and no least value"
        if self.has_negative_curvature:
            return "a quadratic that curves downward along some direction: it has no least value"
        if self.lambda_min is None or self.lambda_max is None:
            return "an exact quadratic, nothing seen against convexity: it can be solved"
        return (
            "an exact convex quadratic: it can be solved; curvature of the sample "
            f"{self.lambda_min.value or 0:.3g} to {self.lambda_max.value:.3g}"
        )

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
    """Whether a loss is an exact quadratic of the trained parameters, and convex.

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
        >>> found = quadratic(loss, {"w": np.zeros(3, "float32")}, x)
        >>> found.is_quadratic, found.is_solvable
        (True, True)
    """
    problem = prepare(loss, model, data, penalty=penalty, l2=l2, penalize=penalize)
    rows = spread_sample(problem.source, SAMPLE_ROWS)
    with wide():
        sums = RowSums(dataclasses.replace(problem, source=Arrays(rows, wide=True)))
        found = examine(sums, rows)
        if not found.is_quadratic:
            return found
        least, most = _ends(sums, rows)
    bent = found.has_negative_curvature
    if least.value is not None and most.value is not None:
        bent |= least.value < -BEND_TOLERANCE[found.precision] * max(most.value, 0.0)
    return dataclasses.replace(
        found, lambda_min=least, lambda_max=most, has_negative_curvature=bent
    )


def examine(sums: RowSums, rows: Any, seed: int = 0) -> Quadratic:
    """The same from a sample of stored rows, without the ends of the spectrum; inside `wide`.

    Args:
        sums: of the loss.
        rows: a few rows of the source, before unpacking; 256 are enough.
        seed: of the random points.
    """
    draw, size, start = np.random.default_rng(seed), sums.typical, sums.start
    precision = sums.precision(rows)
    tolerance, bends = BEND_TOLERANCE[precision], []
    for scale in SCALES:
        for _ in range(LINES_PER_SCALE):
            x = start + scale * size * draw.standard_normal(start.size)
            v = scale * size * draw.standard_normal(start.size)
            points = line(x, v)
            bend = bend_of(points, sums.sample_gradients(rows, points)[1], precision)
            bends.append((scale, bend))
            kappa = None if bend is None else bend.kappa
            if bend is None or bend.kappa > tolerance:
                return Quadratic(is_quadratic=False, kappa=kappa, scale=scale, precision=precision)
    worst_scale, worst = max(bends, key=lambda each: each[1].kappa)
    curved = [bend for _, bend in bends if bend.is_curved]
    by_key, by_rows = _depends(sums, rows, start + size * draw.standard_normal(start.size))
    return Quadratic(
        is_quadratic=True, kappa=worst.kappa, scale=worst_scale, precision=precision,
        is_random=by_key > 10 * tolerance,
        interacts=not sums.problem.objective.separable or by_rows > 10 * tolerance,
        is_flat=not curved,
        has_negative_curvature=any(bend.cosine < -tolerance for bend in curved),
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
    """How the gradient bends along a `line`, or None where it is not finite."""
    here, above, below = gradients
    size = float(np.linalg.norm(np.abs(gradients).sum(axis=0)))
    if not np.isfinite(size):
        return None
    norm = np.linalg.norm
    rounding = ROUNDINGS * float(jnp.finfo(precision).eps) * size
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
    return line(x, FAR * typical(x) * np.random.default_rng(0).standard_normal(x.size))


def bend_far_out(points: Floats, gradients: Floats, precision: str) -> str | None:
    """Why a solution on a `far_line` is none of a quadratic over all rows; else None."""
    bend = bend_of(points, gradients, precision)
    if bend is None:
        return f"it is not finite at {FAR:g} times the solution"
    if bend.kappa > BEND_TOLERANCE[precision]:
        return f"it is no quadratic: its gradient over all rows bends by {bend.kappa:.2g}"
    return None


def _depends(sums: RowSums, rows: Any, x: Floats) -> tuple[float, float]:
    """How much the gradient changes with the key, and with the rest of the batch."""
    points = np.stack([x, x, x])

    def gradient(rows: Any, **options: Any) -> Floats:
        return sums.sample_gradients(rows, points, **options)[1][0]

    count = jax.tree.leaves(rows)[0].shape[0]
    half = (count + 1) // 2
    order = np.arange(count)
    mixed = map_arrays(lambda a: a[np.where(order < half, order, count - 1 - order)], rows)
    by_key = _difference(gradient(rows), gradient(rows, key=1))
    return by_key, _difference(gradient(rows, length=half), gradient(mixed, length=half))


def _difference(one: Floats, other: Floats) -> float:
    size = float(np.linalg.norm(one) + np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / size if size > 0 else 0.0


def _ends(sums: RowSums, rows: Any) -> tuple[Estimate, Estimate]:
    """Least and largest curvature of the sample's mean loss."""
    dim = sums.start.size
    found = extreme_eigenvalues(
        lambda v: sums.products(sums.start, v[None], sums.dtype, rows)[2][0],
        dim,
        num_products=dim if dim <= EXACT_DIM else None,
        key=0,
    )
    return found.lambda_min, found.lambda_max
