"""Hinge loss on rows in memory: an epoch compared with scikit-learn and with reading the bytes."""

from __future__ import annotations

from statistics import median

import numpy as np

from benchmarks.models import Epochs, hinge, linear_model, timed_fit
from benchmarks.report import Findings, Row
from benchmarks.timing import ratio, seconds, shown, take_turns

BATCH = 256
EPOCHS = 6


def run(quick: bool = False) -> Findings:
    from sklearn.linear_model import SGDClassifier

    num_rows, width = (100_000 if quick else 1_000_000), 64
    draw = np.random.default_rng(0)
    x = draw.standard_normal((num_rows, width), dtype=np.float32)
    y = (x @ draw.standard_normal(width) > 0).astype(np.int32)
    runs: list[Epochs] = []

    def ours() -> float:
        model, data = linear_model(width), (x, y.astype(np.float32))
        found = timed_fit(
            hinge, model, data, epochs=EPOCHS, batch_size=BATCH, optimizer="sgd", patience=None
        )
        runs.append(found)
        return median(found.seconds)

    def theirs(shuffle: bool) -> float:
        # without a penalty it has least to do; float32 rows are taken as they are
        model = SGDClassifier(loss="hinge", penalty=None, max_iter=1, tol=None, shuffle=shuffle)
        return seconds(lambda: model.fit(x, y))

    samples = take_turns(
        {
            "downslope": ours,
            "scikit-learn": lambda: theirs(True),
            "scikit-learn unshuffled": lambda: theirs(False),
            "numpy sum": lambda: min(seconds(x.sum) for _ in range(3)),
        },
        repeats=1 if quick else 7,
    )
    return _findings(samples, runs, num_rows, width)


def _findings(samples: dict, runs: list[Epochs], num_rows: int, width: int) -> Findings:
    what = f"hinge, {num_rows:,} x {width} float32 in memory, batch {BATCH}: one epoch"
    shuffled = ratio(samples, "scikit-learn", "downslope")
    plain = ratio(samples, "scikit-learn unshuffled", "downslope")
    total = ratio(samples, "downslope", "numpy sum")
    ours = shown(samples["downslope"])
    before = median(run.before_seconds for run in runs)
    first = median(run.first_seconds - median(run.seconds) for run in runs)
    return Findings(
        samples=samples,
        rows=[
            Row(
                what=what,
                ours=ours,
                peer=f"scikit-learn SGDClassifier {shown(samples['scikit-learn'])}",
                ratio=shuffled,
                bar="at least 8 times faster",
                met=shuffled.median >= 8,
            ),
            Row(
                what="the same, rows in their own order there",
                ours=ours,
                peer=f"SGDClassifier(shuffle=False) {shown(samples['scikit-learn unshuffled'])}",
                ratio=plain,
            ),
            Row(
                what="the same, beside reading the rows once",
                ours=ours,
                peer=f"NumPy `x.sum()` {shown(samples['numpy sum'])}",
                ratio=total,
                bar="at most 2",
                met=total.median <= 2,
            ),
        ],
        notes=[
            f"Not in the epoch: {before:.2f} s once to check and to gather the rows into random "
            f"order, {first:.2f} s in the first epoch to compile."
        ],
    )
