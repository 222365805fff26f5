"""The mini-batch gradient as an estimate: variance, angle to another one, bias, one step."""

from downslope.noise.gradient.angle import (
    AngleReport,
    batch_variance,
    expected_angle,
    finite_population_factor,
    probability_of_opposite_signs,
)
from downslope.noise.gradient.bias import (
    BiasCheck,
    bias_check,
)
from downslope.noise.gradient.one_step import (
    OneStep,
    one_step_change,
)

__all__ = [
    "AngleReport",
    "BiasCheck",
    "OneStep",
    "batch_variance",
    "bias_check",
    "expected_angle",
    "finite_population_factor",
    "one_step_change",
    "probability_of_opposite_signs",
]
