"""The threshold of an alarm: from normal windows held out, for a stated rate of false alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from downslope import DataError
from downslope.arguments import number
from downslope.estimate import Estimate

TAIL = 0.1  # share of the scores that a tail is read from. Assumed
METHOD = "scores of held-out normal windows, Clopper-Pearson"
UNIT = "false alarms per window"


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Above which score a window is an alarm, and what that costs in false alarms.

    Attributes:
        value: the score.
        asked: the false alarms per window that were asked for.
        rate: those to expect, with a 95 % interval; or at most how many, and why no more is known.
        num_windows: held-out windows behind it.
        num_independent: those that share no sample.
    """

    value: float
    asked: float
    rate: Estimate
    num_windows: int
    num_independent: int


def calibrate(scores: np.ndarray, rate: float, *, overlap: int = 1) -> Threshold:
    """The threshold for a rate of false alarms, from scores of normal windows.

    The k-th largest of n scores with k = floor(rate (n + 1)): a new normal window, exchangeable
    with them, lies above it with a chance of k / (n + 1). Below `least_rate` counting says
    nothing: then the threshold is where an exponential tail through the upper tenth reaches the
    rate, and never below the largest score; of the rate only the bound is stated.

    Args:
        scores: [n] of normal windows that neither trained nor scaled anything.
        rate: false alarms per window, between 0 and 1.
        overlap: windows in a row until two share no sample. Overlapping ones rise and fall
            together, so intervals count one in `overlap`.

    Raises:
        UsageError: the rate does not lie between 0 and 1.
        DataError: there are no scores.

    Example:
        >>> scores = np.random.default_rng(0).exponential(size=9999)
        >>> found = calibrate(scores, 0.001)
        >>> print(found.rate)
        0.00100 (0.00041 to 0.00171) false alarms per window
        >>> print(calibrate(scores[:99], 0.001).rate.reason)
        99 independent held-out windows can state 0.01 at best; 0.001 needs 999

    Source:
        Clopper and Pearson (1934), "The use of confidence or fiducial limits"; Vovk, Gammerman
        and Shafer (2005), "Algorithmic learning in a random world", section 2.2.
    """
    number("false_alarm_rate", rate, above=0, below=1)
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    count = len(ordered)
    if count == 0:
        raise DataError("no normal windows are held out", remedy="give a longer signal")
    independent = max(1, count // overlap)
    if independent < windows_needed(rate):
        high = clopper_pearson(0, independent)[1]
        reason = (
            f"{independent:,} independent held-out windows can state "
            f"{least_rate(independent):.2g} at best; {rate:g} needs {windows_needed(rate):,}"
        )
        stated = Estimate(
            value=None, hi=high, unit=UNIT, num_examples=count, method=METHOD, reason=reason
        )
        value = max(ordered[0], _tail(ordered, rate))
    else:
        place = math.floor(rate * (count + 1) + 1e-9)
        value = ordered[place - 1]
        low, high = clopper_pearson((place - 1) * independent / count, independent)
        stated = Estimate(
            value=place / (count + 1), lo=low, hi=high, unit=UNIT, num_examples=count, method=METHOD
        )
    return Threshold(
        value=float(value),
        asked=rate,
        rate=stated,
        num_windows=count,
        num_independent=independent,
    )


def clopper_pearson(successes: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share.

    Args:
        successes: how many of the trials; need not be whole, where trials were thinned.
        trials: greater than 0.
        level: chance that the interval holds the share, at least.

    Example:
        >>> [round(end, 4) for end in clopper_pearson(0, 100)]
        [0.0, 0.0362]
    """
    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def least_rate(num_independent: int) -> float:
    """The smallest rate of false alarms that so many independent windows can state.

    Example:
        >>> least_rate(999)
        0.001
    """
    return 1 / (num_independent + 1)


def windows_needed(rate: float) -> int:
    """Independent normal windows, held out, that are needed to state a rate."""
    return math.ceil(1 / rate - 1e-9) - 1


def _tail(ordered: np.ndarray, rate: float) -> float:
    count = max(1, int(TAIL * len(ordered)))
    if count >= len(ordered):
        return float(ordered[0])
    edge = ordered[count]
    return float(edge + (ordered[:count] - edge).mean() * np.log(count / len(ordered) / rate))
