"""Stability read off the steps themselves: no gradient statistics, no Hessian products."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.noise.statistics.ranges import Floats, array, positive
from downslope.noise.statistics.series import ratio_of_series

BLIND = "sees the mode that dominates the steps: the largest curvature may be larger"
LOSS_FACTOR, LOSS_STEPS, GROWTH_STEPS = 10.0, 3, 5  # assumed, not validated
MEDIAN_WINDOW = 100


@dataclass(frozen=True, kw_only=True)
class OnlineStability:
    """What consecutive steps s_t = theta_t - theta_(t-1) say about stability.

    Attributes:
        correlation: m = E[s_t . s_(t-1)] / E|s_(t-1)|^2.
        curvature: (1 - m) / eta, of the mode that dominates the steps; for noise-free gradient
            descent, where m -> 1 - eta lambda.
        stationary_curvature: -2 m / eta, the noise-weighted mean curvature; for SGD at
            stationarity, where m = -eta lambda / 2. Not estimable where m > 0.
        words: what m means.
    """

    correlation: Estimate
    curvature: Estimate
    stationary_curvature: Estimate
    words: str


def online_stability(
    step_dot_previous: ArrayLike, previous_square: ArrayLike, learning_rate: float
) -> OnlineStability:
    """m, the curvatures it gives, and words, from two dot products a step. No momentum.

    Args:
        step_dot_previous: [K], s_t . s_(t-1).
        previous_square: [K], |s_(t-1)|^2 of the same pairs.
        learning_rate: eta > 0, constant over the window.

    Raises:
        UsageError: shapes that differ, or a value outside its range.

    Example:
        >>> steps = (-0.9) ** np.arange(30.0)  # gradient descent at eta lambda = 1.9
        >>> told = online_stability(steps[1:] * steps[:-1], steps[:-1] ** 2, learning_rate=0.1)
        >>> print(round(told.curvature.value, 6), told.words)
        19.0 oscillating

    Source: Pflug 1990; Chee and Toulis 2018 for the sign at stationarity.
    """
    positive("learning_rate", learning_rate)
    m = ratio_of_series(step_dot_previous, previous_square, what="correlation of consecutive steps")
    curvature = _line(m, 1 / learning_rate, -1 / learning_rate).flagged(BLIND)
    stationary = _line(m, 0.0, -2 / learning_rate)
    if m.value is not None and m.value > 0:
        reason = "consecutive steps still agree: the run is not stationary"
        stationary = dataclasses.replace(stationary, value=None, lo=None, hi=None, reason=reason)
    elif m.value is not None:
        stationary = stationary.flagged("holds for SGD at stationarity only")
    return OnlineStability(
        correlation=m, curvature=curvature, stationary_curvature=stationary, words=_words(m.value)
    )


def divergence_alarm(
    losses: ArrayLike,
    step_dot_previous: ArrayLike | None = None,
    previous_square: ArrayLike | None = None,
) -> str | None:
    """Why the run seems to diverge, or None. A heuristic: its thresholds are not validated.

    Alarms: a loss that is not finite; a loss above 10 times the running median of the (up to 100)
    losses before it for 3 steps in a row (a positive median); consecutive steps with
    s_t . s_(t-1) < -|s_(t-1)|^2 and growing |s| for 5 steps in a row.

    Args:
        losses: [K], in order.
        step_dot_previous, previous_square: [K'], as in `online_stability`; both or neither.

    Example:
        >>> divergence_alarm([1.0, 0.9, 1.1, 1.0, 50.0, 80.0, 120.0])
        'heuristic alarm: the loss was above 10 times its running median for 3 steps'
    """
    history = array("losses", losses, 1)
    if not np.isfinite(history).all():
        return "heuristic alarm: a loss is not finite"
    if _longest(_far_above(history)) >= LOSS_STEPS:
        return (
            f"heuristic alarm: the loss was above {LOSS_FACTOR:g} times its running median "
            f"for {LOSS_STEPS} steps"
        )
    if (step_dot_previous is None) != (previous_square is None):
        raise UsageError("step_dot_previous, previous_square must be given together; got one")
    if step_dot_previous is None or previous_square is None:
        return None
    dots = array("step_dot_previous", step_dot_previous, 1)
    squares = array("previous_square", previous_square, 1)
    if dots.shape != squares.shape:
        raise UsageError(
            f"step_dot_previous and previous_square must have one shape; got {dots.shape} and "
            f"{squares.shape}"
        )
    if not (np.isfinite(dots).all() and np.isfinite(squares).all()):
        return "heuristic alarm: a step is not finite"
    grows = np.diff(squares, append=np.inf) > 0
    if _longest((dots < -squares) & (squares > 0) & grows) >= GROWTH_STEPS:
        return f"heuristic alarm: steps turned round and grew for {GROWTH_STEPS} steps"
    return None


def _words(m: float | None) -> str:
    if m is None:
        return "unknown"
    if m < -1:
        return "growing with alternating sign"
    if m < -0.5:
        return "oscillating"
    if m < 0:
        return "turning back: stationary under noise, or past the minimum of the dominant mode"
    return "moving on"


def _line(m: Estimate, offset: float, slope: float) -> Estimate:
    """offset + slope m, slope < 0: the ends change places."""
    value, lo, hi = (None if x is None else offset + slope * x for x in (m.value, m.hi, m.lo))
    return dataclasses.replace(m, value=value, lo=lo, hi=hi, unit="loss / parameter^2")


def _far_above(history: Floats) -> np.ndarray:
    far = np.zeros(len(history), bool)
    usual: list[float] = []  # losses not called far above: a median that follows would hide them
    for i, loss in enumerate(history):
        median = float(np.median(usual[-MEDIAN_WINDOW:])) if usual else 0.0
        far[i] = median > 0 and loss > LOSS_FACTOR * median
        usual.append(float(loss))
    return far


def _longest(marks: np.ndarray) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(int), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
