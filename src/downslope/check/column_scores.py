"""Score of a single column as a predictor of the target, on rows it was not fitted to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from downslope.check.sample import Sample
from downslope.estimate import Estimate
from downslope.metrics.intervals import wilson_interval
from downslope.noise.statistics.intervals import jackknife_error, linear_interval

NUM_BINS = 64  # of a number, with equally many rows each
MIN_CLASS_ROWS_PER_HALF = 10  # in each half: by chance AUC 0.99 is then 5 deviations off
MAX_CLASSES = 20  # the largest classes, one against the rest
NUM_GROUPS = 20  # left out by turns for the interval of R2


class Score(NamedTuple):
    """Score of one column alone as a predictor of the target, on rows it was not fitted to.

    `value` is 0 for chance and 1 for perfect: 2 AUC - 1, or R2 of the target's ranks.
    """

    column: str
    value: float
    estimate: Estimate


def column_scores(sample: Sample) -> list[Score]:
    """Score of each column: none where classes or rows are too few to judge."""
    judge = _Classes(sample) if sample.classes else _Numbers(sample)
    if not judge.can:
        return []
    return [
        *(judge.score(n, *_binned(x)) for n, x in zip(sample.names, sample.x.T, strict=True)),
        *(
            judge.score(category.name, np.unique(codes, return_inverse=True)[1])
            for category, codes in sample.category_columns()
        ),
    ]


def _binned(column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bin of each row, number of its value among the distinct ones, and the values."""
    order = np.argsort(column)
    values = column[order]
    edges = np.unique(values[np.linspace(0, len(values) - 1, NUM_BINS).astype(np.intp)])
    bins, places = np.empty(len(values), np.intp), np.empty(len(values), np.intp)
    bins[order] = np.searchsorted(edges, values, side="left")
    places[order] = np.concatenate([[0], np.cumsum(values[1:] != values[:-1])])
    return bins, places, column


class _Classes:
    """Areas under the ROC curve, one class against the rest."""

    def __init__(self, sample: Sample):
        y = sample.y.astype(np.int64)
        count = len(sample.classes)
        self.fit, self.held = y[0::2], y[1::2]
        fit = np.bincount(self.fit, minlength=count)
        held = np.bincount(self.held, minlength=count)
        judged = np.flatnonzero(np.minimum(fit, held) >= MIN_CLASS_ROWS_PER_HALF)
        judged = judged[np.argsort(-held[judged], kind="stable")][:MAX_CLASSES]
        rest = min(len(self.fit), len(self.held)) - held[judged]
        self.judged = judged[rest >= MIN_CLASS_ROWS_PER_HALF]
        self.sizes, self.prior = held[self.judged], fit / max(1, fit.sum())
        self.can, self.is_two = len(self.judged) > 0, count == 2

    def score(self, name: str, groups: np.ndarray, places: Any = None, x: Any = None) -> Score:
        fit, held, num = groups[0::2], groups[1::2], int(groups.max()) + 1
        binned = self._areas_of_groups(fit, held, num)
        value = float(np.average(binned, weights=self.sizes))
        if places is not None:
            ranks = average_ranks(places[1::2])
            raw = np.array([rank_area(ranks, self.held == k) for k in self.judged])
            value = max(value, float(np.average(np.maximum(raw, 1 - raw), weights=self.sizes)))
        least = int(np.minimum(self.sizes, len(self.held) - self.sizes).min())
        # the variance of an area is at most A (1 - A) over the smaller class (van Dantzig 1951)
        lo, hi = wilson_interval(value, least)
        method = "held-out AUC, one class against the rest; bound of van Dantzig"
        if len(self.judged) > 2:
            method += f"; mean of {len(self.judged)} classes"
        found = Estimate(
            value=value, lo=lo, hi=hi, unit="AUC", num_examples=len(self.held), method=method
        )
        return Score(name, 2 * value - 1, found)

    def _areas_of_groups(self, fit: np.ndarray, held: np.ndarray, num: int) -> np.ndarray:
        """Areas by the class shares of the groups, shrunk to the overall ones by one row."""
        areas = []
        sizes = np.bincount(fit, minlength=num)
        for k in self.judged[: 1 if self.is_two else None]:
            members = np.bincount(fit[self.fit == k], minlength=num)
            share = (members + self.prior[k]) / (sizes + 1)
            places = np.unique(share, return_inverse=True)[1][held]
            areas.append(rank_area(average_ranks(places), self.held == k))
        return np.resize(areas, len(self.judged))


class _Numbers:
    """R2 of the target's ranks, between 0 and 1."""

    def __init__(self, sample: Sample):
        ranks = average_ranks(np.unique(sample.y, return_inverse=True)[1]) / max(1, len(sample.y))
        self.fit, self.held = ranks[0::2], ranks[1::2]
        enough = len(sample.y) >= 4 * MIN_CLASS_ROWS_PER_HALF
        self.can = enough and float(np.ptp(self.fit)) > 0 and float(np.ptp(self.held)) > 0

    def score(self, name: str, groups: np.ndarray, places: Any = None, x: Any = None) -> Score:
        fit, held, num = groups[0::2], groups[1::2], int(groups.max()) + 1
        sizes = np.bincount(fit, minlength=num)
        used = sizes > 0
        sums = np.bincount(fit, weights=self.fit, minlength=num)
        if x is None:  # shrunk to the mean by one row
            guess = ((sums + self.fit.mean()) / (sizes + 1))[held]
        else:
            centres = np.bincount(fit, weights=x[0::2], minlength=num)[used] / sizes[used]
            guess = np.interp(x[1::2], centres, sums[used] / sizes[used])
        errors = np.square(self.held - guess)
        spread = np.square(self.held - self.held.mean())
        value = 1 - float(errors.sum() / spread.sum())
        group = np.arange(len(errors)) % NUM_GROUPS
        without_errors = errors.sum() - np.bincount(group, errors, minlength=NUM_GROUPS)
        without_spread = spread.sum() - np.bincount(group, spread, minlength=NUM_GROUPS)
        with np.errstate(divide="ignore", invalid="ignore"):
            without = 1 - without_errors / without_spread
        lo = hi = None
        if np.isfinite(without).all():
            lo, hi = linear_interval(value, jackknife_error(without), NUM_GROUPS - 1)
            hi = min(hi, 1.0)
        found = Estimate(
            value=value, lo=lo, hi=hi, unit="share of the variance of ranks",
            num_examples=len(self.held), method="held-out R2 of ranks; delete-a-group jackknife",
        )  # fmt: skip
        return Score(name, value, found)


def average_ranks(places: np.ndarray) -> np.ndarray:
    """Ranks from 1 of integers from 0, float64 [n], by counting; the mean rank of equal ones."""
    counts = np.bincount(places)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def rank_area(ranks: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of scores with these average ranks (Mann and Whitney 1947).

    Example:
        >>> rank_area(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]))
        0.75
    """
    yes = int(positive.sum())
    no = len(positive) - yes
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
