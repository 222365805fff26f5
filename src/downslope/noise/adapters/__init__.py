"""Measuring in training loops of others: optax, PyTorch."""

from downslope.noise.adapters.halves import (
    HalfBatches,
)
from downslope.noise.adapters.optax_monitor import (
    NoiseState,
    measure_noise,
    read_noise,
)

__all__ = [
    "HalfBatches",
    "NoiseState",
    "measure_noise",
    "read_noise",
]
