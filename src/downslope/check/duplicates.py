"""Columns that say the same: equal, equal up to scale and shift, or renamed categories."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import numpy as np

from downslope.check.findings import NUM_NAMES, Finding, shown
from downslope.check.sample import Sample
from downslope.estimate import counted

DUPLICATE_GAP = 1e-6  # 1 - |r| below which two columns are one; float32 leaves some 1e-14
SCREENING_GAP = 1e-3  # the same in the first pass, over fewer rows in float32
SCREENING_PRODUCTS = 1e11  # multiplications that the first pass may take
SCREENING_ROWS = (256, 4096)
MIN_ROWS_OFF = 10  # off the most common value, below which equality is chance; assumed
BLOCK_COLUMNS = 512  # columns compared with all others at once
IN_WORDS = {
    "equal": "equal",
    "scaled": "equal up to scale and shift",
    "renamed": "the same categories",
}


class Pair(NamedTuple):
    """Two columns that say the same, and in which way."""

    first: str
    second: str
    how: Literal["equal", "scaled", "renamed"]


def duplicate_columns(sample: Sample) -> Finding:
    """Pairs of columns of which one determines the other, exactly or by scale and shift.

    Numbers: |r| > 1 - 1e-6. Categories: each value of one goes with one value of the other. Pairs
    that differ from their most common value in fewer than 10 rows are not judged.

    Args:
        sample: rows to examine.

    Returns:
        A `Finding` "duplicates": a warning for columns, a note where only those numbers agree that
        say that values are missing.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
        >>> x[:, 2] = -x[:, 0]
        >>> sample = Sample(x=x, names=["cm", "age", "depth"], y=x[:, 1], target="y", num_rows=200)
        >>> print(duplicate_columns(sample).sentence)
        1 pair of columns says the same: 'cm' and 'depth' (equal up to scale and shift)
    """
    pairs, marks = [], []
    for i, j, sign in _number_pairs(sample.x, sample.off_common()):
        how = "equal" if _is_equal(sample, i, j, sign) else "scaled"
        of_marks = i in sample.missing and j in sample.missing
        (marks if of_marks else pairs).append(Pair(sample.names[i], sample.names[j], how))
    pairs += _category_pairs(sample)
    values = {
        "pairs": [pair._asdict() for pair in pairs],
        "missing_together": [pair._asdict() for pair in marks],
    }
    remedy = None
    if pairs:
        listed = [
            f"{shown(p.first)} and {shown(p.second)} ({IN_WORDS[p.how]})" for p in pairs[:NUM_NAMES]
        ]
        if len(pairs) > NUM_NAMES:
            listed.append(f"and {len(pairs) - NUM_NAMES:,} more")
        verb = "says" if len(pairs) == 1 else "say"
        text = f"{counted(len(pairs), 'pair')} of columns {verb} the same: {'; '.join(listed)}"
        remedy = (
            "--ignore one of each: weights between them are arbitrary, and their step size is "
            "twice what was asked for"
        )
    elif marks:
        first, second = (shown(name.removesuffix(" is missing")) for name in marks[0][:2])
        text = f"columns lack values in the same rows, such as {first} and {second}"
    else:
        text = f"no two of {len(sample.names) + len(sample.categories):,} columns say the same"
    return Finding(
        name="duplicates", severity="warning" if pairs else "note" if marks else "fine",
        sentence=text, remedy=remedy, rows=sample.rows, values=values,
    )  # fmt: skip


def _is_equal(sample: Sample, i: int, j: int, sign: float) -> bool:
    """True where columns that are equal up to scale and shift are equal in their own units."""
    if sample.means is None or sample.scales is None:
        return np.array_equal(sample.x[:, i], sample.x[:, j])
    near = 1e-5 * max(sample.scales[i], sample.scales[j])
    moved = abs(sample.means[i] - sample.means[j])
    return sign > 0 and moved <= near and abs(sample.scales[i] - sample.scales[j]) <= near


def _number_pairs(x: np.ndarray, off: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (i, j, sign of r) with |r| > 1 - DUPLICATE_GAP, the first of equal ones named first."""
    n, p = x.shape
    if n < 2 or p < 2:
        return []
    used = np.flatnonzero(off >= MIN_ROWS_OFF)
    part = x[: int(np.clip(SCREENING_PRODUCTS / p**2, *SCREENING_ROWS)), used].astype(np.float32)
    part = part - part.mean(axis=0)
    norm = np.sqrt(np.square(part).sum(axis=0))
    flat = norm == 0  # vary in later rows only: they pass the screening
    part /= np.where(flat, 1, norm)
    found, copies = [], set()
    for start in range(0, len(used), BLOCK_COLUMNS):
        r = np.abs(part[:, start : start + BLOCK_COLUMNS].T @ part)
        r[flat[start : start + BLOCK_COLUMNS, None] & flat] = 1
        for a, b in np.argwhere(r > 1 - SCREENING_GAP):
            i, j = int(used[start + a]), int(used[b])
            if i < j and not copies & {i, j}:
                r_all = _correlation(x[:, i], x[:, j])
                if abs(r_all) > 1 - DUPLICATE_GAP:
                    found.append((i, j, float(np.sign(r_all))))
                    copies.add(j)  # a third copy is paired with the first alone
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _category_pairs(sample: Sample) -> list[Pair]:
    n, columns = len(sample.y), sample.category_columns() if len(sample.y) else []
    places = [np.unique(codes, return_inverse=True)[1] for _, codes in columns]
    sizes = [np.bincount(column) for column in places]
    found, copies = [], set()
    for i, j in itertools.combinations(range(len(columns)), 2):
        off, count = n - int(sizes[i].max()), len(sizes[i])
        # where each value stands once, any two columns would agree
        if off < MIN_ROWS_OFF or count in (1, n) or count != len(sizes[j]) or copies & {i, j}:
            continue
        if not np.array_equal(np.sort(sizes[i]), np.sort(sizes[j])):
            continue
        joint = np.unique(places[i].astype(np.int64) * count + places[j])
        if len(joint) == count:
            found.append(Pair(columns[i][0].name, columns[j][0].name, "renamed"))
            copies.add(j)
    return found
