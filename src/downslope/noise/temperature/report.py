"""Everything a run says about its temperature in one record, with what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature.stability import rate_limit
from downslope.noise.statistics.ranges import Floats, as_measurement, count, one_of, positive
from downslope.noise.temperature.dynamics import (
    MomentumKind,
    Sampling,
    effective_rate,
    population_factor,
)
from downslope.noise.temperature.equilibrium import TOLERANCE, TRANSIENT
from downslope.noise.temperature.prescribed import (
    MOST_ANISOTROPY,
    OVERSTATED,
    DirectionTemperatures,
    effective_temperature,
    temperature_proxy,
)
from downslope.noise.temperature.reshuffling import reshuffling_ratio

PLAIN = ("sgd", "momentum", "nesterov")
OTHERS = ("adam", "adamw", "rmsprop", "adagrad", "other")
PRECONDITIONED = "not defined by this formula for a preconditioned optimizer"
MOST_FINITE_STEP = 1.1  # assumed: beyond it the factor for finite steps is told


@dataclass(frozen=True, kw_only=True)
class TemperatureRecord:
    """T_eff, T_meas, R_eq, anisotropy and sampling, never one of them alone.

    Attributes:
        effective: T_eff, prescribed by settings and noise, in loss units.
        measured: T_meas, from the steps.
        equilibrium: R_eq, 1 at stationarity.
        anisotropy: max T_i / min T_i.
        proxy: eta / (B (1 - beta)), or None for a preconditioned optimizer.
        reshuffling: [k], share of the with-replacement variance left along each curvature given,
            epoch average; None unless epochs are reshuffled and curvatures were given.
        sampling: how mini-batches were drawn.
        flags: what makes the single number lie.
    """

    effective: Estimate
    measured: Estimate
    equilibrium: Estimate
    anisotropy: Estimate
    proxy: float | None
    reshuffling: Floats | None
    sampling: Sampling
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"T_eff {self.effective}; T_meas {self.measured}; R_eq {self.equilibrium}; "
            f"anisotropy {self.anisotropy}; sampling: {self.sampling}"
        )


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of settings that keeps the temperature, with what it costs.

    Attributes:
        learning_rate, batch_size: the new settings.
        temperature_ratio: T_eff after over before: not quite 1 where the population factor
            (N - B)/(N - 1) changes.
        drift: what finite steps add along the sharpest direction, ratio after over before; None
            where no curvature was given, infinite beyond the stability bound.
    """

    learning_rate: float
    batch_size: int
    temperature_ratio: float
    drift: float | None


