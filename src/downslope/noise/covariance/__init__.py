"""Anatomy of the noise: eigenpairs of its covariance, and how they lie to the curvature."""

from downslope.noise.covariance.alignment import (
    alignment,
    in_words,
    isotropic_alignment,
    sharpness_ratio,
    sharpness_ratio_of,
)
from downslope.noise.covariance.eigenpairs import (
    Spectrum,
    top_eigenpairs,
)
from downslope.noise.covariance.inputs import (
    InputAlignment,
    direction_cosines,
    input_alignment,
)
from downslope.noise.covariance.profile import (
    NoiseProfile,
    noise_profile,
)
from downslope.noise.covariance.rank import (
    effective_rank,
    trace_of_square,
)
from downslope.noise.covariance.sketches import (
    random_projections,
    sketch,
    sketch_error,
)

__all__ = [
    "InputAlignment",
    "NoiseProfile",
    "Spectrum",
    "alignment",
    "direction_cosines",
    "effective_rank",
    "in_words",
    "input_alignment",
    "isotropic_alignment",
    "noise_profile",
    "random_projections",
    "sharpness_ratio",
    "sharpness_ratio_of",
    "sketch",
    "sketch_error",
    "top_eigenpairs",
    "trace_of_square",
]
