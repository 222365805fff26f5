"""Curvature and what it allows: eigenvalues of the Hessian, stable learning rates, oscillation."""

from downslope.noise.curvature.conditioning import (
    Conditioning,
    condition_number,
)
from downslope.noise.curvature.hessian import (
    chunked_hessian_product,
    directional_curvatures,
    hessian_product,
)
from downslope.noise.curvature.mean_square import (
    MeanSquareLimits,
    batch_sharpness,
    gaussian_least_squares_limit,
    mean_square_limits,
    necessary_limit,
)
from downslope.noise.curvature.oscillation import (
    OnlineStability,
    divergence_alarm,
    online_stability,
)
from downslope.noise.curvature.spectrum import (
    Spectrum,
    extreme_eigenvalues,
    num_products_needed,
    preconditioned,
    relative_error_bound,
    trace,
)
from downslope.noise.curvature.stability import (
    StabilityRatio,
    largest_stable_curvature,
    largest_stable_rate,
    rate_limit,
    stability_ratio,
)

__all__ = [
    "Conditioning",
    "MeanSquareLimits",
    "OnlineStability",
    "Spectrum",
    "StabilityRatio",
    "batch_sharpness",
    "chunked_hessian_product",
    "condition_number",
    "directional_curvatures",
    "divergence_alarm",
    "extreme_eigenvalues",
    "gaussian_least_squares_limit",
    "hessian_product",
    "largest_stable_curvature",
    "largest_stable_rate",
    "mean_square_limits",
    "necessary_limit",
    "num_products_needed",
    "online_stability",
    "preconditioned",
    "rate_limit",
    "relative_error_bound",
    "stability_ratio",
    "trace",
]
