"""A clipping threshold from the norms seen so far: a percentile of their history.

Two histories of one form (`add`, `threshold`, `to_json`, `from_json`): the last norms themselves,
or five markers that follow the percentile of all norms in constant memory.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.errors import UsageError
from downslope.noise.statistics.ranges import count

PERCENTILE = 10.0  # the authors' setting (Seetharaman et al. 2020), as cited; not checked again


class NormWindow:
    """Percentile of the last `window` gradient norms (AutoClip).

    Norms that are not finite are counted and left out.

    Args:
        percentile: 0 to 100; 10 clips nine gradients in ten, 90 one in ten.
        window: norms kept, 1 or more.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> history = NormWindow(percentile=90, window=1000)
        >>> for norm in range(1, 102):
        ...     history.add(float(norm))
        >>> history.threshold()
        91.0
        >>> NormWindow.from_json(history.to_json()).threshold()
        91.0

    Source: Seetharaman, Wichern, Pardo and Le Roux 2020.
    """

    def __init__(self, percentile: float = PERCENTILE, window: int = 1000):
        self.percentile = _checked_percentile(percentile)
        self.window = count("window", window)
        self.num_bad = 0
        self._norms: deque[float] = deque(maxlen=self.window)

    def add(self, norm: float) -> None:
        """Takes in the norm of one more gradient."""
        if math.isfinite(norm) and norm >= 0:
            self._norms.append(float(norm))
        else:
            self.num_bad += 1

    def threshold(self) -> float | None:
        """The percentile (linear between order statistics), or None before the first norm."""
        return float(np.percentile(self._norms, self.percentile)) if self._norms else None

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs, as plain numbers and lists."""
        return {
            "percentile": self.percentile,
            "window": self.window,
            "num_bad": self.num_bad,
            "norms": list(self._norms),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> NormWindow:
        """The history as it was when `to_json` was called."""
        self = cls(state["percentile"], state["window"])
        self.num_bad = int(state["num_bad"])
        self._norms.extend(state["norms"])
        return self


class NormQuantile:
    """Percentile of all gradient norms in the memory of five numbers (the P^2 algorithm).

    Markers at the least, p/2, p, (1+p)/2 and largest norm move by at most one position a norm,
    along a parabola through their neighbours. Norms that are not finite are counted and left out.

    Args:
        percentile: 0 to 100, ends left out.

    Raises:
        UsageError: percentile is out of range.

    Example:
        >>> history = NormQuantile(percentile=90)
        >>> for norm in np.random.default_rng(0).random(20000):
        ...     history.add(norm)
        >>> print(f"{history.threshold():.2f}")
        0.90

    Source: Jain and Chlamtac 1985.
    """

    def __init__(self, percentile: float = PERCENTILE):
        self.percentile = _checked_percentile(percentile)
        if self.percentile in (0.0, 100.0):
            raise UsageError(f"percentile must lie between 0 and 100; got {percentile}")
        self.num_bad, self.count = 0, 0
        self._heights: list[float] = []
        self._places = [1, 2, 3, 4, 5]

    def add(self, norm: float) -> None:
        """Takes in the norm of one more gradient."""
        if not (math.isfinite(norm) and norm >= 0):
            self.num_bad += 1
            return
        self.count += 1
        if self.count <= 5:
            self._heights = sorted([*self._heights, float(norm)])
            return
        heights, places = self._heights, self._places
        heights[0], heights[4] = min(heights[0], norm), max(heights[4], norm)
        cell = max(i for i in range(4) if heights[i] <= norm)
        for i in range(cell + 1, 5):
            places[i] += 1
        for i, wanted in zip((1, 2, 3), self._wanted(), strict=True):
            gap = wanted - places[i]
            if (gap >= 1 and places[i + 1] - places[i] > 1) or (
                gap <= -1 and places[i - 1] - places[i] < -1
            ):
                self._move(i, 1 if gap > 0 else -1)

    def threshold(self) -> float | None:
        """The percentile; exact up to five norms, None before the first."""
        if not self._heights:
            return None
        if self.count <= 5:
            return float(np.percentile(self._heights, self.percentile))
        return self._heights[2]

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs, as plain numbers and lists."""
        return {
            "percentile": self.percentile,
            "num_bad": self.num_bad,
            "count": self.count,
            "heights": list(self._heights),
            "places": list(self._places),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> NormQuantile:
        """The history as it was when `to_json` was called."""
        self = cls(state["percentile"])
        self.num_bad, self.count = int(state["num_bad"]), int(state["count"])
        self._heights, self._places = list(state["heights"]), list(state["places"])
        return self

    def _wanted(self) -> tuple[float, float, float]:
        """Places where the three inner markers should stand after `count` norms."""
        p, last = self.percentile / 100, self.count - 1
        return 1 + last * p / 2, 1 + last * p, 1 + last * (1 + p) / 2

    def _move(self, i: int, way: int) -> None:
        q, n = self._heights, self._places
        left, right = n[i] - n[i - 1], n[i + 1] - n[i]
        rise = (left + way) * (q[i + 1] - q[i]) / right + (right - way) * (q[i] - q[i - 1]) / left
        height = q[i] + way * rise / (left + right)
        if not q[i - 1] < height < q[i + 1]:  # the parabola left the order: a straight line
            height = q[i] + way * (q[i + way] - q[i]) / (n[i + way] - n[i])
        q[i] = height
        n[i] += way


def _checked_percentile(percentile: float) -> float:
    if not 0 <= percentile <= 100:
        raise UsageError(f"percentile must be from 0 to 100; got {percentile}")
    return float(percentile)
