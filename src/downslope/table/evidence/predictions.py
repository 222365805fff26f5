"""What the model predicts for held-out rows, beside the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope.report.journal import Record
from downslope.table.calibration import probabilities
from downslope.table.evidence.scene import LeftOut, Sample, Scene
from downslope.table.evidence.spread import mean_of, share_of
from downslope.table.fit import MARGINS

BINS = 10
BIN_ROWS = 30  # of a bin, at least: with fewer an interval says little
POINTS = 400
CLASSES = 30  # of a confusion table
QUANTILES = (0.05, 0.5, 0.95)


def predicted_numbers(scene: Scene, outputs: Any) -> np.ndarray:
    """Outputs in the target's own unit [n]."""
    encoding = scene.model.encoding
    return encoding.target_mean + encoding.target_scale * outputs


def predicted_classes(outputs: np.ndarray) -> np.ndarray:
    """Class numbers [n], by the outputs themselves, as in evaluation."""
    return (outputs > 0).astype(int) if outputs.ndim == 1 else outputs.argmax(axis=1)


def probabilities_of(scene: Scene, outputs: np.ndarray) -> np.ndarray:
    """Probabilities [n, K].

    Raises:
        LeftOut: the model gives margins, and nothing says what they mean.
    """
    if scene.model.loss in MARGINS and scene.calibration is None:
        raise LeftOut("the model gives margins, not probabilities")
    return probabilities(outputs, scene.calibration)


def counted(sample: Sample, *values: Any) -> list[np.ndarray]:
    """The target, the weight and these values, for the rows of weight above 0."""
    keep = sample.weight > 0
    batch = sample.batch
    return [np.asarray(a, np.float64)[keep] for a in (batch.y, sample.weight, *values)]


def calibration(scene: Scene) -> Record:
    """Predicted probabilities beside how often they came true, in bins of as many rows each."""
    sample, classes = scene.held(), scene.model.encoding.classes
    p = probabilities_of(scene, scene.outputs(sample))
    truth, weight, p = counted(sample, p)
    if len(classes) == 2:
        what, of = p[:, 1], f"probability of class '{classes[1]}'"
        hits = truth == 1
    else:
        what, of = p.max(axis=1), "probability of the predicted class"
        hits = truth == p.argmax(axis=1)
    return {"bins": _bins(what, hits, weight), "of": of, "num_rows": len(what)}


def _bins(p: np.ndarray, hits: np.ndarray, weight: np.ndarray) -> list[Record]:
    """Bins of about as many rows each; equal probabilities are never parted."""
    num = max(1, min(BINS, len(p) // BIN_ROWS))
    edges = np.unique(np.quantile(p, np.arange(1, num) / num))
    place = np.searchsorted(edges, p, side="right")
    bins = []
    for number in np.unique(place):
        inside = place == number
        observed = share_of(hits[inside], weight[inside])
        bins.append(
            {
                "predicted": float(np.average(p[inside], weights=weight[inside])),
                "observed": observed["value"],
                "lo": observed["lo"],
                "hi": observed["hi"],
                "count": int(inside.sum()),
            }
        )
    return bins


def residuals(scene: Scene) -> Record:
    """Truth less prediction, in the target's unit: some points, quantiles and the mean."""
    sample, encoding = scene.held(), scene.model.encoding
    outputs = scene.outputs(sample)
    truth, weight, outputs = counted(sample, outputs)
    predicted = predicted_numbers(scene, outputs)
    gaps = encoding.target_scale * (truth - outputs)  # not a difference of two large numbers
    some = np.random.default_rng(0).permutation(len(gaps))[:POINTS]
    order = np.argsort(gaps)
    # weighted quantiles: where the running share of the weight passes them
    shares = np.cumsum(weight[order]) / weight.sum()
    at = np.minimum(np.searchsorted(shares, QUANTILES), len(gaps) - 1)
    quantiles = {str(q): float(gaps[order[i]]) for q, i in zip(QUANTILES, at, strict=True)}
    return {
        "unit": f"unit of {encoding.target.name}",
        "predicted": predicted[some].tolist(),
        "residual": gaps[some].tolist(),
        "quantiles": quantiles,
        "mean": mean_of(gaps, weight),
        "num_rows": len(gaps),
    }


def confusion(scene: Scene) -> Record:
    """How many rows of each class were taken for which: rows true, columns predicted."""
    sample, classes = scene.held(), scene.model.encoding.classes
    chosen = predicted_classes(scene.outputs(sample))
    truth, _, chosen = counted(sample, chosen)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (truth.astype(int), chosen.astype(int)), 1)
    occur = counts.sum(axis=1) + counts.sum(axis=0)
    largest = np.argsort(-counts.sum(axis=1), kind="stable")[:CLASSES]
    shown = (
        np.sort(largest[occur[largest] > 0]) if len(classes) > CLASSES else np.arange(len(classes))
    )
    return {
        "classes": [str(classes[i]) for i in shown],
        "counts": counts[np.ix_(shown, shown)].tolist(),
        "num_rows": len(truth),
        "left_out": len(classes) - len(shown),
    }
