"""Rows that appear both in training and held out, by hashes of their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from downslope.check.findings import Finding, Severity, in_percent, share_of_rows
from downslope.check.sample import Sample
from downslope.errors import UsageError
from downslope.estimate import Estimate, percent

MIN_OVERLAP = 0.01  # of the held-out rows, lower end of its interval, worth saying; assumed
# Different rows, as a share of all: below it they are few, not copies. Assumed.
MIN_DIFFERENT_SHARE = 0.1
MIN_SHOWN_SHARE = 1e-6  # share that is not worth a number
CHANCE_ROWS = 20_000
# Of what is seen: above it, few possible rows explain the equal ones. Assumed.
EXPLAINED_SHARE = 0.5
BLOCK_ROWS = 1 << 14  # hashed at once, as a cache holds


class RowHashes(NamedTuple):
    """Hashes of rows, uint64 [n]: of their features, and of features and target."""

    features: np.ndarray
    whole: np.ndarray


def hash_rows(features: np.ndarray, target: np.ndarray) -> RowHashes:
    """64-bit hashes of rows of float32; equal rows have equal hashes, -0.0 counts as 0.0.

    Each word is mixed, then h = sum a_j w_j mod 2^64 with random odd a_j. Two different rows share
    a hash with a probability near 2^-60: never seen in a table.

    Args:
        features: float32 [n, p].
        target: float32 [n].

    Example:
        >>> rows = np.array([[1, 2], [2, 1], [1, 2]], "float32")
        >>> h = hash_rows(rows, np.array([0, 0, 1], "float32"))
        >>> len(np.unique(h.features)), len(np.unique(h.whole))
        (2, 3)
    """
    draw = np.random.default_rng(0)
    factors = draw.integers(1 << 63, size=features.shape[1] + 1, dtype=np.uint64)
    factors = (factors << np.uint64(1)) | np.uint64(1)
    found = np.zeros(len(features), np.uint64)
    for start in range(0, len(features), BLOCK_ROWS):
        words = _mixed(features[start : start + BLOCK_ROWS])
        found[start : start + BLOCK_ROWS] = words.astype(np.uint64) @ factors[:-1]
    whole = found + _mixed(target[:, None])[:, 0].astype(np.uint64) * factors[-1]
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


def joined_hashes(parts: Sequence[RowHashes]) -> RowHashes:
    """The hashes of several stretches of rows, one after the other."""
    none = np.zeros(0, np.uint64)
    features, whole = ([none, *column] for column in (zip(*parts, strict=True) or ((), ())))
    return RowHashes(features=np.concatenate(features), whole=np.concatenate(whole))


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
    for column in (*sample.x.T, *(codes for _, codes in sample.category_columns())):
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
    """Held-out rows whose features appear in training too, beside what chance would give.

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
        interval) appear in training; a note where that is no sign of copies: chance explains half
        of them, there are ten times fewer different rows than rows, or most of the targets differ.

    Raises:
        UsageError: no training rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> rows, y = rng.normal(size=(1000, 3)).astype("float32"), np.zeros(1000, "float32")
        >>> rows[900:950] = rows[:50]
        >>> train, held = (hash_rows(rows[a:b], y[a:b]) for a, b in ((0, 900), (900, 1000)))
        >>> print(repeated_rows(train, held).sentence)
        50 of 100 held-out rows, 50.0 (40.4 to 59.6) %, appear in training too, 50 of them with
        the same target; of the training rows 0 % have a twin in training, by chance none would
    """
    count = len(training.features)
    if not count:
        raise UsageError("training must hold at least one row; got none")
    counts = np.unique(training.features, return_counts=True)[1]
    twins, num_different = int(counts[counts > 1].sum()), len(counts)
    inside = share_of_rows(twins, count)
    # share of rows with a twin among all others, each equal with this probability
    expected = -float(np.expm1(count * np.log1p(-min(chance, 1 - 1e-12))))
    rows = f"{count:,} training rows"
    if num_training is not None and num_training > count:
        rows = f"{count:,} of {num_training:,} training rows: lower bounds"
    by_chance = percent(expected) if expected > MIN_SHOWN_SHARE else "none"
    tail = f"{percent(twins / count)} have a twin in training, by chance {by_chance} would"
    values = {"inside_training": inside, "by_chance": expected}
    if held_out is None or not len(held_out.features):
        severity, remedy = _judge(inside, inside, expected, num_different / count, twins / count)
        return Finding(
            name="overlap", severity="note" if severity == "warning" else severity, rows=rows,
            sentence=f"no row is held out; of the training rows {tail}", remedy=remedy,
            values=values,
        )  # fmt: skip
    num_held = len(held_out.features)
    found = _num_among(held_out.features, training.features)
    alike = _num_among(held_out.whole, training.whole)
    seen, same = share_of_rows(found, num_held), share_of_rows(alike, num_held)
    severity, remedy = _judge(seen, same, expected, num_different / count, twins / count)
    return Finding(
        name="overlap", severity=severity, remedy=remedy, rows=rows,
        sentence=f"{found:,} of {num_held:,} held-out rows, {in_percent(seen)}, appear in training "
        f"too, {alike:,} of them with the same target; of the training rows {tail}",
        values={"in_training": seen, "in_training_with_target": same, **values},
    )  # fmt: skip


def _judge(
    seen: Estimate, same: Estimate, expected: float, different: float, inside: float
) -> tuple[Severity, str | None]:
    """Severity and remedy; `different` is the number of different training rows over all."""
    if seen.lo is None or seen.lo < MIN_OVERLAP:
        return "fine", None
    if expected > EXPLAINED_SHARE * float(seen) or different < MIN_DIFFERENT_SHARE:
        return "note", "few different rows are possible: equal ones are to be expected"
    if float(same) < EXPLAINED_SHARE * float(seen):
        return "note", "most of their targets differ: equal features, but no copies"
    if float(seen) > 2 * inside:
        return "warning", "the copies lie across the split: drop them from one side"
    return "warning", "the table repeats its rows: drop the copies, then fit again"


def _num_among(hashes: np.ndarray, others: np.ndarray) -> int:
    """Number of hashes that are among others; 40 times as fast as `numpy.isin`."""
    hashes, others = np.sort(hashes), np.sort(others)
    places = np.minimum(np.searchsorted(others, hashes), len(others) - 1)
    return int(np.count_nonzero(others[places] == hashes))
