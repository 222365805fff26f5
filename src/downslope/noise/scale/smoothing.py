"""A running estimate of the noise scale over a run, with a warning when it lags."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from downslope.errors import UsageError
from downslope.noise.statistics.ranges import positive

LAG_FACTOR = 2.0  # a signal that changed by more than this is followed too slowly


class Smoother:
    """Exponential averages of |G|^2 and tr Sigma with the same memory, and their ratio.

    After t updates with weights w each part is sum_k rho^(t-k) w_k x_k / sum_k rho^(t-k) w_k: at
    equal weights the usual average debiased by 1 - rho^t. The debiasing cancels in the ratio
    and matters for each part. It trails a change by about 1/(1 - rho) updates.

    Single steps may give a |G|^2 below zero: they are averaged as they are.

    Args:
        rho: share kept from update to update, at least 0 and below 1.

    Raises:
        UsageError: rho outside its range.

    Example:
        >>> smoother = Smoother(0.9)
        >>> for signal in (2.0, -0.5, 1.5):
        ...     smoother.update(signal=signal, trace=45.0)
        >>> round(smoother.signal, 3), round(smoother.trace, 3), round(smoother.scale, 1)
        (0.985, 45.0, 45.7)
    """

    def __init__(self, rho: float = 0.99):
        """Starts without any update."""
        if not 0 <= rho < 1:
            raise UsageError(f"rho must be at least 0 and below 1; got {rho}")
        self.rho = float(rho)
        self.num_updates = 0
        self._signal = self._trace = self._weight = 0.0
        # averages of the last 1/(1 - rho) updates, oldest first, to see how fast they move
        self._recent: deque[float] = deque(maxlen=math.ceil(1 / (1 - self.rho)) + 1)

    def update(self, *, signal: float, trace: float, weight: float = 1.0) -> None:
        """Adds one step's estimates; values that are not finite are left out.

        Raises:
            UsageError: a weight that is not positive.
        """
        positive("weight", weight)
        if not (math.isfinite(signal) and math.isfinite(trace)):
            return
        self._signal = self.rho * self._signal + weight * signal
        self._trace = self.rho * self._trace + weight * trace
        self._weight = self.rho * self._weight + weight
        self.num_updates += 1
        self._recent.append(self._signal / self._weight)

    @property
    def signal(self) -> float | None:
        """Debiased average of |G|^2; None before the first update."""
        return self._signal / self._weight if self.num_updates else None

    @property
    def trace(self) -> float | None:
        """Debiased average of tr Sigma; None before the first update."""
        return self._trace / self._weight if self.num_updates else None

    @property
    def scale(self) -> float | None:
        """Ratio of the averages in examples; None where the average |G|^2 is not positive."""
        if not self.num_updates or self._signal <= 0:
            return None
        return self._trace / self._signal

    @property
    def is_lagging(self) -> bool:
        """Whether the averaged |G|^2 changed by more than a factor 2 within its own memory.

        A change of sign counts. False until the memory of 1/(1 - rho) updates is full.
        """
        if len(self._recent) < (self._recent.maxlen or 0):
            return False
        now, least, most = self._recent[-1], min(self._recent), max(self._recent)
        if least <= 0:
            return most > 0
        return most / now > LAG_FACTOR or now / least > LAG_FACTOR

    def to_json(self) -> dict[str, Any]:
        """The state as plain numbers, from which `from_json` goes on exactly."""
        return {
            "rho": self.rho,
            "num_updates": self.num_updates,
            "signal": self._signal,
            "trace": self._trace,
            "weight": self._weight,
            "recent": list(self._recent),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Smoother:
        """The smoother that `to_json` described.

        Raises:
            UsageError: a field that is missing.
        """
        missing = sorted({"rho", "num_updates", "signal", "trace", "weight", "recent"} - set(state))
        if missing:
            raise UsageError(
                f"state must hold a smoother's fields; got one missing {', '.join(missing)}"
            )
        smoother = cls(state["rho"])
        smoother.num_updates = int(state["num_updates"])
        smoother._signal, smoother._trace = float(state["signal"]), float(state["trace"])
        smoother._weight = float(state["weight"])
        smoother._recent.extend(float(x) for x in state["recent"])
        return smoother
