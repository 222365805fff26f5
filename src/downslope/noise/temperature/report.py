"""Temperature of a run with everything that speaks against reading it as one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import number
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature.stability import rate_limit
from downslope.noise.statistics.arrays import Floats
from downslope.noise.temperature.dynamics import (
    PRECONDITIONED,
    MomentumKind,
    Sampling,
    effective_rate,
)
from downslope.noise.temperature.equilibrium import TOLERANCE, TRANSIENT
from downslope.noise.temperature.prescribed import (
    MAX_ANISOTROPY,
    OVERSTATED,
    DirectionTemperatures,
    effective_temperature,
)
from downslope.noise.temperature.reshuffling import reshuffling_ratio

MAX_STEP_FACTOR = 1.1  # assumed: beyond it the factor for finite steps is flagged


@dataclass(frozen=True, kw_only=True)
class TemperatureRecord:
    """Temperatures, equilibrium ratio and anisotropy, never one of them alone.

    Attributes:
        effective: T_eff, prescribed by settings and noise, in loss units.
        measured: T_meas, from the steps.
        equilibrium: R_eq, 1 at stationarity.
        anisotropy: max T_i / min T_i.
        reshuffling: [k], share of the with-replacement variance left along each curvature given,
            epoch average; None unless epochs are reshuffled and curvatures were given.
        flags: what makes the single number lie.
    """

    effective: Estimate
    measured: Estimate
    equilibrium: Estimate
    anisotropy: Estimate
    reshuffling: Floats | None
    flags: tuple[str, ...]


def temperature_record(
    noise_trace: float | Estimate,
    dim: int,
    *,
    learning_rate: float,
    batch_size: int,
    num_rows: int | None = None,
    sampling: Sampling,
    is_plain: bool = True,
    momentum: float = 0.0,
    momentum_kind: MomentumKind | None = None,
    measured_temperature: Estimate | None = None,
    equilibrium: Estimate | None = None,
    directions: DirectionTemperatures | None = None,
    curvatures: ArrayLike | None = None,
) -> TemperatureRecord:
    """Temperatures of a run, with flags for each condition that does not hold.

    Args:
        noise_trace: tr(Sigma) of per-example gradients.
        dim: d, number of parameters.
        learning_rate, batch_size, num_rows, sampling, momentum, momentum_kind: as in
            `effective_temperature`.
        is_plain: a step is the gradient or its momentum times the rate; else temperatures are not
            estimable.
        measured_temperature: from `measured_temperature`.
        equilibrium: from `equilibrium_ratio`; for a preconditioned optimizer that of
            `update_equilibrium_ratio` stays meaningful and is kept.
        directions: from `direction_temperatures`.
        curvatures: [k] positive eigenvalues of the Hessian, for the finite-step and the
            reshuffling flags.

    Raises:
        UsageError: a value outside its range.

    Example:
        >>> found = temperature_record(4.5, 3, learning_rate=0.1, batch_size=5, num_rows=60,
        ...                            sampling="reshuffled", curvatures=[0.1, 1])
        >>> print(found.effective, found.reshuffling.round(3))
        0.014 loss [0.042 0.342]
    """
    effective = effective_temperature(
        noise_trace, dim, learning_rate=learning_rate, batch_size=batch_size, num_rows=num_rows,
        sampling=sampling, momentum=momentum, momentum_kind=momentum_kind,
    )  # fmt: skip
    seen = measured_temperature or not_estimable("not measured", unit="loss")
    anisotropy = directions.anisotropy if directions else not_estimable("not measured", unit="")
    balance = equilibrium or not_estimable("not measured", unit="")
    shares, flags = None, []
    if not is_plain:
        effective = seen = not_estimable(PRECONDITIONED, unit="loss")
        anisotropy = not_estimable(PRECONDITIONED, unit="")
        flags.append(PRECONDITIONED)
    elif curvatures is not None:
        values = np.asarray(curvatures, np.float64).ravel()
        for value in values:
            number("curvatures", value, above=0)
        flags += _finite_step(values.max(initial=0.0) * learning_rate, momentum, momentum_kind)
        if sampling == "reshuffled" and num_rows is not None:
            rate = effective_rate(learning_rate, momentum, momentum_kind)
            shares = _shares(values * rate, num_rows // batch_size)
            if momentum > 0:
                flags.append("reshuffling shares under momentum are those of eta/(1-beta)")
    if anisotropy.value is not None and anisotropy.value > MAX_ANISOTROPY:
        spread = f"directions differ {anisotropy.value:.2g}-fold in temperature: no Boltzmann form"
        flags.insert(0, spread)
    if balance.value is None:
        flags.insert(0, "equilibrium not checked: the temperature may describe a transient")
    elif abs(balance.value - 1) > TOLERANCE:
        flags.insert(0, TRANSIENT)
    if sampling == "reshuffled" and is_plain:
        flags.append(OVERSTATED)
    return TemperatureRecord(
        effective=effective, measured=seen, equilibrium=balance, anisotropy=anisotropy,
        reshuffling=shares, flags=tuple(flags),
    )  # fmt: skip


def _finite_step(
    rate_times_curvature: float, momentum: float, momentum_kind: MomentumKind | None
) -> list[str]:
    limit = rate_limit(momentum, momentum_kind)
    if rate_times_curvature >= limit:
        return ["the sharpest direction is not stable: it has no temperature"]
    factor = limit / (limit - rate_times_curvature)
    if factor <= MAX_STEP_FACTOR:
        return []
    return [f"finite steps heat the sharpest direction by a factor {factor:.3g}"]


def _shares(rates: Floats, batches: int) -> Floats | None:
    """Share of the variance that reshuffling leaves; one batch an epoch has no noise at all."""
    if batches < 2:
        return np.zeros(len(rates))
    return np.array(
        [reshuffling_ratio(x, batches).epoch_average if x < 2 else np.nan for x in rates]
    )
