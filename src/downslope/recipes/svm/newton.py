"""Newton steps on the smoothed objective of a support vector machine (NumPy, rows in pieces)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from downslope.recipes.svm.duals import Floats, Rows
from downslope.recipes.svm.problem import Problem

FACTORED = 4096  # columns up to which the preconditioner is factored: 128 MiB
PRODUCTS = 200  # of conjugate gradients in a step, at most
ACCURACY = 1e-3  # of a step, relative; a coarse step is a descent direction all the same
HALVINGS = 40
ENOUGH = 1e-4  # share of the promised decrease that must come true (Armijo)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Both objectives at some weights, one of each for every output.

    Attributes:
        weights: [width, K].
        outputs: [n, K].
        ramp: width of the parabola at the kink [K], in units of the margin.
        objective: without smoothing [K].
        dual_objective: of the dual point that the outputs give [K], or of a share of it, where
            that is higher.
        gradient: of the smoothed objective; the weights less those of the whole dual point.
        slack: half the gradient's squared norm [K].
        ramps: what else the gap to the whole dual point is made of [K].
        rows: losses and duals of the rows.
    """

    weights: Floats
    outputs: Floats
    ramp: Floats
    objective: Floats
    dual_objective: Floats
    gradient: Floats
    slack: Floats
    ramps: Floats
    rows: Rows


def dots(a: Floats, b: Floats) -> Floats:
    """Inner products of weights, output by output [K]."""
    return np.einsum("ij,ij->j", a, b)


def look(problem: Problem, weights: Floats, outputs: Floats, ramp: Floats) -> Point:
    """Both objectives; one pass over the rows."""
    rows = problem.rows(outputs, ramp)
    pulled = problem.pulled(rows.q)
    gradient = weights - pulled
    objective = dots(weights, weights) / 2 + problem.cost @ rows.loss
    square, slack = dots(pulled, pulled), dots(gradient, gradient) / 2
    linear, dual = problem.cost @ np.abs(rows.q), problem.cost @ rows.dual
    # far from the least objective the dual point is much too long: along its ray, which is
    # allowed down to 0, the dual objective is the parabola share * linear - share^2 * bent
    bent = linear - dual + square / 2
    share = np.clip(linear / np.maximum(2 * bent, 1e-300), 0, 1)
    return Point(
        weights=weights,
        outputs=outputs,
        ramp=ramp,
        objective=objective,
        dual_objective=share * linear - share**2 * bent,
        gradient=gradient,
        slack=slack,
        ramps=np.maximum(0.0, objective - dual + square / 2 - slack),
        rows=rows,
    )


def newton_step(problem: Problem, at: Point, wanted: NDArray[np.bool_]) -> Point | None:
    """The point after one step, or None where no step lowers the smoothed objective.

    Each output goes its own way.

    Args:
        wanted: which outputs are to move [K].
    """
    try:
        move = -_solve(problem, at, wanted)
    except linalg.LinAlgError:  # rows so large that rounding swallows the weights' own square
        return None
    slope = dots(at.gradient, move)
    outputs = problem.outputs(move)
    cross, square = dots(at.weights, move), dots(move, move)
    losses = problem.cost @ at.rows.smooth
    size = np.where(slope < 0, 1.0, 0.0)
    for _ in range(HALVINGS):
        there = problem.rows(at.outputs + size * outputs, at.ramp)
        change = problem.cost @ there.smooth - losses + size * (cross + size / 2 * square)
        short = change > ENOUGH * size * slope
        if not short.any():
            break
        size = np.where(short, size / 2, size)
    else:
        size = np.where(short, 0.0, size)
    if not size.any():
        return None
    return look(problem, at.weights + size * move, at.outputs + size * outputs, at.ramp)


def _solve(problem: Problem, at: Point, wanted: NDArray[np.bool_]) -> Floats:
    """H^-1 gradient: factored, or by conjugate gradients where the columns are many."""
    bend = at.rows.bend * wanted
    bent = np.flatnonzero(bend.any(axis=1))
    bend = problem.cost[bent, None] * bend[bent]
    undo, right = _blocks(problem, bent, bend), at.gradient * wanted
    if problem.width <= FACTORED:
        return undo(right)

    def product(moves: Floats) -> Floats:
        found, start = moves.copy(), 0
        for _, rows in problem.pieces(bent):
            here = slice(start, start := start + len(rows))
            found += rows.T @ (bend[here] * (rows @ moves))
        return found

    return _conjugate(product, undo, right)


def _blocks(problem: Problem, chosen: NDArray[np.intp], bend: Floats) -> Callable[[Floats], Floats]:
    """Undoes I + sum_i bend_ik x_i x_i', output by output; above `FACTORED` its diagonal only."""
    outputs = range(problem.num_outputs)
    full = problem.width <= FACTORED
    shape = (problem.width, problem.width) if full else (problem.width,)
    blocks = [np.zeros(shape) for _ in outputs]
    start = 0
    for _, rows in problem.pieces(chosen):
        here = bend[start : (start := start + len(rows))]
        for k in outputs:
            some = here[:, k] > 0
            scaled = np.sqrt(here[some, k])[:, None] * rows[some]
            blocks[k] += scaled.T @ scaled if full else (scaled**2).sum(axis=0)
    if not full:
        below = 1 + np.stack(blocks, axis=1)
        return lambda gradient: gradient / below
    factors = []
    for block in blocks:
        block[np.diag_indices_from(block)] += 1
        factors.append(linalg.cho_factor(block, overwrite_a=True, check_finite=False))

    def undo(gradient: Floats) -> Floats:
        columns = [linalg.cho_solve(factors[k], gradient[:, k]) for k in outputs]
        return np.stack(columns, axis=1)

    return undo


def _conjugate(
    product: Callable[[Floats], Floats], undo: Callable[[Floats], Floats], right: Floats
) -> Floats:
    """Solves `product(x) = right` by conjugate gradients, with `undo` for a preconditioner."""
    found, left = np.zeros_like(right), right.copy()
    pulled = undo(left)
    along, energy = pulled, float(np.vdot(left, pulled))
    aim = ACCURACY**2 * energy
    for _ in range(PRODUCTS):
        if energy <= aim:
            break
        image = product(along)
        size = energy / float(np.vdot(along, image))
        found += size * along
        left -= size * image
        pulled = undo(left)
        before, energy = energy, float(np.vdot(left, pulled))
        along = pulled + energy / before * along
    return found
