"""Columns that alone predict the target almost perfectly: suspects, never convictions."""

from __future__ import annotations

import math
import shlex

from downslope.check.column_scores import MIN_CLASS_ROWS_PER_HALF, column_scores
from downslope.check.findings import NUM_NAMES, Finding, bare, shown
from downslope.check.sample import Sample

# A column is suspected above this share of a perfect score (0 is chance): AUC 0.99 or R2 0.98.
# The best honest column of scikit-learn's breast cancer data, an easy task, reaches AUC 0.975.
MIN_SUSPECT_SCORE = 0.98
# An honest column has neighbours: what it leaves unexplained is not this many times less than what
# the best other column leaves. Assumed.
FAR_AHEAD_FACTOR = 5.0
MAX_ROWS = 50_000  # ends of the interval of an AUC then lie within 0.01


def leaking_columns(sample: Sample) -> Finding:
    """Columns that alone predict the target almost perfectly, and far better than any other.

    Every second row fits: a number is cut into 64 bins of equally many rows, a category has its
    values, and each bin or value has its class shares, or the mean rank of the target. The other
    rows score: the area under the ROC curve, one class against the rest, averaged by the size of
    the classes (for numbers also of the number itself); or R2 of the ranks, so that any monotone
    relation counts as perfect. Words of a text are left out.

    Args:
        sample: rows in random order; the first 50,000 are examined.

    Returns:
        A `Finding` "leaks": a warning where a column reaches 0.98 of a perfect score and leaves a
        fifth or less of what the best column that does not leaves unexplained; a note where it
        reaches it without that distance. An easy target looks the same: only the reader knows
        whether the column is known before the target is.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 3)).astype("float32")
        >>> y = (x[:, 0] + rng.normal(size=2000) > 0).astype(int)
        >>> x[:, 2] = y + 0.1 * rng.normal(size=2000)
        >>> print(leaking_columns(Sample(x=x, names=["age", "size", "paid"], y=y, target="bought",
        ...                              classes=[0, 1], num_rows=2000)).sentence)
        'paid' alone predicts 'bought' with AUC 1.0000 (0.9924 to 1.0000) on rows it was not
        fitted to; the next best column, 'age', with 0.849 (0.815 to 0.878)
    """
    sample = sample.first(MAX_ROWS)
    scores = sorted(column_scores(sample), key=lambda score: -score.value)
    if not scores:
        text = f"cannot be judged: {_reason(sample)}"
        return Finding(name="leaks", severity="fine", sentence=text, rows=sample.rows)
    suspects = [score for score in scores if score.value > MIN_SUSPECT_SCORE]
    others = [score for score in scores if score.value <= MIN_SUSPECT_SCORE]
    rest = 1 - others[0].value if others else math.inf
    far = [s for s in suspects if (1 - s.value) * FAR_AHEAD_FACTOR < rest]
    names = [s.column for s in far or suspects]
    target, measure = shown(sample.target), "AUC" if sample.classes else "R2 of ranks"
    remedy = None
    if not suspects:
        text = (
            f"no column alone predicts {target} almost perfectly; the best, "
            f"{shown(scores[0].column)}, reaches {measure} {bare(scores[0].estimate)}"
        )
    else:
        text = (
            f"{shown(*names)} alone predict{'s' * (len(names) == 1)} {target} with {measure} "
            f"{bare((far or suspects)[0].estimate)} on rows it was not fitted to"
        )
        if others:
            text += f"; the next best column, {shown(others[0].column)}, with "
            text += bare(others[0].estimate)
        remedy = "an easy target, or several columns that give it away: make sure that they are "
        remedy += "known first"
    if far:
        flags = " ".join(f"--ignore {shlex.quote(name)}" for name in names[:NUM_NAMES])
        flags = "".join(c if c.isprintable() else "?" for c in flags)
        remedy = f"a suspect: unless it is known before the target is, {flags}"
    return Finding(
        name="leaks", severity="warning" if far else "note" if suspects else "fine",
        sentence=text, remedy=remedy, rows=sample.rows,
        values={
            "scores": {s.column: s.estimate for s in scores[:10]},
            "suspects": [s.column for s in suspects],
        },
    )  # fmt: skip


def _reason(sample: Sample) -> str:
    if not sample.names and not sample.categories:
        return "no numbers and no categories"
    if sample.classes:
        return f"fewer than two classes with {2 * MIN_CLASS_ROWS_PER_HALF} rows"
    return f"fewer than {4 * MIN_CLASS_ROWS_PER_HALF} rows, or a target that is constant in them"
