"""Temperature of SGD from its settings and from its steps, in loss per degree of freedom.

L is the mean loss. Under EMA momentum eta (1 - beta) takes the place of eta. A temperature
describes the run only at stationarity (`equilibrium_ratio`), with noise of the same size in every
direction, small eta times curvature, and batches drawn with replacement: what speaks against it
comes back as flags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import Floats, array
from downslope.noise.statistics.intervals import (
    as_estimate,
    jackknife_error,
    log_interval,
    measured,
)
from downslope.noise.statistics.series import mean_of_series
from downslope.noise.temperature.dynamics import (
    MomentumKind,
    Sampling,
    effective_rate,
    heavy_ball_rate,
    population_factor,
)

UNIT = "loss"
MAX_ANISOTROPY = 2.0  # assumed: beyond it a single temperature is misleading
NOISE_UNIT = "(loss / parameter)^2"
OVERSTATED = (
    "reshuffled epochs: overestimates the temperature of slow directions (learning rate * "
    "curvature * batches per epoch << 1) by orders of magnitude"
)


@dataclass(frozen=True, kw_only=True)
class DirectionTemperatures:
    """Temperatures along directions, and their anisotropy.

    Attributes:
        temperatures: [k], T_i in loss units, in the order of the directions.
        anisotropy: max T_i / min T_i; 1 would justify a single temperature.
    """

    temperatures: Floats
    anisotropy: Estimate


def temperature_factor(
    learning_rate: float,
    batch_size: int,
    *,
    num_rows: int | None = None,
    sampling: Sampling,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> float:
    """Factor from a variance per degree of freedom to a temperature, eta phi / (2 B (1 - beta))."""
    phi = population_factor(batch_size, num_rows, sampling)
    return effective_rate(learning_rate, momentum, momentum_kind) * phi / (2 * batch_size)


def effective_temperature(
    noise_trace: float | Estimate,
    dim: int,
    *,
    learning_rate: float,
    batch_size: int,
    num_rows: int | None = None,
    sampling: Sampling,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> Estimate:
    """Temperature prescribed by the settings and the measured gradient noise, T_eff.

    eta phi tr(Sigma) / (2 B (1 - beta) d).

    Args:
        noise_trace: tr(Sigma) of per-example gradients, (loss/parameter)^2; a measurement hands
            on its interval.
        dim: d, number of parameters.
        learning_rate: eta > 0.
        batch_size: B examples an update.
        num_rows: N, needed for reshuffled epochs.
        sampling: "reshuffled", "replacement" or "streaming".
        momentum, momentum_kind: see `downslope.noise.temperature`.

    Example:
        >>> print(effective_temperature(4.5, 3, learning_rate=0.1, batch_size=5, num_rows=60,
        ...                             sampling="reshuffled"))
        0.014 loss

    Source: Mandt, Hoffman and Blei 2017 (small steps); the momentum factor from Yaida 2019.
    """
    factor = temperature_factor(
        learning_rate, batch_size, num_rows=num_rows, sampling=sampling, momentum=momentum,
        momentum_kind=momentum_kind,
    )  # fmt: skip
    trace = as_estimate(noise_trace, unit=NOISE_UNIT)
    found = trace.scaled(factor / whole("dim", dim), unit=UNIT)
    return found.flagged(OVERSTATED) if sampling == "reshuffled" else found


def measured_temperature(
    square_velocity: ArrayLike,
    dim: int,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> Estimate:
    """Temperature measured from the steps, without any gradient statistics, T_meas.

    (1 + beta) E|v|^2 / (2 eta d). At stationarity it is E[(theta - c) . grad L] / d exactly.

    Args:
        square_velocity: [K], |v|^2 of the steps taken, theta <- theta - v, of every kind of
            momentum.
        dim: d, number of parameters.
        learning_rate, momentum, momentum_kind: as in `effective_temperature`.

    Example:
        >>> v = 0.1 * np.random.default_rng(0).normal(size=(400, 10))
        >>> print(measured_temperature((v**2).sum(axis=1), 10, learning_rate=0.1))
        0.0498 (0.0473 to 0.0524) loss
    """
    rate = heavy_ball_rate(learning_rate, momentum, momentum_kind)
    scale = (1 + momentum) / (2 * rate * whole("dim", dim))
    if (array("square_velocity", square_velocity, 1) < 0).any():
        raise UsageError("square_velocity must be 0 or more; got a negative value")
    return mean_of_series(
        square_velocity, scale=scale, unit=UNIT, what="(1+beta) E|v|^2 / (2 eta d)"
    )


def direction_temperatures(
    projections: ArrayLike,
    *,
    learning_rate: float,
    batch_size: int,
    num_rows: int | None = None,
    sampling: Sampling,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
) -> DirectionTemperatures:
    """Temperatures T_i along unit vectors u_i, and their anisotropy max T_i / min T_i.

    Args:
        projections: per-example gradients along the directions, g_j . u_i, [n examples, k].
        learning_rate, batch_size, num_rows, sampling, momentum, momentum_kind: as in
            `effective_temperature`.

    Returns:
        The temperatures (of the unbiased variances of the columns), and the anisotropy with a
        delete-one jackknife interval on the log scale for the two directions that gave it.

    Example:
        >>> g = np.random.default_rng(0).normal(size=(500, 3)) * [1, 2, 3]
        >>> found = direction_temperatures(g, learning_rate=0.1, batch_size=10,
        ...                                sampling="streaming")
        >>> print(found.temperatures.round(3), found.anisotropy)
        [0.005 0.018 0.047] 9.7 (8.2 to 11.7)
    """
    values = array("projections", projections, 2)
    num, directions = values.shape
    factor = temperature_factor(
        learning_rate, batch_size, num_rows=num_rows, sampling=sampling, momentum=momentum,
        momentum_kind=momentum_kind,
    )  # fmt: skip
    if num < 3 or directions < 2 or not np.isfinite(values).all():
        reason = "needs at least 3 examples and 2 directions, all finite"
        none = not_estimable(reason, unit="", num_examples=num)
        return DirectionTemperatures(temperatures=np.full(directions, np.nan), anisotropy=none)
    deviation = values - values.mean(axis=0)
    temperatures = factor * (deviation**2).sum(axis=0) / (num - 1)
    return DirectionTemperatures(
        temperatures=temperatures, anisotropy=_anisotropy(deviation, temperatures)
    )


def _anisotropy(deviation: Floats, temperatures: Floats) -> Estimate:
    num = len(deviation)
    hot, cold = int(np.argmax(temperatures)), int(np.argmin(temperatures))
    if temperatures[cold] <= 1e-24 * temperatures[hot]:
        return not_estimable("a direction without noise", unit="", num_examples=num)
    value = float(temperatures[hot] / temperatures[cold])
    squares = deviation[:, [hot, cold]] ** 2
    left = squares.sum(axis=0) - squares * num / (num - 1)  # scatter without one example
    flags = ("largest over smallest of noisy variances: biased up",)
    if value > MAX_ANISOTROPY:
        flags = (f"directions differ {value:.2g}-fold: a single temperature is misleading", *flags)
    interval = None
    if (left > 1e-12 * squares.sum(axis=0)).all():
        error = jackknife_error(np.log(left[:, 0]) - np.log(left[:, 1]))
        interval = log_interval(value, error, num - 1)
    method = "largest over smallest variance; delete-one jackknife on the log scale"
    return measured(value, interval, unit="", num_examples=num, method=method, flags=flags)
