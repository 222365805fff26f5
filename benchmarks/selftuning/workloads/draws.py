"""Initial weights."""

from __future__ import annotations

import numpy as np


class Draws:
    """Normal draws in float32 from one seed, in the order of the calls."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float) -> np.ndarray:
        """Draws of a standard deviation."""
        return (self._rng.standard_normal(shape) * scale).astype(np.float32)

    def dense(self, inputs: int, outputs: int, gain: float = 1.0) -> np.ndarray:
        """Matrix whose products with rows of unit variance have the variance `gain**2`."""
        return self.normal(inputs, outputs, scale=gain * inputs**-0.5)


def zeros(*shape: int) -> np.ndarray:
    """Zeros in float32."""
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray:
    """Ones in float32."""
    return np.ones(shape, np.float32)
