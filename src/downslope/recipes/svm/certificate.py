"""How far a linear support vector machine is from its least objective, proved by its dual."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.errors import DataError
from downslope.recipes.svm.coordinate import Ascent
from downslope.recipes.svm.duals import Floats, crammer_singer
from downslope.recipes.svm.given import check_settings, make_problem, stacked
from downslope.recipes.svm.newton import look, newton_step
from downslope.recipes.svm.problem import Problem

STEP, SWEEP = "Newton steps on the smoothed loss", "sweeps of dual coordinate ascent"
MOST_STEPS = 200  # Newton steps; seen: 2 to 100
MOST_SWEEPS = 2000  # of the coordinate ascent; seen: 25 to 2,000, where it gives up
SMALL = 0.1  # of the gap asked for, shared out among the rows; assumed
WIDTH = 1.0  # of the parabola at the kink, in units of the margin, to begin with; assumed
ROUNDING = 1e-13  # of the objective, below which a gap is rounding
NARROWER = 0.3  # times the width, where the parabola is what keeps the gap open; assumed


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is known of the least objective. Units are those of |w|^2 / 2 + C sum of losses.

    Attributes:
        objective: of `weights`.
        dual_objective: no weights have a lower objective than this.
        gap: `objective - dual_objective`, zero or more.
        relative_gap: gap / dual_objective, so at least the objective's share above the least;
            None where the dual objective is zero, but for rounding.
        given_objective: of the weights that were given.
        num_steps: Newton steps, or sweeps of the dual ascent, made to close the gap.
        how: which of them.
        num_passes: times all rows were read.
        seconds: taken.
        weights: [d, K], with the lowest objective met; the given ones where no step was made.
        intercept: [K].
    """

    objective: float
    dual_objective: float
    gap: float
    relative_gap: float | None
    given_objective: float
    num_steps: int
    how: str
    num_passes: int
    seconds: float
    weights: Floats
    intercept: Floats

    def __str__(self) -> str:
        if self.relative_gap is None:
            return (
                f"The objective is {self.objective:.6g}; how near the least that is, is not known: "
                f"the dual point proves no more than {self.dual_objective:.6g}."
            )
        begun = ""
        if self.num_steps:
            begun = f"; {self.num_steps} {self.how} began at {self.given_objective:.6g}"
        return (
            f"The objective of {self.objective:.6g} is at most {self.relative_gap:.2%} above the "
            f"least: a dual point of {self.dual_objective:.6g} proves it{begun}."
        )


def certify(
    weights: Any,
    intercept: Any,
    x: Any,
    y: Any,
    *,
    C: float = 1.0,
    loss: str = "hinge",
    multi_class: str = "ovr",
    sample_weight: Any = None,
    fit_intercept: bool = True,
    gap: float | None = 1e-3,
) -> Certificate:
    """A bound on how far any linear support vector machine is from its least objective.

    The objective is liblinear's: |W|^2 / 2 + C sum_i weight_i loss_i, with the intercept among
    the weights, as that of a column of ones. For several classes it is summed over them.

    The first dual point comes from the margins: a row's dual variable is the slope of its loss,
    drawn out to a ramp near the kink. There the gap is exactly what the ramp adds to the losses
    plus half the squared norm of the smoothed objective's gradient; where that is much, a share
    of the point, in closed form, proves more. While the gap is wider than asked
    for, Newton steps with a line search lower that gradient, and where the ramp is what is left
    it is made narrower. For Crammer and Singer's loss the gap is closed by dual coordinate ascent
    instead: a row's dual variables are set to their best, one row after another. Both points of
    the certificate are the best met. All in float64.

    Args:
        weights: [d, K], or [d] for two classes (positive for class 1).
        intercept: [K] or a number; 0 where there is none.
        x: rows [n, d].
        y: class numbers 0, 1, ... [n].
        C: weight of the losses, above 0.
        loss: "hinge" or "squared_hinge".
        multi_class: "ovr" (K outputs, or one for two classes) or "crammer_singer" (hinge only).
        sample_weight: weights [n] of the rows, zero or more.
        fit_intercept: whether there is an intercept to choose.
        gap: relative gap at which to stop; None makes no step.

    Raises:
        UsageError: an argument out of range, or shapes that do not fit together.
        DataError: rows or weights that are not finite, or that float32 cannot hold.

    Example:
        >>> x, y = np.array([[1.0], [2.0], [-1.0], [0.5]]), np.array([1, 1, 0, 0])
        >>> found = certify([0.5], 0.0, x, y, C=10.0)
        >>> found.given_objective, round(found.objective, 1), found.relative_gap < 1e-3
        (22.625, 11.5, True)

    Source: the duality gap of Fenchel's dual; smoothing: Nesterov 2005 (Math. Program. 103),
    section 2; Newton's method on it: Keerthi and DeCoste 2005 (JMLR 6); Crammer and Singer 2001
    (JMLR 2), equation 11.
    """
    begun = time.perf_counter()
    check_settings(C=C, loss=loss, multi_class=multi_class, gap=gap)
    problem = make_problem(
        x, y, C=C, loss=loss, multi_class=multi_class, sample_weight=sample_weight,
        fit_intercept=fit_intercept,
    )  # fmt: skip
    start = stacked(problem, weights, intercept)
    close = _close_jointly if problem.joint else _close
    with np.errstate(over="ignore", invalid="ignore"):  # the sums tell
        best, given, reached, proved, steps = close(problem, start, gap)
    open_by = reached - proved
    if not np.isfinite(open_by):
        raise DataError("the objective is not finite", remedy="scale x, or lower C or the weights")
    open_by = max(0.0, open_by)
    return Certificate(
        objective=reached,
        dual_objective=proved,
        gap=open_by,
        relative_gap=open_by / proved if proved > ROUNDING * reached else None,
        given_objective=given,
        num_steps=steps,
        how=SWEEP if problem.joint else STEP,
        num_passes=problem.passes.total,
        seconds=time.perf_counter() - begun,
        weights=best[: problem.x.shape[1]],
        intercept=best[-1] if fit_intercept else np.zeros(problem.num_outputs),
    )


