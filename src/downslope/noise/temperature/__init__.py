"""The temperature of a run: prescribed, measured, and whether it means anything yet."""

from downslope.noise.temperature.dynamics import (
    MomentumKind,
    Sampling,
)
from downslope.noise.temperature.equilibrium import (
    equilibrium_ratio,
    update_equilibrium_ratio,
)
from downslope.noise.temperature.prescribed import (
    DirectionTemperatures,
    direction_temperatures,
    effective_temperature,
    finite_step_factor,
    measured_temperature,
    temperature_factor,
    temperature_proxy,
)
from downslope.noise.temperature.report import (
    Move,
    TemperatureRecord,
    constant_temperature_move,
    temperature_record,
)
from downslope.noise.temperature.reshuffling import (
    ReshufflingRatio,
    reshuffling_ratio,
)
from downslope.noise.temperature.stationary import (
    stationary_covariance,
    stationary_variance,
)

__all__ = [
    "DirectionTemperatures",
    "MomentumKind",
    "Move",
    "ReshufflingRatio",
    "Sampling",
    "TemperatureRecord",
    "constant_temperature_move",
    "direction_temperatures",
    "effective_temperature",
    "equilibrium_ratio",
    "finite_step_factor",
    "measured_temperature",
    "reshuffling_ratio",
    "stationary_covariance",
    "stationary_variance",
    "temperature_factor",
    "temperature_proxy",
    "temperature_record",
    "update_equilibrium_ratio",
]
