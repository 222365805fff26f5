"""Rows that stand in training and among the held-out rows, by hashes of their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.check.findings import Finding, Severity, share
from downslope.check.sample import Sample
from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.metrics.intervals import wilson_interval

WORTH_SAYING = 0.01  # share of the held-out rows; lower end of its interval. Assumed
FEW_DIFFERENT = 0.1  # different rows, as a share of all: below it they are few, not copies. Assumed
NEVER = 1e-6  # share that is not worth a number
CHANCE_ROWS = 20_000
BY_CHANCE = 0.5  # of what is seen: above it, few possible rows explain the equal ones


@dataclass(frozen=True, kw_only=True)
class RowHashes:
    """Hashes of rows: of their features alone, and of features and target.

    Attributes:
        features, whole: uint64 [n].
    """

    features: np.ndarray
    whole: np.ndarray


def hash_rows(features: np.ndarray, target: np.ndarray, seed: int = 0) -> RowHashes:
    """64-bit hashes of rows of float32; equal rows have equal hashes, -0.0 counts as 0.0.

    Each word is mixed, then h = sum a_j w_j mod 2^64 with random odd a_j. Two different rows share
    a hash with a probability near 2^-60: never seen in a table.

    Args:
        features: float32 [n, p].
        target: float32 [n].
        seed: of the multipliers.

    Example:
        >>> rows = np.array([[1, 2], [2, 1], [1, 2]], "float32")
        >>> h = hash_rows(rows, np.array([0, 0, 1], "float32"))
        >>> len(np.unique(h.features)), len(np.unique(h.whole))
        (2, 3)
    """
    rng = np.random.default_rng(seed)
    weights = rng.integers(1 << 63, size=features.shape[1] + 1, dtype=np.uint64)
    weights = (weights << np.uint64(1)) | np.uint64(1)
    found = np.zeros(len(features), np.uint64)
    for start in range(0, len(features), 1 << 14):  # what a cache holds
        words = _mixed(features[start : start + (1 << 14)])
        found[start : start + (1 << 14)] = words.astype(np.uint64) @ weights[:-1]
    whole = found + _mixed(target[:, None])[:, 0].astype(np.uint64) * weights[-1]
    return RowHashes(features=found, whole=whole)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The bits of float32 numbers, mixed so that no bit stays where it was (murmur3's finish)."""
    words = (values + np.float32(0)).astype(np.float32, order="C").view(np.uint32)
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x85EBCA6B)
    words ^= words >> np.uint32(13)
    words *= np.uint32(0xC2B2AE35)
    words ^= words >> np.uint32(16)
    return words


def chance_of_equal_rows(sample: Sample) -> float:
    """Probability that two rows are equal, if columns were independent: prod_j sum_v p_jv^2.

    Columns that depend on each other make it larger: a lower bound in most tables.

    Example:
        >>> x = np.tile([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], (50, 1)).astype("float32")
        >>> sample = Sample(x=x, names=["a", "b"], y=x[:, 0], target="y", num_rows=200)
        >>> round(chance_of_equal_rows(sample), 3)
        0.247
    """
    sample = sample.first(CHANCE_ROWS)
    n, log = len(sample.y), 0.0
    columns = [*sample.x.T, *(() if sample.codes is None else sample.codes.T)]
    for column in columns:
        counts = np.unique(column, return_counts=True)[1].astype(np.float64)
        pairs = float((counts * (counts - 1)).sum())
        if pairs == 0:
            return 0.0
        log += float(np.log(pairs / (n * (n - 1.0))))
    return float(np.exp(log))


