"""The path of the parameters, kept in bounded memory."""

from downslope.noise.trajectory.record import (
    Trajectory,
)
from downslope.noise.trajectory.statistics import (
    PrincipalPath,
    autocorrelation_time,
    displacement_exponent,
    principal_path,
    square_displacement,
)

__all__ = [
    "PrincipalPath",
    "Trajectory",
    "autocorrelation_time",
    "displacement_exponent",
    "principal_path",
    "square_displacement",
]
