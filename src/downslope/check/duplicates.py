"""Columns that say the same: equal, equal up to scale and shift, or renamed categories."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from downslope.check.findings import Finding, shown
from downslope.check.sample import Sample

SAME = 1e-6  # 1 - |r| below which two columns are one; float32 leaves some 1e-14
SCREEN = 1e-3  # the same, for the first look at fewer rows in float32
SCREEN_WORK = 1e11  # multiplications that the first look may take
LEAST_OFF = 10  # rows off the most common value below which equality is chance; assumed
BLOCK = 512


class Pair(NamedTuple):
    """Two columns that say the same, and how: "equal", "scaled" or "renamed"."""

    first: str
    second: str
    how: str


def duplicate_columns(sample: Sample) -> Finding:
    """Pairs of columns of which one determines the other, exactly or by scale and shift.

    Numbers: |r| > 1 - 1e-6. Categories: each value of one stands with one value of the other. Pairs
    that differ from their most common value in fewer than 10 rows are not judged.

    Args:
        sample: rows to look at.

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
        both = Pair(sample.names[i], sample.names[j], _how(sample, i, j, sign))
        (marks if i in sample.missing and j in sample.missing else pairs).append(both)
    pairs += _category_pairs(sample)
    words = {
        "equal": "equal",
        "scaled": "equal up to scale and shift",
        "renamed": "the same categories",
    }
    values = {
        "pairs": [pair._asdict() for pair in pairs],
        "missing_together": [pair._asdict() for pair in marks],
    }
    if pairs:
        told = "; ".join(
            f"{shown([p.first])} and {shown([p.second])} ({words[p.how]})" for p in pairs[:3]
        )
        more = f"; and {len(pairs) - 3:,} more" if len(pairs) > 3 else ""
        one = len(pairs) == 1
        return Finding(
            name="duplicates", severity="warning", rows=sample.rows, values=values,
            sentence=f"{len(pairs):,} pair{'s' * (not one)} of columns {'says' if one else 'say'} "
            f"the same: {told}{more}",
            remedy="--ignore one of each: weights between them are arbitrary, and their step "
            "size is twice what was asked for",
        )  # fmt: skip
    if marks:
        text = f"{shown([marks[0].first.removesuffix(' is missing')])} and "
        text += f"{shown([marks[0].second.removesuffix(' is missing')])}"
        return Finding(
            name="duplicates", severity="note", rows=sample.rows, values=values,
            sentence=f"columns lack values in the same rows, such as {text}",
        )  # fmt: skip
    count = len(sample.names) + len(sample.categories)
    return Finding(
        name="duplicates", severity="fine", rows=sample.rows, values=values,
        sentence=f"no two of {count:,} columns say the same",
    )  # fmt: skip


def _how(sample: Sample, i: int, j: int, sign: float) -> str:
    if sample.means is None or sample.scales is None:
        return "equal" if np.array_equal(sample.x[:, i], sample.x[:, j]) else "scaled"
    spread = max(sample.scales[i], sample.scales[j])
    alike = abs(sample.means[i] - sample.means[j]) <= 1e-5 * spread
    alike = alike and abs(sample.scales[i] - sample.scales[j]) <= 1e-5 * spread
    return "equal" if sign > 0 and alike else "scaled"


def _number_pairs(x: np.ndarray, off: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (i, j, sign of r) with |r| > 1 - SAME, the first of equal ones named first."""
    n, p = x.shape
    if n < 2 or p < 2:
        return []
    used = np.flatnonzero(off >= LEAST_OFF)
    few = int(np.clip(SCREEN_WORK / p**2, 256, 4096))
    part = x[:few, used].astype(np.float32)
    part = part - part.mean(axis=0)
    norm = np.sqrt(np.square(part).sum(axis=0))
    flat = norm == 0  # vary in later rows only: let through the first look
    part /= np.where(flat, 1, norm)
    found, taken = [], set()
    for start in range(0, len(used), BLOCK):
        r = np.abs(part[:, start : start + BLOCK].T @ part)
        r[flat[start : start + BLOCK, None] & flat] = 1
        for a, b in np.argwhere(r > 1 - SCREEN):
            i, j = int(used[start + a]), int(used[b])
            if i < j and j not in taken and i not in taken:
                r_all = _correlation(x[:, i], x[:, j])
                if abs(r_all) > 1 - SAME:
                    found.append((i, j, float(np.sign(r_all))))
                    taken.add(j)  # a third copy is paired with the first alone
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _category_pairs(sample: Sample) -> list[Pair]:
    if sample.codes is None or not len(sample.codes):
        return []
    columns = [np.unique(column, return_inverse=True)[1] for column in sample.codes.T]
    sizes = [np.bincount(column) for column in columns]
    keys = [(len(size), *np.sort(size)[::-1][:8].tolist()) for size in sizes]
    found, taken = [], set()
    for i, j in itertools.combinations(range(len(columns)), 2):
        off = len(sample.y) - int(sizes[i].max())
        if keys[i] != keys[j] or j in taken or off < LEAST_OFF or len(sizes[i]) < 2:
            continue
        if len(sizes[i]) == len(sample.y):  # each value stands once: any two would agree
            continue
        joint = np.unique(columns[i].astype(np.int64) * len(sizes[j]) + columns[j])
        if len(joint) == len(sizes[i]):
            found.append(Pair(sample.categories[i].name, sample.categories[j].name, "renamed"))
            taken.add(j)
    return found
