"""Unknown coefficients of an equation, with intervals, from measured values.

The equation and its conditions are constraints: their weight grows until the coefficients no longer
depend on it. Measured values are weighted by their scatter, which is estimated from what is left.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from downslope.estimate import Estimate, t_quantile
from downslope.recipes.equation.geometry import Floats
from downslope.recipes.equation.least_squares import covariance, levenberg_marquardt

FIRST_SCATTER = 0.1  # of the data, relative to their spread; assumed
FIRST_STIFFNESS, STIFFER, MOST_ROUNDS = 1e-3, 10.0, 10  # weight of constraints, by round; assumed
SETTLED = 0.1  # change of a coefficient, in its standard errors, from which the weight suffices


def constrained(
    theta: Floats, problem: Any, weights: Floats, equation: Any, *, seconds: float
) -> tuple[Floats, Floats, float]:
    """Parameters that fit the data under the equation; weights of the terms; scatter of the data.

    The data are fitted almost alone at first: a stiff equation with wrong coefficients would hold
    the solution away from them.

    Args:
        theta: parameters to begin with.
        problem: least-squares problems by weights.
        weights: of the terms, that of the data last.
        equation: with data and coefficients.
        seconds: of all rounds.
    """
    num_rows, before = len(equation.data[0]), None
    count = int(np.isfinite(equation.data[1]).sum())
    sigma = FIRST_SCATTER * float(np.nanstd(equation.data[1])) or 1.0
    stiffness = FIRST_STIFFNESS * weights[:-1] / weights[:-1].max()
    _covariance(theta, problem, weights, equation)  # compiles, before the time counts
    begin = time.perf_counter()
    for number in range(MOST_ROUNDS):
        # of means over rows: each value has the weight 1 / sigma^2
        weights = num_rows / sigma**2 * np.append(stiffness, 1.0)
        left = begin + seconds - time.perf_counter()
        found = levenberg_marquardt(
            theta, problem.with_weights(weights), seconds=left / (MOST_ROUNDS - number)
        )
        theta, sigma = found.theta, _scatter(found.theta, problem, count)
        values = _values(theta, equation)
        if before is not None:
            errors = np.sqrt(np.diag(_covariance(theta, problem, weights, equation)))
            if (np.abs(values - before) <= SETTLED * errors).all():
                break
        before, stiffness = values, STIFFER * stiffness
    return theta, num_rows / sigma**2 * np.append(stiffness, 1.0), sigma


def estimated(
    theta: Floats, problem: Any, weights: Floats, equation: Any, sigma: float
) -> dict[str, Estimate]:
    """Coefficients with 95 % intervals by the curvature of the constrained least squares.

    They hold for independent errors of equal spread, and a net that can follow the solution.
    """
    count = int(np.isfinite(equation.data[1]).sum())
    found = _covariance(theta, problem, weights, equation)
    reach = t_quantile(max(1, count - len(found))) * np.sqrt(np.diag(found))
    values, method = _values(theta, equation), f"scatter of the data {sigma:.3g}"
    return {
        name: Estimate(
            value=float(value), lo=float(value - half), hi=float(value + half), unit="",
            num_examples=count, method=method,
        )
        for name, value, half in zip(equation.coefficients, values, reach, strict=True)
    }  # fmt: skip


def _values(theta: Floats, equation: Any) -> Floats:
    """Coefficients in their own units: a model's first parameters, by name."""
    names = sorted(equation.coefficients)
    units = dict(zip(names, theta[: len(names)], strict=True))
    return np.array([units[name] * scale for name, scale in equation.coefficients.items()])


def _covariance(theta: Floats, problem: Any, weights: Floats, equation: Any) -> Floats:
    _, jacobian = problem.with_weights(weights)(0, theta)
    _, j = jacobian(theta)
    names = sorted(equation.coefficients)
    places = [names.index(name) for name in equation.coefficients]
    scales = np.array(list(equation.coefficients.values()))
    return covariance(j, places) * np.outer(scales, scales)


def _scatter(theta: Floats, problem: Any, count: int) -> float:
    """Standard deviation of the data around the solution."""
    total = float(np.square(problem.data_residuals(theta)).sum())
    return float(np.sqrt(max(total / max(1, count - problem.num_coefficients), 1e-24)))
