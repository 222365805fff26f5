"""Equilibrium ratio of a run, 1 at stationarity, from dot products alone."""

from __future__ import annotations

from numpy.typing import ArrayLike

from downslope.estimate import Estimate
from downslope.noise.statistics.series import ratio_of_series
from downslope.noise.temperature.dynamics import MomentumKind, heavy_ball_rate

TOLERANCE = 0.1
UNKNOWN = "too few steps to say whether it is equilibrated"
TRANSIENT = "not equilibrated: the temperature describes a transient"


def equilibrium_ratio(
    position_dot_gradient: ArrayLike,
    square_velocity: ArrayLike,
    learning_rate: float,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> Estimate:
    """Equilibrium ratio 2 eta E[theta . g] / ((1 + beta) E|v|^2), exactly 1 at stationarity.

    It holds for any loss, learning rate and noise. Scale-invariant weights (before a norm layer)
    and parameters that drift away never reach it.

    Args:
        position_dot_gradient: [K], theta . g of the position before the step and the mini-batch
            gradient that the step used. The position may be taken relative to any fixed point;
            one in the middle of the window gives the shortest interval.
        square_velocity: [K], |v|^2 of the step taken, theta <- theta - v, for every kind of
            momentum (for plain SGD eta^2 |g|^2).
        learning_rate: eta > 0, constant over the window.
        momentum, momentum_kind: see `downslope.noise.temperature`. For Nesterov theta is the
            position that v moves, not the point ahead of it where the gradient is taken.

    Returns:
        The ratio, its interval from blocks of steps (too wide at stationarity rather than too
        short: the residuals of neighbouring blocks cancel there), flagged beyond 1 -+ .1.

    Raises:
        UsageError: shapes that differ, or a value outside its range.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> theta, dots, squares = 0.0, [], []
        >>> for _ in range(20_000):
        ...     g = theta + rng.normal()
        ...     dots.append(theta * g); squares.append(0.01 * g * g)
        ...     theta -= 0.1 * g
        >>> print(equilibrium_ratio(dots[100:], squares[100:], learning_rate=0.1))
        1.0001 (0.9970 to 1.0031)

    Source: Yaida 2019, fluctuation-dissipation relations FDR1 and its momentum form.
    """
    rate = heavy_ball_rate(learning_rate, momentum, momentum_kind)
    what = "2 eta E[theta.g] / ((1+beta) E|v|^2)"
    scale = 2 * rate / (1 + momentum)
    return _judged(ratio_of_series(position_dot_gradient, square_velocity, what=what, scale=scale))


def update_equilibrium_ratio(position_dot_update: ArrayLike, square_update: ArrayLike) -> Estimate:
    """Equilibrium ratio 2 E[theta . u] / E|u|^2 of any optimizer's updates theta <- theta - u.

    Exactly 1 at stationarity, because E|theta|^2 then stays the same; Adam's updates too.

    Args:
        position_dot_update: [K], theta . u of the position before the step.
        square_update: [K], |u|^2.

    Example:
        >>> import numpy as np
        >>> theta = np.array([1.0, -1.0] * 50)  # jumps to and fro for ever
        >>> print(round(update_equilibrium_ratio(theta * 2 * theta, (2 * theta) ** 2).value, 9))
        1.0
    """
    what = "2 E[theta.u] / E|u|^2"
    return _judged(ratio_of_series(position_dot_update, square_update, what=what, scale=2))


def _judged(ratio: Estimate) -> Estimate:
    if ratio.value is None or abs(ratio.value - 1) <= TOLERANCE:
        return ratio
    is_known = ratio.lo is None or ratio.hi is None or not ratio.lo <= 1 <= ratio.hi
    return ratio.flagged(TRANSIENT if is_known else UNKNOWN)
