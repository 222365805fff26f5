"""Columns that alone predict the target almost perfectly: suspects, never convictions."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from downslope.check.findings import Finding, Severity, shown
from downslope.check.sample import Sample
from downslope.estimate import Estimate
from downslope.metrics.intervals import wilson_interval
from downslope.noise.statistics.delete_one import jackknife_error, linear_interval

# A column is suspected above this share of a perfect score (0 is chance): AUC 0.99 or R2 0.98.
# The best honest column of scikit-learn's breast cancer data, an easy task, reaches AUC 0.975.
SUSPECT = 0.98
# An honest column has neighbours: what it leaves unexplained is not this many times less than what
# the best other column leaves. Assumed.
FAR = 5.0
NUM_BINS = 64  # of a number, with equally many rows each
LEAST_MEMBERS = 10  # rows of a class in each half: by chance AUC 0.99 is then 5 deviations off
MOST_CLASSES = 20  # the largest classes, one against the rest
NUM_GROUPS = 20
MOST_ROWS = 50_000  # ends of the interval of an AUC then lie within 0.01


class Score(NamedTuple):
    """How well one column alone predicts the target, on rows it was not fitted to.

    `value` is 0 for chance and 1 for perfect: 2 AUC - 1, or R2 of the target's ranks.
    """

    column: str
    value: float
    shown: Estimate


def leaking_columns(sample: Sample) -> Finding:
    """Columns that alone predict the target almost perfectly, and far better than any other.

    Every second row fits: a number is cut into 64 bins of equally many rows, a category has its
    values, and each bin or value has its class shares, or the mean rank of the target. The other
    rows score: the area under the ROC curve, one class against the rest, averaged by the size of
    the classes (for numbers also of the number itself); or R2 of the ranks, so that any monotone
    relation counts as perfect. Words of a text are not looked at.

    Args:
        sample: rows in random order; the first 50,000 are looked at.

    Returns:
        A `Finding` "leaks": a warning where a column reaches 0.98 of a perfect score and leaves a
        fifth or less of what the best column that does not leaves unexplained; a note where it
        reaches it without that distance. An easy target looks the same: it is for the reader to say
        whether the column is known before the target is.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 3)).astype("float32")
        >>> y = (x[:, 0] + rng.normal(size=2000) > 0).astype(int)
        >>> x[:, 2] = y + 0.1 * rng.normal(size=2000)
        >>> print(leaking_columns(Sample(x=x, names=["age", "size", "paid"], y=y, target="bought",
        ...                              classes=[0, 1], num_rows=2000)).sentence)
        'paid' alone predicts 'bought' with AUC 1 (0.992 to 1) on rows it was not fitted to;
        the next best column, 'age', with 0.849 (0.815 to 0.878)
    """
    sample = sample.first(MOST_ROWS)
    scores = sorted(_scores(sample), key=lambda score: -score.value)
    if not scores:
        reason = _reason(sample)
        return Finding(
            name="leaks", severity="fine", sentence=f"cannot be judged: {reason}", rows=sample.rows
        )
    suspects = [score for score in scores if score.value > SUSPECT]
    others = [score for score in scores if score.value <= SUSPECT]
    values = {"scores": {s.column: s.shown for s in scores[:10]}, "suspects": [
        s.column for s in suspects]}  # fmt: skip
    name = "AUC" if sample.classes else "R2 of ranks"
    if not suspects:
        return Finding(
            name="leaks", severity="fine", rows=sample.rows, values=values,
            sentence=f"no column alone predicts {shown([sample.target])} almost perfectly; the "
            f"best, {shown([scores[0].column])}, reaches {name} {_number(scores[0].shown)}",
        )  # fmt: skip
    rest = 1 - others[0].value if others else math.inf
    far = [s for s in suspects if (1 - s.value) * FAR < rest]
    severity: Severity = "warning" if far else "note"
    first = (far or suspects)[0]
    names = [s.column for s in far or suspects]
    text = (
        f"{shown(names)} alone predict{'s' * (len(names) == 1)} {shown([sample.target])} with "
        f"{name} {_number(first.shown)} on rows it was not fitted to"
    )
    if others:
        text += f"; the next best column, {shown([others[0].column])}, with "
        text += _number(others[0].shown)
    remedy = "an easy target, or several columns that tell it: make sure that they are known first"
    if far:
        flags = " ".join(f"--ignore {shlex.quote(each)}" for each in names[:3])
        flags = "".join(c if c.isprintable() else "?" for c in flags)
        remedy = f"a suspect: unless it is known before the target is, {flags}"
    return Finding(
        name="leaks", severity=severity, sentence=text, remedy=remedy, rows=sample.rows,
        values=values,
    )  # fmt: skip


def _number(of: Estimate) -> str:
    assert of.value is not None
    span = "" if of.lo is None or of.hi is None else f" ({of.lo:.3g} to {of.hi:.3g})"
    return f"{of.value:.4g}{span}" if of.value > 0.99 else f"{of.value:.3g}{span}"


def _reason(sample: Sample) -> str:
    if not sample.names and not sample.categories:
        return "no numbers and no categories"
    if sample.classes:
        return f"fewer than two classes with {2 * LEAST_MEMBERS} rows"
    return f"fewer than {4 * LEAST_MEMBERS} rows, or a target that is constant in them"


def _scores(sample: Sample) -> Iterator[Score]:
    """The score of each column that can be judged."""
    judge = _Classes(sample) if sample.classes else _Numbers(sample)
    if not judge.can:
        return
    for name, column in zip(sample.names, sample.x.T, strict=True):
        yield judge.score(name, *_numbered(column))
    for category, column in zip(
        sample.categories, () if sample.codes is None else sample.codes.T, strict=True
    ):
        yield judge.score(category.name, np.unique(column, return_inverse=True)[1])


def _numbered(column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        judged = np.flatnonzero(np.minimum(fit, held) >= LEAST_MEMBERS)
        judged = judged[np.argsort(-held[judged], kind="stable")][:MOST_CLASSES]
        rest = min(len(self.fit), len(self.held)) - held[judged]
        self.judged = judged[rest >= LEAST_MEMBERS]
        self.sizes, self.prior = held[self.judged], fit / max(1, fit.sum())
        self.can, self.is_two = len(self.judged) > 0, count == 2

    def score(self, name: str, groups: np.ndarray, places: Any = None, x: Any = None) -> Score:
        fit, held, num = groups[0::2], groups[1::2], int(groups.max()) + 1
        binned = self._binned(fit, held, num)
        value = float(np.average(binned, weights=self.sizes))
        if places is not None:
            raw = self._areas(_ranks(places[1::2]))
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

    def _binned(self, fit: np.ndarray, held: np.ndarray, num: int) -> np.ndarray:
        """Areas by the class shares of the groups, shrunk to the overall ones by one row."""
        areas = []
        sizes = np.bincount(fit, minlength=num)
        for k in self.judged[: 1 if self.is_two else None]:
            members = np.bincount(fit[self.fit == k], minlength=num)
            share = (members + self.prior[k]) / (sizes + 1)
            places = np.unique(share, return_inverse=True)[1][held]
            areas.append(rank_area(_ranks(places), self.held == k))
        return np.resize(areas, len(self.judged))

    def _areas(self, ranks: np.ndarray) -> np.ndarray:
        """Areas by these ranks, of each class that is judged."""
        sums = np.bincount(self.held, weights=ranks, minlength=len(self.prior))[self.judged]
        return (sums - self.sizes * (self.sizes + 1) / 2) / (
            self.sizes * (len(self.held) - self.sizes)
        )


class _Numbers:
    """R2 of the target's ranks, between 0 and 1."""

    def __init__(self, sample: Sample):
        ranks = average_ranks(sample.y) / max(1, len(sample.y))
        self.fit, self.held = ranks[0::2], ranks[1::2]
        enough = len(sample.y) >= 4 * LEAST_MEMBERS
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


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, the mean rank where values are equal, float64 [n].

    Example:
        >>> average_ranks(np.array([5.0, 1.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    return _ranks(np.unique(values, return_inverse=True)[1])


def _ranks(places: np.ndarray) -> np.ndarray:
    """Average ranks of integers from 0, by counting."""
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
