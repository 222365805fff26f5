"""Held-out rows that tell the truth: none older than what was learned, none of a known group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.arguments import number, whole
from downslope.errors import DataError, UsageError
from downslope.recipes.labels import coded, missing


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers, ascending.

    Attributes:
        train: rows to learn from.
        held_out: rows to judge by.
        left_out: rows in neither, since either side would leak through them.
    """

    train: np.ndarray
    held_out: np.ndarray
    left_out: np.ndarray


def split(
    num_rows: int,
    *,
    times: Any = None,
    groups: Any = None,
    share: float = 0.2,
    gap: Any = None,
    seed: int = 0,
) -> Split:
    """Rows to learn from and rows to judge by, without a leak of time or of group.

    By time, every held-out row is later than every training row; rows of the same moment stay on
    one side. By group, no group is on both sides. By both, the held-out rows are the late rows
    of some groups and the training rows the early rows of the others; the rest is left out.

    Args:
        num_rows: rows of the table, 2 or more.
        times: numbers or dates [n]: when each row became known. Strings have no order of time.
        groups: labels [n], such as countries.
        share: of the rows to hold out, between 0 and 1; with both, of the time and of the groups.
            Whole moments and groups are held out, so it is met as nearly as they allow.
        gap: rows less than this before the first held-out moment are left out, in the unit of
            `times` (a `timedelta64` for dates): for targets that look ahead.
        seed: of the groups, and of the rows where neither is given.

    Raises:
        UsageError: an argument out of range, of another length, or times that are strings.
        DataError: one moment, one group, or missing values: nothing can be held out.

    Example:
        >>> found = split(6, times=[1990, 1991, 1991, 1992, 1993, 1993], share=0.3)
        >>> found.train.tolist(), found.held_out.tolist()
        ([0, 1, 2, 3], [4, 5])
    """
    whole("num_rows", num_rows, least=2)
    number("share", share, above=0, below=1)
    if gap is not None and times is None:
        raise UsageError(f"gap needs times; got gap {gap!r} alone")
    early, late = np.ones(num_rows, bool), np.ones(num_rows, bool)
    if times is not None:
        early, late = _by_time(_moments(times, num_rows), share, gap)
    known, new = np.ones(num_rows, bool), np.ones(num_rows, bool)
    if groups is not None:
        known, new = _by_group(*coded(groups, "groups", num_rows=num_rows), share, seed)
    if times is None and groups is None:
        new = np.zeros(num_rows, bool)
        count = min(num_rows - 1, max(1, round(share * num_rows)))
        new[np.random.default_rng(seed).permutation(num_rows)[:count]] = True
        known = ~new
    train, held_out = early & known, late & new
    for name, side in (("training", train), ("held-out", held_out)):
        if not side.any():
            raise DataError(
                f"no {name} row is left by times and groups together",
                remedy="give one of them, another share or seed, or a smaller gap",
            )
    return Split(
        train=np.flatnonzero(train),
        held_out=np.flatnonzero(held_out),
        left_out=np.flatnonzero(~train & ~held_out),
    )


def _moments(times: Any, num_rows: int) -> np.ndarray:
    times = np.asarray(times)
    if times.shape != (num_rows,):
        raise UsageError(f"times must have one value a row, shape ({num_rows},); got {times.shape}")
    gone = missing(times)
    if gone.any():
        raise DataError("times has a missing value", row=int(gone.argmax()) + 1)
    texts = [value for value in times.tolist() if isinstance(value, (str, bytes))]
    if texts:  # '9' comes after '10', and '31.12.2019' after '01.01.2020'
        raise UsageError(
            f"times must be numbers or dates, such as by np.array(times, 'datetime64[D]'); "
            f"got text, {texts[0]!r}"
        )
    return times


def _by_time(times: np.ndarray, share: float, gap: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        moments, counts = np.unique(times, return_counts=True)
    except TypeError as error:
        raise UsageError(f"times must have an order; {error}") from error
    if len(moments) < 2:
        raise DataError("times must have two moments or more; all rows have the same")
    later = counts[::-1].cumsum()[::-1][1:]  # rows held out if this moment is the first of them
    first = moments[1 + np.abs(later - share * len(times)).argmin()]
    if gap is None:
        return times < first, times >= first
    try:
        return times < first - gap, times >= first
    except TypeError as error:
        raise UsageError(f"gap must be in the unit of times; got {gap!r}") from error


def _by_group(
    names: tuple[Any, ...], codes: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if codes.max() == 0:
        raise DataError(f"groups must have two labels or more; all rows have {names[0]!r}")
    order = np.random.default_rng(seed).permutation(len(names))
    held = np.bincount(codes)[order].cumsum()[:-1]
    chosen = order[: 1 + np.abs(held - share * len(codes)).argmin()]
    new = np.isin(codes, chosen)
    return ~new, new
