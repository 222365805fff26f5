"""The autoencoder trained: solved where that is enough, and descended from there where it pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from downslope.estimate import Estimate
from downslope.recipes.anomaly.model import Model, bent, gain, straight

if TYPE_CHECKING:
    from downslope import Result

PAYS = 0.1  # of the held-out error: smaller gains changed no detection on three signals


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An autoencoder, and how it came about.

    Attributes:
        model: its arrays.
        gain: share of the held-out error that a solved bend removes.
        result: the descent, as `downslope.fit` gives it; None where it would not have paid.
    """

    model: Model
    gain: Estimate
    result: Result | None


def train(
    windows: np.ndarray,
    validation: np.ndarray,
    *,
    overlap: int,
    code: int | None = None,
    epochs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> Trained:
    """The autoencoder for normal windows.

    The straight part is solved. A bend is solved too, for random features, which costs
    milliseconds and says on other windows what bending is worth. Where it removes a tenth of the
    error beyond doubt, `downslope.fit` goes on from there with all weights, choosing batch size,
    rate and end. Elsewhere a descent would spend seconds on compiling and gain nothing.

    Args:
        windows: [n, L] normal ones, in units of the signal's spread.
        validation: [m, L] normal ones of another stretch, to decide and to stop by.
        overlap: windows in a row until two share no sample.
        code: numbers in a code; None for as many as stand above noise.
        epochs: passes over the windows, at most; None leaves it to choose.
        seconds: time budget.
        seed: of every random choice.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> def waves(count):  # two numbers say all but noise, and no bend is needed
        ...     angle = draw.uniform(0, 2 * np.pi, size=(count, 1)) + np.arange(64) / 8
        ...     return np.cos(angle) + 0.1 * draw.normal(size=(count, 64))
        >>> found = train(waves(1000), waves(200), overlap=1)
        >>> found.model["encode"].shape, found.gain.hi < PAYS, found.result
        ((64, 2), True, None)
    """
    line = straight(windows, code=code, seed=seed)
    curve = bent(line, windows)
    found = gain(line, curve, validation, overlap=overlap)
    if found.lo is None or found.lo < PAYS:
        return Trained(model=line, gain=found, result=None)
    # JAX is imported where it is needed: a solved detector starts in half the time
    from downslope.recipes.anomaly.descent import arrays_of, descend

    result = descend(curve, windows, validation, epochs=epochs, seconds=seconds, seed=seed)
    return Trained(model=arrays_of(result.params), gain=found, result=result)
