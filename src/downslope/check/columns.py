"""Columns by themselves: constant ones, missing values, categories with too many values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from downslope.check.findings import Finding, Severity, share, shown
from downslope.check.sample import MISSING_CODE, Sample
from downslope.estimate import Estimate
from downslope.metrics.intervals import wilson_interval

NEARLY = 0.999  # share of one value above which a column is called nearly constant; assumed
OFTEN = 0.2  # share of missing values worth knowing; assumed
IDENTIFIER = 0.5  # values a row of a category above which it is taken for an identifier; assumed
ROWS_A_VALUE = 10  # rows a value below which its parameters are hardly learned; assumed


def constant_columns(sample: Sample, left_out: Mapping[str, str] | None = None) -> Finding:
    """Columns that never change, which carry nothing, and those that hardly ever do.

    Args:
        sample: rows to look at.
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
    left_out = left_out or {}
    rare: dict[str, float] = {}
    for name, off in zip(sample.names, sample.off_common().tolist(), strict=True):
        if off < (1 - NEARLY) * len(sample.y):
            rare[name] = off / len(sample.y)
    for j, category in enumerate(sample.categories):
        assert sample.codes is not None
        most = int(np.bincount(sample.codes[:, j]).max(initial=0))
        if most > NEARLY * len(sample.y):
            rare[category.name] = 1 - most / len(sample.y)
    parts = []
    if left_out:
        reasons = [f"{shown([name])} {why}" for name, why in list(left_out.items())[:3]]
        parts.append(f"{_columns(len(left_out))} left out, {', '.join(reasons)}")
    if rare:
        count = f"{len(rare):,}" if left_out else _columns(len(rare))
        parts.append(f"{count} with one value in over {100 * NEARLY:g} % of the rows: "
                     f"{shown(list(rare))}")  # fmt: skip
    return Finding(
        name="constant",
        severity="note" if parts else "fine",
        sentence="; ".join(parts) or f"all {_columns(_count(sample))} vary",
        remedy="nothing need be done; --ignore spares their cost" if rare else None,
        rows=sample.rows,
        values={"left_out": dict(left_out), "share_off_the_most_common_value": rare},
    )


def missing_values(sample: Sample) -> Finding:
    """Shares of missing values by column.

    Args:
        sample: rows to look at.

    Returns:
        A `Finding` "missing": a note where a column lacks more than a fifth of its values. A number
        that is missing becomes the mean, and a second number says so.

    Example:
        >>> x = np.zeros((100, 2), "float32"); x[:62, 1] = 1
        >>> print(missing_values(Sample(x=x, names=["age", "age is missing"], missing={1: "age"},
        ...                             y=x[:, 0], target="y", num_rows=100)).sentence)
        1 column of 1 lacks values, most of all 'age': 62 % (52.2 to 70.9) of the rows
    """
    n = len(sample.y)
    counts = {name: int((sample.x[:, j] > 0.5).sum()) for j, name in sample.missing.items()}
    for j, category in enumerate(sample.categories):
        assert sample.codes is not None
        counts[category.name] = int((sample.codes[:, j] == MISSING_CODE).sum())
    counts = {name: k for name, k in counts.items() if k}
    shares = {name: _share(k, n) for name, k in counts.items()}
    columns = _count(sample) - len(sample.missing)
    if not shares:
        text = f"no value is missing in {_columns(columns)}"
        return Finding(name="missing", severity="fine", sentence=text, rows=sample.rows)
    worst = max(counts, key=lambda name: counts[name])
    of = shares[worst]
    span = "" if of.lo is None or of.hi is None else f" ({100 * of.lo:.3g} to {100 * of.hi:.3g})"
    often = counts[worst] > OFTEN * n
    return Finding(
        name="missing",
        severity="note" if often else "fine",
        sentence=f"{_columns(len(counts))} of {columns:,} lack{'s' * (len(counts) == 1)} values, "
        f"most of all {shown([worst])}: {share(counts[worst], n)}{span} of the rows",
        remedy="see why, and whether new rows will lack them as often" if often else None,
        rows=sample.rows,
        values={"shares": shares},
    )


def many_categories(sample: Sample) -> Finding:
    """Categories with so many values that hardly any of them can be learned.

    Args:
        sample: rows to look at; a category's `num_values` counts all training rows.

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
            and (c.hashed or c.num_values * ROWS_A_VALUE > n)]  # fmt: skip
    severity: Severity = "fine"
    remedy = None
    if identifiers:
        severity = "warning"
        name = max(identifiers, key=lambda each: counts[each])
        text = (
            f"{shown(identifiers)} has {counts[name]:,} values in {n:,} rows: an identifier, "
            "whose values will not come again"
        )
        remedy = "--ignore it, or take from it what repeats"
    elif thin:
        severity, name = "note", max(thin, key=lambda each: counts[each])
        text = (
            f"{shown(thin)} has {counts[name]:,} values, {n / counts[name]:.3g} rows each on "
            "average: too few to learn from"
        )
        remedy = "join rare values, or rely on --l2"
    elif counts:
        name = max(counts, key=lambda each: counts[each])
        text = f"at most {counts[name]:,} values a category ({shown([name])}), enough rows for each"
    else:
        text = "no categories"
    return Finding(
        name="categories", severity=severity, sentence=text, remedy=remedy,
        values={"num_values": counts, "identifiers": identifiers, "thin": thin},
    )  # fmt: skip


def _share(part: int, whole: int) -> Estimate:
    lo, hi = wilson_interval(part / whole, whole)
    return Estimate(
        value=part / whole, lo=lo, hi=hi, unit="share of rows", num_examples=whole,
        method="Wilson score interval",
    )  # fmt: skip


def _count(sample: Sample) -> int:
    return len(sample.names) + len(sample.categories)


def _columns(count: int) -> str:
    return f"{count:,} column{'s' * (count != 1)}"
