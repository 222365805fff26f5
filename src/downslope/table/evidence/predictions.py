"""Predictions for held-out rows beside the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import chdtrc

from downslope.estimate import Z95
from downslope.report.journal import Record
from downslope.table.calibration import predicted_classes, probabilities
from downslope.table.evidence.context import Context, RowSample, Skipped
from downslope.table.evidence.intervals import ends, mean_of, share_of
from downslope.table.model import LOG_LINKS

MAX_BINS = 10
MIN_BIN_ROWS = 30  # with fewer an interval says little
MAX_POINTS = 400
MAX_CLASSES = 30  # of a confusion table
QUANTILES = (0.05, 0.5, 0.95)


def probabilities_of(context: Context, outputs: np.ndarray) -> np.ndarray:
    """Probabilities [n, K].

    Raises:
        Skipped: the model gives margins, and there is no calibration of them.
    """
    if context.model.has_margins and context.calibration is None:
        raise Skipped("the model gives margins, not probabilities")
    return probabilities(outputs, context.calibration)


def counted(sample: RowSample, *values: Any) -> list[np.ndarray]:
    """The target, the weight and these values, for the rows of weight above 0."""
    keep = sample.weight > 0
    batch = sample.batch
    return [np.asarray(a, np.float64)[keep] for a in (batch.y, sample.weight, *values)]


def calibration(context: Context) -> Record:
    """Predicted probabilities beside the observed shares, in bins of about equally many rows."""
    sample, classes = context.held_out_sample(), context.model.encoding.classes
    p = probabilities_of(context, context.outputs(sample))
    truth, weight, p = counted(sample, p)
    if len(classes) == 2:
        what, of = p[:, 1], f"probability of class '{classes[1]}'"
        hits = truth == 1
    else:
        what, of = p.max(axis=1), "probability of the predicted class"
        hits = truth == p.argmax(axis=1)
    bins = _bins(what, hits, weight)
    return {"bins": bins, "of": of, "num_rows": len(what), "p_value": _p_value(bins)}


def _p_value(bins: list[Record]) -> float | None:
    """Chance of bins as far off as these, if every prediction held.

    A chi-squared test of all bins at once, with the widths of their intervals (Hosmer and Lemeshow
    1980): of ten bins one in two tables has a share outside its 95 % interval by chance.
    """
    if any(each["lo"] is None for each in bins):
        return None
    widths = [max((each["hi"] - each["lo"]) / (2 * Z95), 1e-9) for each in bins]
    gaps = [each["observed"] - each["predicted"] for each in bins]
    distance = sum((gap / width) ** 2 for gap, width in zip(gaps, widths, strict=True))
    return float(chdtrc(len(bins), distance))


def _bins(p: np.ndarray, hits: np.ndarray, weight: np.ndarray) -> list[Record]:
    """Bins of about equally many rows; equal probabilities are never separated."""
    num = max(1, min(MAX_BINS, len(p) // MIN_BIN_ROWS))
    edges = np.unique(np.quantile(p, np.arange(1, num) / num))
    place = np.searchsorted(edges, p, side="right")
    bins = []
    for number in np.unique(place):
        inside = place == number
        observed = share_of(hits[inside], weight[inside])
        bins.append(
            {
                "predicted": float(np.average(p[inside], weights=weight[inside])),
                "observed": observed.value,
                "lo": observed.lo,
                "hi": observed.hi,
                "count": int(inside.sum()),
            }
        )
    return bins


def residuals(context: Context) -> Record:
    """Truth minus prediction, in the target's unit: some points, quantiles and the mean."""
    sample, encoding = context.held_out_sample(), context.model.encoding
    outputs = context.model.point(context.outputs(sample))
    truth, weight, outputs = counted(sample, outputs)
    predicted = context.model.in_target_unit(outputs)
    if context.model.loss in LOG_LINKS:
        gaps = encoding.target.in_own_unit(truth) - predicted
    else:
        gaps = encoding.target.scale * (truth - outputs)  # not a difference of two large numbers
    some = np.random.default_rng(0).permutation(len(gaps))[:MAX_POINTS]
    quantiles = np.quantile(gaps, QUANTILES, weights=weight, method="inverted_cdf")
    return {
        "unit": context.model.target_unit,
        "predicted": predicted[some].tolist(),
        "residual": gaps[some].tolist(),
        "quantiles": dict(zip(map(str, QUANTILES), quantiles.tolist(), strict=True)),
        "mean": ends(mean_of(gaps, weight)),
        "num_rows": len(gaps),
    }


def confusion(context: Context) -> Record:
    """Rows of each class by predicted class: rows true, columns predicted."""
    sample, classes = context.held_out_sample(), context.model.encoding.classes
    chosen = predicted_classes(context.outputs(sample))
    truth, _, chosen = counted(sample, chosen)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (truth.astype(int), chosen.astype(int)), 1)
    occur = counts.sum(axis=1) + counts.sum(axis=0)
    largest = np.argsort(-counts.sum(axis=1), kind="stable")[:MAX_CLASSES]
    shown = np.arange(len(classes))
    if len(classes) > MAX_CLASSES:
        shown = np.sort(largest[occur[largest] > 0])
    return {
        "classes": [str(classes[i]) for i in shown],
        "counts": counts[np.ix_(shown, shown)].tolist(),
        "num_rows": len(truth),
        "left_out": len(classes) - len(shown),
    }