def temperature_record(
    noise_trace: float | Estimate,
    dim: int,
    *,
    learning_rate: float,
    batch_size: int,
    num_rows: int | None = None,
    sampling: Sampling,
    optimizer: str,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
    measured_temperature: Estimate | None = None,
    equilibrium: Estimate | None = None,
    directions: DirectionTemperatures | None = None,
    curvatures: ArrayLike | None = None,
) -> TemperatureRecord:
    """The temperature of a run with everything needed to read it.

    Args:
        noise_trace: tr(Sigma) of per-example gradients.
        dim: d, number of parameters.
        learning_rate, batch_size, num_rows, sampling, momentum, momentum_kind: as in
            `temperature.temperature_factor`.
        optimizer: "sgd", "momentum" or "nesterov"; for any other temperatures are not estimable.
        measured_temperature: from `temperature.measured_temperature`.
        equilibrium: from `equilibrium.equilibrium_ratio`; for a preconditioned optimizer that of
            `update_equilibrium_ratio` stays meaningful and is kept.
        directions: from `temperature.direction_temperatures`.
        curvatures: [k] positive eigenvalues of the Hessian, for the finite-step and the
            reshuffling flags.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> told = temperature_record(4.5, 3, learning_rate=0.1, batch_size=5, num_rows=60,
        ...                           sampling="reshuffled", optimizer="sgd", curvatures=[0.1, 1])
        >>> print(told.effective, told.reshuffling.round(3))
        0.014 loss [0.042 0.342]
    """
    one_of("optimizer", optimizer, PLAIN + OTHERS)
    trace = as_measurement(noise_trace, unit="(loss / parameter)^2")
    settings = {"momentum": momentum, "momentum_kind": momentum_kind}
    effective = effective_temperature(
        trace, dim, learning_rate=learning_rate, batch_size=batch_size, num_rows=num_rows,
        sampling=sampling, momentum=momentum, momentum_kind=momentum_kind,
    )  # fmt: skip
    missing = not_estimable("not measured", unit="loss")
    seen = measured_temperature or missing
    anisotropy = directions.anisotropy if directions else not_estimable("not measured", unit="")
    proxy = temperature_proxy(learning_rate, batch_size, **settings)
    balance = equilibrium or not_estimable("not measured", unit="")
    shares, flags = None, []
    if optimizer in OTHERS:
        effective = seen = not_estimable(PRECONDITIONED, unit="loss")
        anisotropy, proxy = not_estimable(PRECONDITIONED, unit=""), None
        flags.append(f"{optimizer}: {PRECONDITIONED}")
    elif curvatures is not None:
        values = np.asarray(curvatures, np.float64).ravel()
        for value in values:
            positive("curvatures", value)
        flags += _finite_step(values.max(initial=0.0) * learning_rate, momentum, momentum_kind)
        if sampling == "reshuffled" and num_rows is not None:
            rate = effective_rate(learning_rate, momentum, momentum_kind)
            shares = _shares(values * rate, num_rows // batch_size)
            if momentum > 0:
                flags.append("reshuffling shares under momentum are those of eta/(1-beta)")
    flags = [*_balance(balance), *_spread(anisotropy), *flags]
    if sampling == "reshuffled" and optimizer not in OTHERS:
        flags.append(OVERSTATED)
    return TemperatureRecord(
        effective=effective, measured=seen, equilibrium=balance, anisotropy=anisotropy,
        proxy=proxy, reshuffling=shares, sampling=sampling, flags=tuple(flags),
    )  # fmt: skip


def constant_temperature_move(
    learning_rate: float,
    batch_size: int,
    factor: float,
    *,
    num_rows: int | None = None,
    sampling: Sampling = "streaming",
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
    lambda_max: float | None = None,
) -> Move:
    """The settings (k eta, k B): the same temperature in fewer or more steps.

    It saves steps only while B is far below the noise scale. Annealing obeys the same rule: K
    steps at 2B cool like 2K steps at eta/2, for the same examples and half the updates.

    Args:
        learning_rate, batch_size: the present settings.
        factor: k > 0; k B is rounded to a whole number of at least 1, and eta follows it.
        num_rows, sampling, momentum, momentum_kind: as in `temperature.temperature_factor`.
        lambda_max: largest curvature, for the drift.

    Example:
        >>> move = constant_temperature_move(0.02, 32, 4, lambda_max=6.0)
        >>> print(move.learning_rate, move.batch_size, round(move.drift, 2))
        0.08 128 1.24

    Source: Goyal et al. 2017; Smith, Kindermans, Ying and Le 2018.
    """
    positive("learning_rate", learning_rate)
    positive("factor", factor)
    new_size = max(1, round(count("batch_size", batch_size) * factor))
    scale = new_size / batch_size
    before = population_factor(batch_size, num_rows, sampling)
    if before == 0:
        raise UsageError(f"batch_size must be below num_rows to have a noise; got {batch_size}")
    after = population_factor(new_size, num_rows, sampling)
    drift = None
    if lambda_max is not None:
        limit = rate_limit(momentum, momentum_kind) / positive("lambda_max", lambda_max)
        room = limit - scale * learning_rate
        drift = (limit - learning_rate) / room if room > 0 else float("inf")
    return Move(
        learning_rate=learning_rate * scale, batch_size=new_size,
        temperature_ratio=after / before, drift=drift,
    )  # fmt: skip


def _finite_step(
    rate_times_curvature: float, momentum: float, momentum_kind: MomentumKind | None
) -> list[str]:
    limit = rate_limit(momentum, momentum_kind)
    if rate_times_curvature >= limit:
        return ["the sharpest direction is not stable: it has no temperature"]
    factor = limit / (limit - rate_times_curvature)
    if factor <= MOST_FINITE_STEP:
        return []
    return [f"finite steps heat the sharpest direction by a factor {factor:.3g}"]


def _shares(rates: Floats, batches: int) -> Floats | None:
    """Share of the variance that reshuffling leaves; one batch an epoch has no noise at all."""
    if batches < 2:
        return np.zeros(len(rates))
    return np.array(
        [reshuffling_ratio(x, batches).epoch_average if x < 2 else np.nan for x in rates]
    )


def _balance(ratio: Estimate) -> list[str]:
    if ratio.value is None:
        return ["equilibrium not checked: it may describe a transient"]
    return [TRANSIENT] if abs(ratio.value - 1) > TOLERANCE else []


def _spread(anisotropy: Estimate) -> list[str]:
    if anisotropy.value is None or anisotropy.value <= MOST_ANISOTROPY:
        return []
    return [f"directions differ {anisotropy.value:.2g}-fold in temperature: no Boltzmann form"]
