"""Unknown coefficients of an equation, with intervals, from measured values.

The equation and its conditions are constraints: their weight grows until the coefficients no longer
depend on it. Measured values are weighted by their scatter, which is estimated from what is left.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.recipes.equation.geometry import Floats
from downslope.recipes.equation.least_squares import inverse_product, levenberg_marquardt

FIRST_SCATTER = 0.1  # of the data, relative to their spread; assumed
FIRST_STIFFNESS, STIFFER, MOST_ROUNDS = 1e-3, 10.0, 10  # weight of constraints, by round; assumed
LEAST_SCATTER = 1e-12
MOST_STEPS = 200  # of a round: a soft equation lets the net follow the data into a corner
MIN_ROUNDS = 4  # while it is soft, coefficients move little too
UNSETTLED = "out of time before the weight of the equation sufficed: give more seconds"
SETTLED = 0.1  # change of a coefficient, in its standard errors, from which the weight suffices


def constrained(
    theta: Floats, problem: Any, weights: Floats, equation: Any, *, seconds: float
) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Parameters that fit the data under the equation, the weights of that fit, and its flags.

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
    _jacobian(theta, problem, weights)  # compiles, before the time counts
    begin = time.perf_counter()
    for number in range(MOST_ROUNDS):
        # of means over rows: each value has the weight 1 / sigma^2
        weights = num_rows / sigma**2 * np.append(stiffness, 1.0)
        left = begin + seconds - time.perf_counter()
        found = levenberg_marquardt(
            theta, problem.with_weights(weights), seconds=left / (MOST_ROUNDS - number),
            max_steps=MOST_STEPS,
        )  # fmt: skip
        theta, values = found.theta, _values(found.theta, equation)
        sigma = max(float(np.sqrt(_squares(theta, problem) / count)), LEAST_SCATTER)
        if before is not None and not found.is_out_of_time:
            errors = np.sqrt(np.diag(_covariance(_jacobian(theta, problem, weights), equation)))
            is_same = (np.abs(values - before) <= SETTLED * errors).all()
            if is_same and number >= MIN_ROUNDS:
                return theta, weights, ()
        if time.perf_counter() - begin > seconds:
            break
        before, stiffness = values, STIFFER * stiffness
    return theta, weights, (UNSETTLED,)


def estimated(
    theta: Floats, problem: Any, weights: Floats, equation: Any, flags: tuple[str, ...]
) -> dict[str, Estimate]:
    """Coefficients with 95 % intervals by the curvature of the constrained least squares.

    They hold for independent errors of equal spread, and a net that can follow the solution. The
    degrees of freedom are those of all that the data decide, such as free first values: the
    number of values minus the trace of the data's part of the hat matrix.
    """
    count = int(np.isfinite(equation.data[1]).sum())
    j = _jacobian(theta, problem, weights)
    of_data = j[-equation.data[1].size :]
    freedom = count - float((of_data.T * inverse_product(j, of_data.T)).sum())
    if freedom < 1:
        why = f"{count} values leave no degree of freedom"
        return {n: not_estimable(why, unit="", num_examples=count) for n in equation.coefficients}
    sigma = math.sqrt(_squares(theta, problem) / freedom)
    # the weights hold another scatter, which leaves out the degrees of freedom
    held = math.sqrt(len(equation.data[0]) / weights[-1])
    errors = sigma / held * np.sqrt(np.diag(_covariance(j, equation)))
    reach = t_quantile(max(1, round(freedom))) * errors
    values, method = _values(theta, equation), f"scatter of the data {sigma:.3g}"
    return {
        name: Estimate(
            value=float(value), lo=float(value - half), hi=float(value + half), unit="",
            num_examples=count, method=method, flags=flags,
        )
        for name, value, half in zip(equation.coefficients, values, reach, strict=True)
    }  # fmt: skip


def _values(theta: Floats, equation: Any) -> Floats:
    """Coefficients in their own units: a model's first parameters, by name."""
    names = sorted(equation.coefficients)
    units = dict(zip(names, theta[: len(names)], strict=True))
    return np.array([units[name] * scale for name, scale in equation.coefficients.items()])


def _jacobian(theta: Floats, problem: Any, weights: Floats) -> Floats:
    return problem.with_weights(weights)(0, theta)[1](theta)[1]


def _covariance(j: Floats, equation: Any) -> Floats:
    """Block of (J'J)^-1 of the coefficients, in their own units."""
    names = sorted(equation.coefficients)
    places = [names.index(name) for name in equation.coefficients]
    units = np.zeros((j.shape[1], len(places)))
    units[places, range(len(places))] = 1
    scales = np.array(list(equation.coefficients.values()))
    return inverse_product(j, units)[places] * np.outer(scales, scales)


def _squares(theta: Floats, problem: Any) -> float:
    """Sum of the squares of the solution minus the measured values."""
    return float(np.square(problem.data_residuals(theta)).sum())
