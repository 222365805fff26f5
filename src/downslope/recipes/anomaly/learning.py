"""What a detector learns from normal signals, and how it learns more of them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import DataError
from downslope.recipes.anomaly.model import Model
from downslope.recipes.anomaly.period import as_signal
from downslope.recipes.anomaly.scoring import Scorer, scorer_of
from downslope.recipes.anomaly.windows import Layout, cut

VALIDATION = 0.1  # share of what trains that only decides. Assumed
LEAST = 10  # windows that train, at the least; a hundred are a better number. Assumed
KEPT = 8192  # held-out windows kept for calibrating anew: 4 MB of 64 samples


@dataclass(frozen=True, kw_only=True)
class Learned:
    """All that scores and calibrates: what a file keeps of a detector, beside its parameters.

    Attributes:
        layout: where windows lie.
        scorer: scores them.
        held_out: [m, L] the latest windows that only calibrate.
        num_windows: windows that trained.
    """

    layout: Layout
    scorer: Scorer
    held_out: np.ndarray
    num_windows: int

    def scores(self) -> np.ndarray:
        """Of the held-out windows [m]."""
        return self.scorer(self.held_out)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Windows of normal signals; no sample is in two parts.

    Attributes:
        train: [n, L] those that train.
        validation: [k, L] those that decide about training.
        held_out: [m, L] those that calibrate the threshold.
    """

    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


def split(
    signals: list[np.ndarray],
    layout: Layout,
    *,
    held_out: float,
    least: int = LEAST,
    known: Iterable[np.ndarray] = (),
) -> Split:
    """Windows of the beginning, the middle and the end of each signal.

    Args:
        signals: each [n].
        layout: where windows lie.
        held_out: share of each signal, its end.
        least: windows that must train.
        known: windows that are held out already, and are not again.

    Raises:
        DataError: a part is empty, or too few windows train.

    Warns:
        UserWarning: signals that are too short to hold a window of any part.
    """
    parts: list[list[np.ndarray]] = [[], [], []]
    for signal in signals:
        starts = layout.swept(len(signal))
        last = len(signal) * (1 - held_out)
        edges = (0, last * (1 - VALIDATION), last, len(signal))
        for part, low, high in zip(parts, edges, edges[1:], strict=False):
            inside = (starts >= low) & (starts + layout.length <= high)
            part.append(cut(signal, starts[inside], layout.length))
    train, validation, held = (np.concatenate(part) for part in parts)
    idle = sum(not any(map(len, windows)) for windows in zip(*parts, strict=True))
    if len(train) < least or not len(validation) or not len(held):
        # each part must hold a window wherever it begins: one window and one hop
        one = layout.length + layout.hop + layout.period
        needed = max(
            (one + (least - 1) * layout.hop) / (1 - VALIDATION) / (1 - held_out),
            one / VALIDATION / (1 - held_out),
            one / held_out,
        )
        raise DataError(
            f"{len(train)} windows of {layout.length} samples to train on, {len(validation)} to "
            f"decide by and {len(held)} to calibrate on; too few",
            remedy=f"give {needed:,.0f} samples or more, without gaps",
        )
    if idle:
        warnings.warn(
            f"{idle:,} of {len(signals):,} signals are too short for windows of {layout.length} "
            "samples, and teach nothing",
            stacklevel=3,
        )
    seen = {window.tobytes() for window in known}
    new = np.array([window.tobytes() not in seen for window in held], bool)
    return Split(train=train, validation=validation, held_out=held[new])


def learned(parts: Split, model: Model, layout: Layout, units: tuple[float, float]) -> Learned:
    """What a trained autoencoder and the windows that trained it give."""
    return Learned(
        layout=layout,
        scorer=scorer_of(parts.train, model, *units),
        held_out=parts.held_out[-KEPT:],
        num_windows=len(parts.train),
    )


def learned_more(before: Learned, parts: Split, model: Model) -> Learned:
    """The same after more windows: model new, spreads and spectrum of all windows, scale old.

    One scale for the parts of the score would need old windows too, and those that are kept
    calibrate: it stays, which shifts the balance of the parts but not the calibration.
    """
    old = before.scorer
    train = np.concatenate([parts.train, parts.validation])
    new = scorer_of(train, model, old.centre, old.scale)
    count = before.num_windows + len(train)
    share = len(train) / count
    scorer = dataclasses.replace(
        new,
        residual=np.sqrt((1 - share) * old.residual**2 + share * new.residual**2),
        spectrum=old.spectrum.merged(new.spectrum),
        middle=old.middle,
        reach=old.reach,
    )
    held_out = np.concatenate([before.held_out, parts.held_out])[-KEPT:]
    return Learned(layout=before.layout, scorer=scorer, held_out=held_out, num_windows=count)


def signals_of(X: Any) -> list[np.ndarray]:
    """One signal or several, as a list; an array of two dimensions is not guessed about.

    A signal that is given twice is taken once: it is no more evidence than before.

    Raises:
        DataError: there are none, or one is no series of finite numbers.
    """
    if not isinstance(X, (list, tuple)) or (len(X) and np.ndim(X[0]) == 0):
        return [as_signal(X)]
    if not X:
        raise DataError("there are no signals", remedy="give a normal signal [n], or a list")
    signals = [as_signal(each) for each in X]
    return list({each.tobytes(): each for each in signals}.values())


def units_of(signals: list[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of all samples.

    Raises:
        DataError: they do not vary.
    """
    together = np.concatenate(signals)
    with np.errstate(over="ignore", invalid="ignore"):
        centre, scale = float(together.mean()), float(together.std())
    if scale == 0 or not np.isfinite(scale):
        raise DataError(
            "the signal is constant, or its values are too large or too small to be squared"
        )
    return centre, scale
