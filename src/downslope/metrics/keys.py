"""Integers in the order of float scores, for histograms as fine as the floats themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from downslope.metrics.moments import Floats

Keys = NDArray[np.uint32]
LARGEST = float(np.finfo(np.float32).max)
SIGN = np.uint32(0x80000000)
HALF = np.uint32(0x3F000000)  # bit pattern of 0.5


def score_keys(scores: Floats) -> Keys:
    """Integers in the order of the scores, compared as float32; -0.0 equals 0.0.

    The bits of a float, read as an integer, grow with a positive number and fall with a negative
    one: set the sign bit of the first, invert the second.

    >>> keys = score_keys(np.array([-2.0, -0.0, 0.0, 1e-45, 3.0]))
    >>> np.diff(keys.astype(int)).clip(-1, 1).tolist()
    [1, 0, 1, 1]
    """
    # adding zero turns -0.0 into 0.0
    bits = (np.clip(scores, -LARGEST, LARGEST).astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def probability_keys(probabilities: Floats) -> Keys:
    """Integers in the order of the probabilities, as fine near 1 as near 0, below 2**31.

    Above one half the bits of 1 - p count down; that difference is exact in floating point.

    >>> keys = probability_keys(np.array([0.0, 0.25, 0.5, 0.75, 1 - 2**-24, 1.0]))
    >>> bool((np.diff(keys.astype(int)) > 0).all())
    True
    """
    upper = probabilities > 0.5
    tail = np.where(upper, 1 - probabilities, probabilities)
    bits = (np.maximum(tail, 0).astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(upper, np.uint32(2) * HALF - bits, bits)
