"""Columns by themselves: constant ones, missing values, categories with too many values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from downslope.check.findings import (
    NUM_NAMES,
    Finding,
    Severity,
    in_percent,
    share_of_rows,
    shown,
)
from downslope.check.sample import MISSING_CODE, Sample
from downslope.estimate import counted

NEARLY_CONSTANT = 0.999  # share of one value above which a column is called so; assumed
OFTEN_MISSING = 0.2  # share of missing values worth knowing; assumed
IDENTIFIER = 0.5  # values per row of a category above which it is an identifier; assumed
ROWS_PER_VALUE = 10  # below which a value's parameters are hardly learned; assumed


def constant_columns(sample: Sample, left_out: Mapping[str, str] | None = None) -> Finding:
    """Columns that never change, which carry nothing, and those that hardly ever do.

    Args:
        sample: rows to examine.
        left_out: columns that conversion has left out, with the reason.

    Returns:
        A `Finding` "constant", at most a note: such columns cost time and do no harm.

    Example:
        >>> x = np.zeros((5000, 2), "float32"); x[7, 0] = 1; x[:, 1] = np.arange(5000)
        >>> found = constant_columns(Sample(x=x, names=["flag", "x"], y=x[:, 1], target="y",
        ...                                 num_rows=5000), {"unit": "is constant"})
        >>> print(found.sentence)
        1 column left out, 'unit' is constant; 1 with one value in over 99.9 % of the rows: 'flag'
    """
    left_out, n = left_out or {}, len(sample.y)
    off = dict(zip(sample.names, sample.off_common().tolist(), strict=True))
    for category, codes in sample.category_columns():
        off[category.name] = n - int(np.bincount(codes).max(initial=0))
    rare = {name: k / n for name, k in off.items() if k < (1 - NEARLY_CONSTANT) * n}
    parts = []
    if left_out:
        reasons = [f"{shown(name)} {why}" for name, why in list(left_out.items())[:NUM_NAMES]]
        parts.append(f"{counted(len(left_out), 'column')} left out, {', '.join(reasons)}")
    if rare:
        count = f"{len(rare):,}" if left_out else counted(len(rare), "column")
        parts.append(f"{count} with one value in over {100 * NEARLY_CONSTANT:g} % of the rows: "
                     f"{shown(*rare)}")  # fmt: skip
    return Finding(
        name="constant", severity="note" if parts else "fine", rows=sample.rows,
        sentence="; ".join(parts) or f"all {counted(len(off), 'column')} vary",
        remedy="nothing need be done; --ignore saves their cost" if rare else None,
        values={"left_out": dict(left_out), "share_off_the_most_common_value": rare},
    )  # fmt: skip


def missing_values(sample: Sample) -> Finding:
    """Share of missing values by column.

    Args:
        sample: rows to examine.

    Returns:
        A `Finding` "missing": a note where a column lacks more than a fifth of its values. A number
        that is missing becomes the mean, and a second number says so.

    Example:
        >>> x = np.zeros((100, 2), "float32"); x[:62, 1] = 1
        >>> print(missing_values(Sample(x=x, names=["age", "age is missing"], missing={1: "age"},
        ...                             y=x[:, 0], target="y", num_rows=100)).sentence)
        1 column of 1 lacks values, most of all 'age': 62.0 (52.2 to 70.9) % of the rows
    """
    n = len(sample.y)
    counts = {name: int((sample.x[:, j] > 0.5).sum()) for j, name in sample.missing.items()}
    for category, codes in sample.category_columns():
        counts[category.name] = int((codes == MISSING_CODE).sum())
    shares = {name: share_of_rows(k, n) for name, k in counts.items() if k}
    columns = len(sample.names) + len(sample.categories) - len(sample.missing)
    if not shares:
        text = f"no value is missing in {counted(columns, 'column')}"
        return Finding(name="missing", severity="fine", sentence=text, rows=sample.rows)
    worst = max(shares, key=lambda name: counts[name])
    often = counts[worst] > OFTEN_MISSING * n
    return Finding(
        name="missing", severity="note" if often else "fine", rows=sample.rows,
        sentence=f"{counted(len(shares), 'column')} of {columns:,} "
        f"lack{'s' * (len(shares) == 1)} values, most of all {shown(worst)}: "
        f"{in_percent(shares[worst])} of the rows",
        remedy="see why, and whether new rows will lack them as often" if often else None,
        values={"shares": shares},
    )  # fmt: skip


def many_categories(sample: Sample) -> Finding:
    """Categories with so many values that hardly any of them can be learned.

    Args:
        sample: rows to examine; a category's `num_values` counts all training rows.

    Returns:
        A `Finding` "categories": a warning where a category has more than half as many values as
        there are rows, a note where values have fewer than 10 rows on average or share codes.

    Example:
        >>> from downslope.check.sample import Category
        >>> codes = np.arange(2, 1002, dtype="int32")[:, None]
        >>> sample = Sample(x=np.zeros((1000, 0), "float32"), names=[], codes=codes, target="y",
        ...                 categories=[Category("user", 1000)], y=np.zeros(1000), num_rows=1000)
        >>> print(many_categories(sample).sentence)
        'user' has 1,000 values in 1,000 rows: an identifier, whose values will not come again
    """
    n = sample.num_rows
    counts = {c.name: c.num_values for c in sample.categories}
    identifiers = [name for name, k in counts.items() if k > IDENTIFIER * n]
    thin = [c.name for c in sample.categories if c.name not in identifiers
            and (c.hashed or c.num_values * ROWS_PER_VALUE > n)]  # fmt: skip
    named = identifiers or thin or list(counts)
    most = max((counts[name] for name in named), default=0)
    severity: Severity = "fine"
    remedy = None
    if identifiers:
        severity, remedy = "warning", "--ignore it, or derive from it what repeats"
        text = (
            f"{shown(*identifiers)} has {most:,} values in {n:,} rows: an identifier, whose values "
            "will not come again"
        )
    elif thin:
        severity, remedy = "note", "join rare values, or rely on --l2"
        text = (
            f"{shown(*thin)} has {most:,} values, {n / most:.3g} rows each on average: too few to "
            "learn from"
        )
    elif counts:
        text = f"at most {most:,} values in a category, enough rows for each"
    else:
        text = "no categories"
    return Finding(
        name="categories", severity=severity, sentence=text, remedy=remedy,
        values={"num_values": counts, "identifiers": identifiers, "thin": thin},
    )  # fmt: skip
