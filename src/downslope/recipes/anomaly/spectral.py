"""The second score: power by frequency, which sees what an autoencoder can rebuild.

A weaker oscillation lies in the same plane as a strong one: the autoencoder rebuilds it without
error, and rebuilds a dead signal best of all. Their power is not the normal one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HALVES = 5  # places of a half-window within a window. Assumed
DEAD = 1e-8  # power of changes, in that of the signal, below which a signal stands still. Assumed


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """What the spectrum of normal windows is like.

    Attributes:
        count: windows behind it.
        mean: [F + 5] mean of each level, of F frequencies and five half-windows.
        squares: [F + 5] sums of squared deviations from the mean.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation [F + 5]; never below a thousandth of the loudest level."""
        return np.sqrt(self.squares / max(1, self.count - 1)) + 1e-3 * self.mean.max() + 1e-12

    @property
    def num_frequencies(self) -> int:
        """F."""
        return len(self.mean) - HALVES

    def merged(self, other: Spectrum) -> Spectrum:
        """The spectrum of both sets of windows (Chan, Golub and LeVeque 1983, equation 2.1)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        return Spectrum(
            count=count,
            mean=self.mean + shift * other.count / count,
            squares=self.squares + other.squares + shift**2 * self.count * other.count / count,
        )

    def deviations(self, windows: np.ndarray) -> np.ndarray:
        """How far each level [n, F + 5] of windows lies from the normal, in spreads."""
        return (levels(windows) - self.mean) / self.spread


def spectrum_of(windows: np.ndarray) -> Spectrum:
    """The spectrum of normal windows [n, L].

    Example:
        >>> turns = np.arange(64)
        >>> draw = np.random.default_rng(0)
        >>> normal = np.cos(2 * np.pi * (turns / 8 + draw.uniform(size=(500, 1))))
        >>> normal += 0.1 * draw.normal(size=normal.shape)
        >>> found = spectrum_of(normal)
        >>> away = found.deviations(0.5 * normal[:1])[0, : found.num_frequencies]
        >>> int(np.abs(away).argmax())  # 8 cycles in 64 samples
        8
    """
    seen = levels(windows)
    mean = seen.mean(0)
    return Spectrum(count=len(seen), mean=mean, squares=((seen - mean) ** 2).sum(0))


def levels(windows: np.ndarray) -> np.ndarray:
    """Levels [n, F + 5]: of F = L // 2 + 1 frequencies, and of five half-windows.

    Of a frequency it is the cube root of its power: that makes the power of noise, a chi square
    of 2 degrees, nearly normal (Wilson and Hilferty 1931), where a logarithm has a long tail
    towards nothing. Of a half-window, a quarter of one after the other, it is the logarithm of
    the power of its changes: it falls without bound where a signal stands still for a while.
    """
    length = windows.shape[-1]
    shape = np.hanning(length + 1)[:-1]
    lines = np.cbrt(np.abs(np.fft.rfft(windows * shape, axis=-1)) ** 2)
    changes, half = np.diff(windows, axis=-1) ** 2, length // 2
    begins = [round(k * (length - half) / (HALVES - 1)) for k in range(HALVES)]
    powers = [changes[:, begin : begin + half - 1].mean(-1) for begin in begins]
    return np.concatenate([lines, np.log(np.stack(powers, -1) + DEAD)], axis=-1)
