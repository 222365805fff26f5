"""Balance of the target's classes, or spread of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.check.findings import Finding, Severity, in_percent, share_of_rows, shown
from downslope.check.sample import SQUEEZED_RANGE, rows_in_words
from downslope.errors import UsageError
from downslope.estimate import percent

# Shares of the smallest class, relative to an even one. Assumed: at a fiftieth (1 : 99 for two
# classes) a model that never names the class is right in 99 % of the rows.
SMALL_SHARE, TINY_SHARE = 0.2, 0.02
MIN_CLASS_ROWS = 10  # below which nothing can be said of a class; assumed
COMMON_SHARE = 0.5  # of one value, above which a numeric target is mostly that value; assumed


def class_balance(
    counts: ArrayLike, classes: Sequence[Any], *, num_rows: int | None = None
) -> Finding:
    """Balance of the classes, and the score of a model that knows nothing.

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
        UsageError: counts that do not go with the classes, are negative or all 0.

    Example:
        >>> print(class_balance([9990, 10], ["no", "yes"]).sentence)
        2 classes, from 'yes' with 10 rows (0.1 %) to 'no' with 9,990 (99.9 %): always naming
        'no' is right in 99.9 % of the rows, log loss 0.00791 nats
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
    severity, remedy = _judge(rows)
    num_rows = total if num_rows is None else num_rows
    smallest, accuracy = (
        share_of_rows(int(rows[k]), total, are_all=num_rows <= total) for k in (least, most)
    )
    largest_class = shown(classes[most])
    if (rows > 0).sum() == 1:
        sentence = f"every row is of the class {largest_class}: nothing can be learned"
    else:
        sentence = (
            f"{len(rows)} classes, from {shown(classes[least])} with {rows[least]:,} rows "
            f"({percent(rows[least] / total)}) to {largest_class} with {rows[most]:,} "
            f"({percent(rows[most] / total)}): always naming {largest_class} is right in "
            f"{in_percent(accuracy)} of the rows, log loss {entropy:.3g} nats"
        )
    return Finding(
        name="target", severity=severity, sentence=sentence, remedy=remedy,
        rows=rows_in_words(total, num_rows),
        values={
            "counts": {str(c): int(k) for c, k in zip(classes, rows, strict=True)},
            "smallest_share": smallest, "trivial_accuracy": accuracy, "trivial_log_loss": entropy,
        },
    )  # fmt: skip


def _judge(rows: np.ndarray) -> tuple[Severity, str | None]:
    relative = rows.min() * len(rows) / rows.sum()
    if (rows > 0).sum() == 1:
        return "error", "choose another target or add rows of another class"
    if not rows.all():
        return "warning", "a class without a training row cannot be learned: add rows of it"
    if relative < TINY_SHARE or rows.min() < MIN_CLASS_ROWS:
        return "warning", (
            "judge by AUC, log loss or recall instead of accuracy, and give the rare class a "
            "larger --weight if missing it costs more"
        )
    if relative < SMALL_SHARE:
        return "note", "judge by AUC or log loss rather than accuracy"
    return "fine", None


def number_spread(y: ArrayLike, target: str, *, scale: float = 1.0, num_rows: int = 0) -> Finding:
    """Spread of a numeric target: constant, mostly one value, or squeezed by outliers.

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
    rows, name, spread = rows_in_words(len(y), num_rows), shown(target), float(y.std())
    if not spread > 1e-12 * max(1.0, float(np.abs(y).max())):
        return Finding(
            name="target", severity="error", rows=rows, remedy="choose another target",
            sentence=f"the target {name} is constant: nothing can be learned",
        )  # fmt: skip
    z = float(np.abs(y - y.mean()).max()) / spread
    quartiles = float(np.subtract(*np.percentile(y, [75, 25]))) / spread
    times = np.unique(y, return_counts=True)[1]
    common = int(times.max())
    severity: Severity = "fine"
    remedy = None
    text = (
        f"{name} is a number with standard deviation {spread * scale:.4g}, the error of always "
        f"predicting the mean; the row farthest out lies {z:.3g} standard deviations off"
    )
    if common > COMMON_SHARE * len(y) and len(times) > 2:
        severity, remedy = "note", "predict first whether it takes this value, then the others"
        text += f"; {percent(common / len(y))} of the rows have one value"
    elif 0 < quartiles < SQUEEZED_RANGE:
        severity, remedy = "warning", "predict its logarithm, mend the outliers, or --loss huber"
        text += f"; half of the rows lie within {quartiles:.2g} standard deviations of each other"
    return Finding(
        name="target", severity=severity, sentence=text, remedy=remedy, rows=rows,
        values={
            "standard_deviation": spread * scale, "largest_z": z, "quartile_range": quartiles,
            "num_values": len(times), "most_common_share": common / len(y),
        },
    )  # fmt: skip
