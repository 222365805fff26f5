"""The period of a signal: from its spectrum and autocorrelation, with an interval or a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import detrend

from downslope import DataError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.recipes.labels import missing

BLOCKS = 8  # parts that are measured apart; 7 degrees of freedom for the interval. Assumed
PERIODS = 4  # that a block must hold, so that its peak stands apart from that of the mean. Assumed
MULTIPLES = 8  # of the strongest line's period that are tried: a beat's 8th overtone. Assumed
REPEATS = 0.3  # autocorrelation from which a signal is said to repeat. Assumed
UNIT, METHOD = "samples", "spectral peak of 8 blocks, fundamental by autocorrelation"


def find_period(signal: Any) -> Estimate:
    """The period of a signal in samples, with its 95 % interval, or why there is none.

    The strongest line of the spectrum gives a period P. Of P, 2 P, 3 P, ... the shortest is taken
    whose autocorrelation comes within a tenth of the best: a beat with sharp edges has its
    strongest line at an overtone. Eight blocks are then measured apart; the interval is Student's
    for the mean of their frequencies, so it holds what the frequency itself wanders.

    Args:
        signal: [n] samples at equal distances in time.

    Returns:
        The period, or a reason: fewer than 4 periods in a block, no line above noise, no
        repetition, blocks that disagree.

    Raises:
        DataError: the signal has more than one dimension, or a value that is not finite.

    Example:
        >>> turns = np.arange(4000)
        >>> noise = np.random.default_rng(0).normal(size=4000)
        >>> found = find_period(np.cos(2 * np.pi * turns / 12.5) + 0.2 * noise)
        >>> found.lo < 12.5 < found.hi, round(found.value, 2)
        (True, 12.5)

    Source:
        Fisher (1929), "Tests of significance in harmonic analysis", for the line above noise.
    """
    x = as_signal(signal)
    if len(x) < BLOCKS * PERIODS * 2:
        return _none(f"{len(x)} samples; {BLOCKS * PERIODS * 2} or more are needed", len(x))
    x = x / (np.abs(x).max() or 1.0)  # the period has no scale, and squares must not overflow
    if np.ptp(x) == 0:
        return _none("the signal is constant", len(x))
    x = detrend(x)
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)), 2 * len(x))) ** 2
    frequencies = np.fft.rfftfreq(2 * len(x))
    slow = frequencies < BLOCKS * PERIODS / len(x)
    power[slow] = 0.0
    # Fisher's test at 0.1 %: the largest of m exponential powers over their mean
    if power.max() < power[~slow].mean() * np.log(power.size / 2 / 1e-3):
        return _none("no line of the spectrum stands above noise", len(x))
    first = 1 / frequencies[power.argmax()]
    longest = len(x) / (BLOCKS * PERIODS)
    tried = [k * first for k in range(1, MULTIPLES + 1) if k == 1 or k * first <= longest]
    found = [_autocorrelation(power, frequencies, lag) for lag in tried]
    if max(found) < REPEATS:
        return _none(
            f"the signal does not repeat: autocorrelation {max(found):.2f} at best", len(x)
        )
    chosen = next(i for i, value in enumerate(found) if value >= 0.9 * max(found))
    # the strong line is measured, not the weak fundamental, which is a whole part of it
    lines = np.array([_peak(block, 1 / first) for block in np.array_split(x, BLOCKS)])
    lines /= chosen + 1
    centre, error = lines.mean(), lines.std(ddof=1) / np.sqrt(BLOCKS)
    if lines.std(ddof=1) > 0.1 * centre:
        return _none("parts of the signal have different periods", len(x))
    # a peak is read between bins to a hundredth of one, whatever the blocks' agreement says
    reach = t_quantile(BLOCKS - 1) * error + 0.01 / len(x) / (chosen + 1)
    return Estimate(
        value=float(1 / centre),
        lo=float(1 / (centre + reach)),
        hi=float(1 / (centre - reach)),
        unit=UNIT,
        num_examples=len(x),
        method=METHOD,
    )


def as_signal(signal: Any, *, finite: bool = True) -> np.ndarray:
    """The samples as float64 [n].

    Args:
        signal: [n], or one column [n, 1]. Masked samples and those missing become NaN.
        finite: refuse samples that are not.

    Raises:
        DataError: what is given is no series of numbers.
    """
    try:
        x = np.asanyarray(signal)
        x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
        if x.dtype.kind == "O" and x.ndim == 1:
            if any(isinstance(each, (str, bytes)) for each in x):
                raise TypeError
            x = np.where(missing(x), np.nan, np.ma.filled(x, np.nan))
        if x.dtype.kind not in "fiubO":
            raise TypeError
        x = np.ma.filled(x.astype(np.float64), np.nan)
    except (TypeError, ValueError):
        raise DataError("a signal must be numbers", remedy="give one array [n]") from None
    if x.ndim != 1:
        raise DataError(f"a signal must have one dimension; got {x.ndim}", remedy="one channel")
    bad = ~np.isfinite(x)
    if finite and bad.any():
        raise DataError(
            "not a finite number",
            row=int(bad.argmax()) + 1,
            remedy="train on stretches without gaps: a list of signals",
        )
    return x


def _autocorrelation(power: np.ndarray, frequencies: np.ndarray, lag: float) -> float:
    """At any lag, also between samples, by the theorem of Wiener and Khinchin."""
    return float(power @ np.cos(2 * np.pi * frequencies * lag) / power.sum())


def _peak(block: np.ndarray, near: float) -> float:
    """Frequency of the strongest line within a fifth of `near`, read between bins."""
    size = 8 * len(block)
    level = np.log(np.abs(np.fft.rfft(block * np.hanning(len(block)), size)) ** 2 + 1e-300)
    low, high = int(0.8 * near * size), min(int(1.2 * near * size) + 1, len(level) - 1)
    place = low + int(level[low : high + 1].argmax())
    if not 0 < place < len(level) - 1:
        return place / size
    left, top, right = level[place - 1 : place + 2]
    bend = left - 2 * top + right
    return (place + (0.5 * (left - right) / bend if bend < 0 else 0.0)) / size


def _none(reason: str, count: int) -> Estimate:
    return not_estimable(reason, unit=UNIT, num_examples=count, method=METHOD)
