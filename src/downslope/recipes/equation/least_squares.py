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
EASED, RAISED = 0.2, 10.0  # factors of the damping after a step that gained, or did not
MOST_TRIES = 25  # raises of the damping in one step: from the least to the most
MOST_FAILURES = 3  # draws of points in a row without a step that gains
SLOW = 1e-3  # relative gain of a step, below which it counts as none
LEAST_RIDGE = 1e-12
PATIENCE = 10  # such steps in a row, after which it has converged on these points

Residuals = Callable[[Floats], Floats]
Jacobian = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Parameters at the end of the steps, half the sum of squares after each, and why it ended."""

    theta: Floats
    losses: tuple[float, ...]
    is_out_of_time: bool = False


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
    damping, draw, failures = FIRST_DAMPING, 0, 0
    residuals, jacobian = problem(draw, theta)
    for step in range(max_steps):
        if step and step % steps_per_draw == 0:
            draw += 1
            residuals, jacobian = problem(draw, theta)
        r, j = jacobian(theta)
        loss = float(r @ r) / 2
        taken = _step(theta, r, j, loss, damping, residuals, begin + seconds)
        is_over = time.perf_counter() - begin > seconds
        if taken is None:
            failures, draw = failures + 1, draw + 1
            if is_over or failures >= MOST_FAILURES:
                break
            residuals, jacobian = problem(draw, theta)
            continue
        failures = 0
        theta, after, damping = taken
        losses.append(after)
        slow = slow + 1 if loss - after <= SLOW * loss else 0
        if is_over or after <= tolerance or slow >= PATIENCE:
            break
    is_over = time.perf_counter() - begin > seconds
    return Descent(theta=theta, losses=tuple(losses), is_out_of_time=is_over)


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


def inverse_product(j: Floats, columns: Floats) -> Floats:
    """Columns of (J'J)^-1 C, for C [n, k].

    Where J'J is singular in double precision, with the smallest ridge of 1e-12, 1e-11, ... of the
    mean of its diagonal by which it is not.

    Args:
        j: Jacobian [m, n].
        columns: C.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    product, ridge = j.T @ j, LEAST_RIDGE
    scale = np.trace(product) / len(product) or 1.0
    while True:
        try:
            factor = cho_factor(product + ridge * scale * np.eye(len(product)))
        except LinAlgError:
            ridge *= 10
        else:
            return cho_solve(factor, columns)
