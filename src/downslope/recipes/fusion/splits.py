"""Held-out rows that tell the truth: none older than what was learned, none of a known group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.errors import DataError, UsageError


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
        times: numbers or dates [n]: when each row became known.
        groups: labels [n], such as countries.
        share: of the rows to hold out, between 0 and 1; with both, of the time and of the groups.
            Whole moments and groups are held out, so it is met as nearly as they allow.
        gap: rows less than this before the first held-out moment are left out, in the unit of
            `times` (a `timedelta64` for dates): for targets that look ahead.
        seed: of the groups, and of the rows where neither is given.

    Raises:
        UsageError: an argument out of range, or of another length.
        DataError: one moment, one group, or missing values: nothing can be held out.

    Example:
        >>> found = split(6, times=[1990, 1991, 1991, 1992, 1993, 1993], share=0.3)
        >>> found.train.tolist(), found.held_out.tolist()
        ([0, 1, 2, 3], [4, 5])
    """
    if num_rows < 2:
        raise UsageError(f"num_rows must be 2 or more; got {num_rows!r}")
    if not 0 < share < 1:
        raise UsageError(f"share must be greater than 0 and less than 1; got {share!r}")
    if gap is not None and times is None:
        raise UsageError(f"gap needs times; got gap {gap!r} alone")
    early, late = np.ones(num_rows, bool), np.ones(num_rows, bool)
    if times is not None:
        early, late = _by_time(_column("times", times, num_rows), share, gap)
    known, new = np.ones(num_rows, bool), np.ones(num_rows, bool)
    if groups is not None:
        known, new = _by_group(_column("groups", groups, num_rows), share, seed)
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


def _column(name: str, values: Any, num_rows: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (num_rows,):
        raise UsageError(
            f"{name} must have one value a row, shape ({num_rows},); got {values.shape}"
        )
    # a missing value is the one that differs from itself, but for None
    missing = [value is None or value != value for value in values.tolist()]
    if any(missing) or (values.dtype.kind in "mM" and np.isnat(values).any()):
        raise DataError(
            f"{name} has a missing value", row=missing.index(True) + 1 if any(missing) else None
        )
    return values


def _by_time(times: np.ndarray, share: float, gap: Any) -> tuple[np.ndarray, np.ndarray]:
    moments, counts = np.unique(times, return_counts=True)
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


def _by_group(groups: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    names, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"groups must have two labels or more; all rows have {names[0]!r}")
    order = np.random.default_rng(seed).permutation(len(names))
    held = counts[order].cumsum()[:-1]
    chosen = order[: 1 + np.abs(held - share * len(groups)).argmin()]
    new = np.isin(number, chosen)
    return ~new, new
