"""The target: how its classes share the rows, or how its numbers are spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.check.findings import Finding, Severity, share, shown
from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.metrics.intervals import wilson_interval

# Shares of the smallest class, relative to an even one. Assumed: at a fiftieth (1 : 99 for two
# classes) a model that never names the class is right in 99 % of the rows.
SMALL, TINY = 0.2, 0.02
FEW_MEMBERS = 10  # rows of a class below which nothing can be said of it; assumed
COMMON = 0.5  # share of one value above which a numeric target is said to be mostly that value
SQUEEZED = 0.02  # quartile range in standard deviations; 1.35 for a normal one. Assumed


def class_balance(
    counts: ArrayLike, classes: Sequence[Any], *, num_rows: int | None = None
) -> Finding:
    """How unevenly the classes share the rows, and what a model that knows nothing would score.

    A trivial model names the largest class, or gives each class its share as probability: its
    accuracy is the largest share, its log loss the entropy of the shares.

    Args:
        counts: [K], training rows of each class.
        classes: their names.
        num_rows: rows of the whole table, where `counts` come from a random sample of it.

    Returns:
        A `Finding` "target": an error with one class only, a warning where the smallest class
        has less than a fiftieth of an even share or under 10 rows.

    Raises:
        UsageError: counts do not go with the classes, are negative or all 0.

    Example:
        >>> print(class_balance([9990, 10], ["no", "yes"]).sentence)
        2 classes, from 'yes' with 10 rows (0.1 %) to 'no' with 9,990 (99.9 %): naming 'no'
        always is right in 99.90 % of the rows, log loss 0.00791 nats
    """
    rows = np.asarray(counts, dtype=np.int64)
    if rows.shape != (len(classes),) or not len(rows) or rows.min() < 0 or not rows.any():
        raise UsageError(
            f"counts must be one number of rows for each of {len(classes)} classes, not all 0; "
            f"got {rows.tolist()[:5]}"
        )
    total, least, most = int(rows.sum()), int(rows.argmin()), int(rows.argmax())
    p = rows[rows > 0] / total
    entropy = float(-(p * np.log(p)).sum())
    relative = rows[least] * len(rows) / total
    severity, remedy = _judged(rows, relative)
    accuracy = _share(int(rows[most]), total, num_rows)
    seen = _seen(total, num_rows)
    if (rows > 0).sum() == 1:
        sentence = f"every row is of the class {shown([classes[most]])}: nothing can be learned"
    else:
        sentence = (
            f"{len(rows)} classes, from {shown([classes[least]])} with {rows[least]:,} rows "
            f"({share(rows[least], total)}) to {shown([classes[most]])} with {rows[most]:,} "
            f"({share(rows[most], total)}): naming {shown([classes[most]])} always is right in "
            f"{_percent(accuracy)} of the rows, log loss {entropy:.3g} nats"
        )
    return Finding(
        name="target", severity=severity, sentence=sentence, remedy=remedy, rows=seen,
        values={
            "counts": {str(c): int(k) for c, k in zip(classes, rows, strict=True)},
            "smallest_share": _share(int(rows[least]), total, num_rows),
            "trivial_accuracy": accuracy, "trivial_log_loss": entropy,
        },
    )  # fmt: skip


def _judged(rows: np.ndarray, relative: float) -> tuple[Severity, str | None]:
    if (rows > 0).sum() == 1:
        return "error", "choose another target or add rows of another class"
    absent = int((rows == 0).sum())
    if absent:
        return "warning", "a class without a training row cannot be learned: add rows of it"
    if relative < TINY or rows.min() < FEW_MEMBERS:
        return "warning", (
            "judge by AUC, log loss or recall instead of accuracy, and give the rare class a "
            "larger --weight if missing it costs more"
        )
    if relative < SMALL:
        return "note", "judge by AUC or log loss rather than accuracy"
    return "fine", None


def number_spread(y: ArrayLike, target: str, *, scale: float = 1.0, num_rows: int = 0) -> Finding:
    """How a numeric target is spread: constant, mostly one value, or squeezed by outliers.

    A trivial model predicts the mean: R2 is 0 and its root mean square error the standard
    deviation.

    Args:
        y: [n], the target in a random sample, centred and divided by `scale`, or as it is.
        target: its name.
        scale: standard deviation in the target's own unit of one unit of y.
        num_rows: rows of the whole table, if that is more.

    Returns:
        A `Finding` "target": an error if it is constant, a warning if half of the rows lie
        within 0.02 standard deviations of each other.

    Raises:
        UsageError: y is empty, not finite or not [n].

    Example:
        >>> y = np.r_[np.random.default_rng(0).normal(size=999), 1e6]
        >>> found = number_spread(y, "price")
        >>> found.severity, round(found.values["largest_z"], 1)
        ('warning', 31.6)
    """
    y = np.asarray(y, dtype=np.float64)
    if y.ndim != 1 or not len(y) or not np.isfinite(y).all():
        raise UsageError(f"y must be finite numbers of shape [n]; got shape {list(y.shape)}")
    rows, name = _seen(len(y), max(num_rows, len(y))), shown([target])
    spread = float(y.std())
    if not spread > 1e-12 * max(1.0, float(np.abs(y).max())):
        return Finding(
            name="target", severity="error", rows=rows, remedy="choose another target",
            sentence=f"the target {name} is constant: nothing can be learned",
        )  # fmt: skip
    z = np.abs(y - y.mean()).max() / spread
    quartiles = float(np.subtract(*np.percentile(y, [75, 25]))) / spread
    values, times = np.unique(y, return_counts=True)
    common = int(times.max())
    found = {
        "standard_deviation": spread * scale, "largest_z": float(z), "quartile_range": quartiles,
        "num_values": len(values), "most_common_share": common / len(y),
    }  # fmt: skip
    severity: Severity = "fine"
    remedy = None
    text = (
        f"{name} is a number with standard deviation {spread * scale:.4g}, the error of always "
        f"predicting the mean; the row farthest out lies {z:.3g} standard deviations off"
    )
    if common > COMMON * len(y) and len(values) > 2:
        severity, remedy = "note", "predict first whether it takes this value, then the others"
        text += f"; {share(common, len(y))} of the rows have one value"
    elif 0 < quartiles < SQUEEZED:
        severity, remedy = "warning", "predict its logarithm, mend the outliers, or --loss huber"
        text += f"; half of the rows lie within {quartiles:.2g} standard deviations of each other"
    return Finding(
        name="target", severity=severity, sentence=text, remedy=remedy, rows=rows, values=found
    )


def _share(part: int, whole: int, num_rows: int | None) -> Estimate:
    """A share; exact where all rows were counted."""
    value, fields = part / whole, {"unit": "share of rows", "num_examples": whole}
    if num_rows is None or num_rows <= whole:
        return Estimate(value=value, lo=value, hi=value, method="all rows counted", **fields)
    lo, hi = wilson_interval(value, whole)
    return Estimate(value=value, lo=lo, hi=hi, method="Wilson score interval", **fields)


def _percent(of: Estimate) -> str:
    assert of.value is not None
    value = f"{100 * of.value:.2f}"
    if of.lo is None or of.hi is None or of.lo == of.hi:
        return f"{value} %"
    return f"{value} ({100 * of.lo:.2f} to {100 * of.hi:.2f}) %"


def _seen(count: int, num_rows: int | None) -> str:
    if num_rows is None or num_rows <= count:
        return f"all {count:,} training rows"
    return f"{count:,} random training rows of {num_rows:,}"
