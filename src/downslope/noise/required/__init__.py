"""The smallest batch for a given error of the gradient, with a given probability."""

from downslope.noise.required.report import (
    RequiredBatch,
    required_batch,
)
from downslope.noise.required.rules import (
    borell_tis_batch,
    chebyshev_batch,
    empirical_bernstein_batch,
    empirical_bernstein_error,
    empirical_deviation,
    hilbert_bernstein_batch,
    satterthwaite_batch,
    three_moment_batch,
    vector_bernstein_batch,
    without_replacement,
)

__all__ = [
    "RequiredBatch",
    "borell_tis_batch",
    "chebyshev_batch",
    "empirical_bernstein_batch",
    "empirical_bernstein_error",
    "empirical_deviation",
    "hilbert_bernstein_batch",
    "required_batch",
    "satterthwaite_batch",
    "three_moment_batch",
    "vector_bernstein_batch",
    "without_replacement",
]
