"""Mean and standard deviation of a stream of values, merged batch by batch."""

from __future__ import annotations

import math

import numpy as np

_PART = 1 << 13


class Moments:
    """Count, mean and variance of all values so far, and whether they are constant; NaN is skipped.

    Each batch is centred on its own mean, and batches are merged by the update of Chan, Golub and
    LeVeque (1979, eq. 2.1), so that no two large sums of squares are subtracted.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0  # sum of squared deviations from the mean
        self._only: float | None = None
        self.constant = True

    def add(self, values: np.ndarray) -> int:
        """Add a contiguous float vector, finite or NaN; returns the number of NaN."""
        total = float(np.add.reduce(values))  # pairwise: exact to a few units in the last place
        missing = 0
        if not math.isfinite(total):
            known = values[~np.isnan(values)]
            missing, values = len(values) - len(known), known
            total = float(np.add.reduce(values, dtype=np.float64))
        if len(values):
            self._merge(values, total / len(values))
        return missing

    def _merge(self, values: np.ndarray, mean: float) -> None:
        if self.constant:
            self._only = float(values[0]) if self._only is None else self._only
            self.constant = bool(values.min() == self._only == values.max())
        deviations = values - values.dtype.type(mean)
        # By BLAS, in parts: it adds up in float32, whose error grows with the length.
        parts = (deviations[i : i + _PART] for i in range(0, len(deviations), _PART))
        squares = sum(float(np.dot(part, part)) for part in parts)
        count, gap = len(values), mean - self.mean
        self.count += count
        self.mean += gap * count / self.count
        between = gap * gap * (self.count - count) * count / self.count
        self.squares += squares + between

    @property
    def scale(self) -> float:
        """Standard deviation (of the population), never zero: 1 where it vanishes."""
        return math.sqrt(self.squares / self.count) or 1.0 if self.count else 1.0
