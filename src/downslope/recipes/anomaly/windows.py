"""Windows that begin at the same place of the period, to within half a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from downslope.arguments import number

LEAST = 64  # samples of a window: 33 frequencies to look at. Assumed
GOLDEN = (math.sqrt(5) - 1) / 2
STEPS = 4  # windows that cover a sample, where the period allows. Assumed


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where windows lie in a signal: number k begins at `round(k * hop)`.

    The hop is a whole number of periods and need not be a whole number of samples, so windows do
    not walk away from the period however long the signal is.

    Attributes:
        period: in samples.
        length: samples of a window.
        hop: samples from one window to the next, on average.

    Example:
        >>> layout = layout_for(12.5)
        >>> layout.length, layout.hop, layout.start(3)
        (75, 25.0, 75)
    """

    period: float
    length: int
    hop: float

    @property
    def overlap(self) -> int:
        """Windows in a row until two share no sample."""
        return math.ceil(self.length / self.hop)

    def start(self, number: int) -> int:
        """First sample of a window."""
        return math.floor(number * self.hop + 0.5)

    def count(self, num_samples: int) -> int:
        """Windows that lie within so many samples."""
        if num_samples < self.length:
            return 0
        number = max(0, math.floor((num_samples - self.length) / self.hop) - 1)
        while self.start(number) + self.length <= num_samples:
            number += 1
        return number

    def starts(self, num_samples: int) -> np.ndarray:
        """First samples [k] of the windows within so many samples."""
        return np.floor(np.arange(self.count(num_samples)) * self.hop + 0.5).astype(np.int64)

    def swept(self, num_samples: int) -> np.ndarray:
        """First samples [k] of windows that begin at every place of the period, to learn from.

        A recording begins anywhere in the period, and its windows then all begin there. So those
        that teach what is normal must begin everywhere: window k is moved on by the fractional
        part of k times the golden ratio, in periods, which fills the period evenly.
        """
        numbers = np.arange(self.count(num_samples))
        moved = numbers * self.hop + self.period * (numbers * GOLDEN % 1)
        starts = np.floor(moved + 0.5).astype(np.int64)
        return starts[starts + self.length <= num_samples]


def layout_for(period: float) -> Layout:
    """The layout of windows for a period.

    A window has two periods or more and 64 samples or more; windows overlap, three quarters where
    that is a whole number of periods.

    Args:
        period: in samples, 2 or more.

    Raises:
        UsageError: the period is shorter.
    """
    number("period", period, least=2)
    periods = max(2, math.ceil(LEAST / period))
    hops = max(1, round(periods / STEPS))
    return Layout(
        period=float(period), length=math.floor(periods * period), hop=hops * float(period)
    )


def cut(signal: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Windows [k, length] of a signal at the given places."""
    if len(starts) == 0:
        return np.zeros((0, length), signal.dtype)
    return np.lib.stride_tricks.sliding_window_view(signal, length)[starts]
