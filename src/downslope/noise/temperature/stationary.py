"""Where constant-step SGD settles on a quadratic: exact covariances, with any momentum."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.noise.statistics.ranges import Floats, array, positive
from downslope.noise.temperature.dynamics import (
    MomentumKind,
    checked_kind,
    heavy_ball_rate,
    recursion,
)


def stationary_covariance(
    hessian: ArrayLike,
    gradient_covariance: ArrayLike,
    learning_rate: float,
    *,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> Floats:
    """Exact covariance X of the parameters at stationarity, for additive gradient noise.

    Without momentum the solution of X = (I - eta H) X (I - eta H) + eta^2 C; with it the position's
    block of the same equation for position and velocity. The noise of different steps is
    independent: not so under reshuffling (`downslope.noise.temperature.reshuffling`).

    Args:
        hessian: H, [d, d], symmetric.
        gradient_covariance: C = phi Sigma / B, covariance of a mini-batch's gradient, [d, d].
        learning_rate: eta > 0.
        momentum, momentum_kind: see `downslope.noise.temperature`.

    Returns:
        X, [d, d], in parameter^2.

    Raises:
        UsageError: shapes that do not fit, or a learning rate without a stationary state.

    Example:
        >>> x = stationary_covariance([[2.0]], [[1.0]], 0.1)
        >>> x.round(6).tolist()  # eta C / (lambda (2 - eta lambda))
        [[0.027778]]

    Source: Mandt, Hoffman and Blei 2017, without its small-step limit.
    """
    h = array("hessian", hessian, 2)
    c = array("gradient_covariance", gradient_covariance, 2)
    dim = len(h)
    if h.shape != (dim, dim) or c.shape != h.shape or dim == 0:
        raise UsageError(
            f"hessian and gradient_covariance must both have shape [d, d]; got {h.shape} and "
            f"{c.shape}"
        )
    if not (np.isfinite(h).all() and np.isfinite(c).all()):
        raise UsageError("hessian, gradient_covariance must be finite; got an entry that is not")
    for name, matrix in (("hessian", h), ("gradient_covariance", c)):
        if np.abs(matrix - matrix.T).max() > 1e-6 * np.abs(matrix).max():
            raise UsageError(f"{name} must be symmetric; got one that is not")
    rate = heavy_ball_rate(learning_rate, momentum, momentum_kind)
    kind = checked_kind(momentum, momentum_kind)
    one = np.eye(dim)
    pull = rate * h
    brake = momentum * (one - pull) if kind == "nesterov" else momentum * one
    # state (theta, v): v <- brake v + pull theta + noise, theta <- theta - v
    step = np.block([[one - pull, -brake], [pull, brake]])
    noise = rate**2 * np.block([[c, -c], [-c, c]])
    radius = float(np.abs(np.linalg.eigvals(step)).max())
    if radius >= 1 - 1e-14:
        raise UsageError(
            f"learning_rate must give a stationary state: errors multiply by {radius:.6g} a step "
            f"with {learning_rate}; every curvature must be positive and the rate below its bound"
        )
    from scipy import linalg  # slow to import, rarely needed

    covariance = linalg.solve_discrete_lyapunov(step, noise)[:dim, :dim]
    return (covariance + covariance.T) / 2


@overload
def stationary_variance(
    curvature: float, gradient_variance: float, learning_rate: float, *, momentum: float = ...,
    momentum_kind: MomentumKind | None = ...,
) -> float: ...  # fmt: skip
@overload
def stationary_variance(
    curvature: ArrayLike, gradient_variance: ArrayLike, learning_rate: float, *,
    momentum: float = ..., momentum_kind: MomentumKind | None = ...,
) -> float | Floats: ...  # fmt: skip
def stationary_variance(
    curvature: ArrayLike,
    gradient_variance: ArrayLike,
    learning_rate: float,
    *,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> float | Floats:
    """Exact stationary variance along eigenvectors that H and C share.

    Heavy ball: eta C (1 + beta) / (lambda (1 - beta)(2 (1 + beta) - eta lambda)), which is
    eta C / (lambda (2 - eta lambda)) without momentum; Nesterov by the same two-step recursion.

    Args:
        curvature: lambda > 0, a number or [k].
        gradient_variance: C, variance of a mini-batch's gradient along it, same shape.
        learning_rate: eta > 0.
        momentum, momentum_kind: see `downslope.noise.temperature`.

    Returns:
        A float, or an array [k], in parameter^2.

    Raises:
        UsageError: a curvature or learning rate without a stationary state.

    Example:
        >>> round(stationary_variance(2.0, 1.0, 0.1), 6)
        0.027778
        >>> round(stationary_variance(2.0, 1.0, 0.1, momentum=0.9, momentum_kind="ema"), 6)
        0.025132
    """
    rate = heavy_ball_rate(learning_rate, momentum, momentum_kind)
    curvatures, noise = np.broadcast_arrays(
        np.asarray(curvature, np.float64), np.asarray(gradient_variance, np.float64)
    )
    found = np.empty(curvatures.shape)
    for index, value in np.ndenumerate(curvatures):
        positive("curvature", value)
        a, b = recursion(learning_rate * float(value), momentum, momentum_kind)
        # variance of theta_(t+1) = a theta_t + b theta_(t-1) + noise
        inside = (1 + b) * (1 - a - b) * (1 - b + a)
        if abs(b) >= 1 or 1 - a - b <= 0 or 1 - b + a <= 0:
            raise UsageError(
                f"learning_rate must be below its stability bound; got {learning_rate} at "
                f"curvature {value}"
            )
        found[index] = rate**2 * noise[index] * (1 - b) / inside
    return float(found) if found.ndim == 0 else found