Closed = tuple[Floats, float, float, float, int]  # weights, P given, P, D, steps


def _close(problem: Problem, start: Floats, gap: float | None) -> Closed:
    """Newton steps, where each output has a loss of its own."""
    last = look(problem, start, problem.outputs(start), np.full(problem.num_outputs, WIDTH))
    best, given = last.weights, last.objective
    lowest, highest, steps = given, last.dual_objective, 0
    while gap is not None and steps < MOST_STEPS:
        aim = np.maximum(gap * highest, ROUNDING * lowest)
        wide = lowest - highest > aim
        if not wide.any():
            break
        # where the ramps alone keep it open, no step will close it
        narrow = wide & (2 * last.ramps > np.maximum(aim, last.slack))
        if narrow.any():
            ramp = np.where(narrow, NARROWER * last.ramp, last.ramp)
            last = look(problem, last.weights, last.outputs, ramp)
        else:
            moved = newton_step(problem, last, wide)
            if moved is None:  # rounding is all that is left
                break
            last, steps = moved, steps + 1
        best = np.where(last.objective < lowest, last.weights, best)
        lowest = np.minimum(lowest, last.objective)
        highest = np.maximum(highest, last.dual_objective)
    return best, float(given.sum()), float(lowest.sum()), float(highest.sum()), steps


def _close_jointly(problem: Problem, start: Floats, gap: float | None) -> Closed:
    """Dual coordinate ascent, where one loss ties the outputs."""
    order = np.random.default_rng(0)
    outputs = problem.outputs(start)
    best, given = start, joint_objective(problem, start, outputs)
    ascent = Ascent(problem, outputs)
    lowest, highest, sweeps = given, ascent.dual_objective, 0
    while gap is not None and sweeps < MOST_SWEEPS:
        reached = joint_objective(problem, ascent.weights, problem.outputs(ascent.weights))
        if reached < lowest:
            best, lowest = ascent.weights.copy(), reached
        if lowest - highest <= max(gap * highest, ROUNDING * lowest):
            break
        # the gap is the sum of the rows' own, times their costs: those of a small one are left out
        small = SMALL * gap * max(highest, 0.0) / problem.cost.sum()
        ascent.sweep(order.permutation(len(problem.y)), small)
        highest, sweeps = max(highest, ascent.dual_objective), sweeps + 1
    return best, given, lowest, highest, sweeps


def joint_objective(problem: Problem, weights: Floats, outputs: Floats) -> float:
    """|W|^2 / 2 + sum_i c_i times the loss of Crammer and Singer."""
    losses = crammer_singer(outputs, problem.y)
    return float(np.vdot(weights, weights)) / 2 + float(problem.cost @ losses)