def repeated_rows(
    training: RowHashes,
    held_out: RowHashes | None,
    *,
    chance: float = 0.0,
    num_training: int | None = None,
) -> Finding:
    """Held-out rows whose features stand in training too, beside what is to be expected.

    A model that remembers such a row scores well on it without having learned anything. The same
    share is counted inside training: there too, it is what one row finds among the others.

    Args:
        training: hashes of training rows.
        held_out: hashes of the rows held out, or None.
        chance: probability that two rows are equal by chance (`chance_of_equal_rows`).
        num_training: training rows of the table, if more than were hashed: the share is then a
            lower bound.

    Returns:
        A `Finding` "overlap": a warning where at least 1 % of the held-out rows (lower end of the
        interval) stand in training; a note where that is no sign of copies: chance explains half of
        them, there are ten times fewer different rows than rows, or most of the targets differ.

    Raises:
        UsageError: no training rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> rows, y = rng.normal(size=(1000, 3)).astype("float32"), np.zeros(1000, "float32")
        >>> rows[900:950] = rows[:50]
        >>> train, held = (hash_rows(rows[a:b], y[a:b]) for a, b in ((0, 900), (900, 1000)))
        >>> print(repeated_rows(train, held).sentence)
        50 of 100 held-out rows, 50 % (40.4 to 59.6), stand in training too, 50 of them with
        the same target; of the training rows 0 % have a twin in training, by chance none
        would
    """
    if not len(training.features):
        raise UsageError("training must hold at least one row; got none")
    inside, distinct = _twins(training.features)
    within = _share(inside, len(training.features))
    expected = _by_chance(chance, len(training.features))
    looked = len(training.features)
    rows = f"{looked:,} training rows"
    if num_training is not None and num_training > looked:
        rows = f"{looked:,} of {num_training:,} training rows: lower bounds"
    if held_out is None or not len(held_out.features):
        severity, remedy = _judged(within, within, expected, distinct / looked, inside / looked)
        severity = "note" if severity == "warning" else severity
        return Finding(
            name="overlap", severity=severity, rows=rows,
            sentence=f"no row is held out; {share(inside, looked)} of the training rows have a "
            f"twin in training, by chance {_rare(expected)} would",
            remedy=remedy,
            values={"inside_training": within, "by_chance": expected},
        )  # fmt: skip
    count = len(held_out.features)
    twins = _found(held_out.features, training.features)
    alike = _found(held_out.whole, training.whole)
    seen = _share(twins, count)
    same = _share(alike, count)
    severity, remedy = _judged(seen, same, expected, distinct / looked, inside / looked)
    span = "" if seen.lo is None or seen.hi is None else (
        f" ({100 * seen.lo:.3g} to {100 * seen.hi:.3g})"
    )  # fmt: skip
    return Finding(
        name="overlap", severity=severity, remedy=remedy, rows=rows,
        sentence=f"{twins:,} of {count:,} held-out rows, {share(twins, count)}{span}, stand in "
        f"training too, {alike:,} of them with the same target; of the training rows "
        f"{share(inside, looked)} have a twin in training, by chance {_rare(expected)} would",
        values={
            "in_training": seen, "in_training_with_target": same,
            "inside_training": within, "by_chance": expected,
        },
    )  # fmt: skip


def _judged(
    seen: Estimate, same: Estimate, expected: float, distinct: float, inside: float
) -> tuple[Severity, str | None]:
    """How bad it is; `distinct` is the number of different rows of training over all of them."""
    assert seen.value is not None and same.value is not None
    if seen.lo is None or seen.lo < WORTH_SAYING:
        return "fine", None
    if expected > BY_CHANCE * seen.value or distinct < FEW_DIFFERENT:
        return "note", "few different rows are possible: equal ones are to be expected"
    if same.value < BY_CHANCE * seen.value:
        return "note", "most of their targets differ: equal features, but no copies"
    if seen.value > 2 * inside:
        return "warning", "the copies lie across the split: drop them from one side"
    return "warning", "the table repeats its rows: drop the copies, then fit again"


def _twins(hashes: np.ndarray) -> tuple[int, int]:
    """Rows with a twin among the others, and how many different rows there are."""
    same = np.diff(np.sort(hashes)) == 0
    twins = np.append(same, False) | np.append(False, same)
    return int(np.count_nonzero(twins)), len(hashes) - int(np.count_nonzero(same))


def _found(hashes: np.ndarray, among: np.ndarray) -> int:
    """How many of the hashes are among others."""
    ordered = np.sort(among)
    places = np.minimum(np.searchsorted(ordered, np.sort(hashes)), len(ordered) - 1)
    return int(np.count_nonzero(ordered[places] == np.sort(hashes)))


def _by_chance(chance: float, num_rows: int) -> float:
    """Share of rows with a twin among `num_rows`, each equal with this probability."""
    return -float(np.expm1(num_rows * np.log1p(-min(chance, 1 - 1e-12))))


def _rare(expected: float) -> str:
    return share(expected) if expected > NEVER else "none"


def _share(part: int, whole: int) -> Estimate:
    lo, hi = wilson_interval(part / whole, whole)
    return Estimate(
        value=part / whole, lo=lo, hi=hi, unit="share of rows", num_examples=whole,
        method="Wilson score interval",
    )  # fmt: skip


def joined_hashes(parts: list[RowHashes]) -> RowHashes:
    """The hashes of several stretches of rows, one after the other."""
    none: ArrayLike = np.zeros(0, np.uint64)
    return RowHashes(
        features=np.concatenate([none, *(part.features for part in parts)]),
        whole=np.concatenate([none, *(part.whole for part in parts)]),
    )
