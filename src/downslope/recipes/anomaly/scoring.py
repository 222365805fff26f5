"""Both scores of windows, brought to one scale, and what stands behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.recipes.anomaly.model import rebuild
from downslope.recipes.anomaly.spectral import Spectrum, spectrum_of

PARTS = ("error", "peak", "spectrum", "line")
LARGEST = 1e100  # in spreads
PIECE = 4096  # windows at once: 2 MB of 64 samples


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores windows: the larger of how they are rebuilt and of their spectrum.

    Four parts: the mean square and the largest of the rebuilding's residuals ("error", "peak"),
    the same of the spectrum's deviations ("spectrum", "line"). Means see what is spread over a
    window, the largest what is narrow. Each part is put on a scale where normal windows have a
    median of 0 and a 99 % point of 1; the score is the largest.

    Attributes:
        centre, scale: of the normal signal; windows are taken in these units.
        model: the trained autoencoder.
        residual: [L] standard deviation of what is left after rebuilding normal windows.
        spectrum: of normal windows.
        middle, reach: [4] median of each part, and from there to its 99 % point.
    """

    centre: float
    scale: float
    model: Any
    residual: np.ndarray
    spectrum: Spectrum
    middle: np.ndarray
    reach: np.ndarray

    def units(self, windows: np.ndarray) -> np.ndarray:
        """Windows in units of the normal signal's spread, cut off where squares would overflow."""
        most = LARGEST * self.scale
        return np.clip(windows - self.centre, -most, most) / self.scale

    def residuals(self, windows: np.ndarray) -> np.ndarray:
        """What rebuilding leaves [n, L], in its normal standard deviations."""
        x = self.units(windows)
        return (x - rebuild(self.model, x)) / self.residual

    def deviations(self, windows: np.ndarray) -> np.ndarray:
        """How far each level of the spectrum [n, F + 5] lies from the normal, in spreads."""
        return self.spectrum.deviations(self.units(windows))

    def parts(self, windows: np.ndarray) -> np.ndarray:
        """The four parts [n, 4]; infinite for windows with a sample that is not finite."""
        found = np.empty((len(windows), len(PARTS)))
        for begin in range(0, len(windows), PIECE):
            piece = windows[begin : begin + PIECE]
            broken = np.any(~np.isfinite(piece), axis=1)
            whole = np.where(broken[:, None], self.centre, piece)
            values = (measured(self, whole) - self.middle) / self.reach
            found[begin : begin + PIECE] = np.where(broken[:, None], np.inf, values)
        return found

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Scores [n]: larger is less normal."""
        return self.parts(windows).max(1) if len(windows) else np.zeros(0)


def measured(scorer: Scorer, windows: np.ndarray) -> np.ndarray:
    """The four parts [n, 4] before they are scaled."""
    left, away = scorer.residuals(windows), scorer.deviations(windows)
    return np.stack(
        [(left**2).mean(1), np.abs(left).max(1), (away**2).mean(1), np.abs(away).max(1)], axis=1
    )


def scorer_of(windows: np.ndarray, model: Any, centre: float, scale: float) -> Scorer:
    """The scorer for a trained autoencoder, from the normal windows [n, L] that trained it."""
    x = (windows - centre) / scale
    residual = np.sqrt(np.mean((x - rebuild(model, x)) ** 2, axis=0))
    first = Scorer(
        centre=centre,
        scale=scale,
        model=model,
        # a signal without noise is rebuilt to rounding; what is smaller is not looked at
        residual=residual + 1e-4,
        spectrum=spectrum_of(x),
        middle=np.zeros(len(PARTS)),
        reach=np.ones(len(PARTS)),
    )
    return rescaled(first, windows)


def rescaled(scorer: Scorer, windows: np.ndarray) -> Scorer:
    """The scorer with its parts brought to one scale on normal windows."""
    pieces = [measured(scorer, piece) for piece in _pieces(windows)]
    middle, top = np.quantile(np.concatenate(pieces), [0.5, 0.99], axis=0)
    return dataclasses.replace(scorer, middle=middle, reach=np.maximum(top - middle, 1e-9))


def _pieces(windows: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(windows), PIECE):
        yield windows[begin : begin + PIECE]
