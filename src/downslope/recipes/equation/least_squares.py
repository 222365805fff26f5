"""Damped Gauss-Newton steps on the residuals of an equation, in double precision.

A residual of 1e-6 has a gradient of noise in single precision; and the terms of an equation are
conditioned so badly that descent needs thousands of steps where these take dozens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from downslope.recipes.equation.geometry import Floats

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-14, 1e8  # relative to the mean of diag(J'J)
EASED, RAISED = 0.2, 3.0  # factors of the damping after a step that gained, or did not
MOST_TRIES = 12  # raises of the damping in one step
SLOW = 1e-3  # relative gain of a step, below which it counts as none
PATIENCE = 10  # such steps in a row, after which it has converged on these points

Residuals = Callable[[Floats], Floats]
Jacobian = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Parameters at the end of the steps, with half the sum of squares after each of them."""

    theta: Floats
    losses: tuple[float, ...]


def levenberg_marquardt(
    theta: Floats,
    problem: Callable[[int, Floats], tuple[Residuals, Jacobian]],
    *,
    seconds: float,
    max_steps: int = 10_000,
    steps_per_draw: int = 10,
    tolerance: float = 0.0,
) -> Descent:
    """Minimise half the sum of squared residuals, whose points are drawn anew now and then.

    Args:
        theta: parameters [n] to begin with.
        problem: `problem(number, theta)` gives two functions of theta for a draw of points: the
            residuals [m], and residuals with their Jacobian [m, n].
        seconds: of all steps.
        max_steps: at most.
        steps_per_draw: after which points are drawn anew.
        tolerance: half the sum of squares at which to stop.

    Source: Levenberg (1944); Marquardt (1963); for equations Müller and Zeinhofer (2023), Jnini,
    Vella and Zeinhofer (2024).
    """
    begin, losses, slow = time.perf_counter(), [], 0
    damping, draw = FIRST_DAMPING, 0
    residuals, jacobian = problem(draw, theta)
    for step in range(max_steps):
        if step and step % steps_per_draw == 0:
            draw += 1
            residuals, jacobian = problem(draw, theta)
        r, j = jacobian(theta)
        loss = float(r @ r) / 2
        taken = _step(theta, r, j, loss, damping, residuals, begin + seconds)
        if taken is None:
            break
        theta, after, damping = taken
        losses.append(after)
        slow = slow + 1 if loss - after <= SLOW * loss else 0
        is_over = time.perf_counter() - begin > seconds
        if is_over or after <= tolerance or slow >= PATIENCE:
            break
    return Descent(theta=theta, losses=tuple(losses))


def _step(
    theta: Floats,
    r: Floats,
    j: Floats,
    loss: float,
    damping: float,
    residuals: Residuals,
    end: float,
) -> tuple[Floats, float, float] | None:
    """Parameters, loss and next damping after a step that gains; None if none does."""
    solve = _solver(r, j)
    for _ in range(MOST_TRIES):
        trial = theta - solve(damping)
        found = residuals(trial)
        after = float(found @ found) / 2
        if after < loss:
            return trial, after, max(damping * EASED, LEAST_DAMPING)
        damping *= RAISED
        if damping > MOST_DAMPING or time.perf_counter() > end:
            return None
    return None


def _solver(r: Floats, j: Floats) -> Callable[[float], Floats]:
    """Steps (J'J + damping mean diag(J'J) I)^-1 J'r as a function of the damping.

    By the smaller of J'J and JJ'.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    is_wide = j.shape[1] > j.shape[0]
    product = j @ j.T if is_wide else j.T @ j
    scale = float(np.square(j).sum()) / j.shape[1] or 1.0
    right = r if is_wide else j.T @ r

    def step(damping: float) -> Floats:
        matrix = product + damping * scale * np.eye(len(product))
        try:
            found = cho_solve(cho_factor(matrix, overwrite_a=True, check_finite=False), right)
        except LinAlgError:  # numerically singular: the next damping is larger
            found = np.zeros(len(product))
        return j.T @ found if is_wide else found

    return step


def covariance(j: Floats, places: list[int], ridge: float = 1e-12) -> Floats:
    """Block of (J'J)^-1 of some parameters, from residuals in units of their errors.

    Args:
        j: Jacobian [m, n] of the residuals over their standard deviations.
        places: numbers of the parameters [k].
        ridge: relative to the mean of diag(J'J), where J'J is singular.
    """
    from scipy.linalg import cho_factor, cho_solve

    product = j.T @ j
    product += ridge * np.trace(product) / len(product) * np.eye(len(product))
    units = np.zeros((len(product), len(places)))
    units[places, range(len(places))] = 1
    return cho_solve(cho_factor(product), units)[places]
