"""What is measured on held-out batches of P x K."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import Array

from downslope.estimate import Estimate, not_estimable
from downslope.metrics import Results
from downslope.recipes.embedding.network import UnitLoss

LOSS, RECALL = "held_out_loss", "batch_recall@1"


class UnitScorer:
    """A `downslope.Scorer`: loss of held-out batches, and recall@1 inside them.

    Neither is called "loss", by which a run would stop and choose its parameters: the held-out
    loss of a contrastive net rises where its recall does not fall, and that of the hardest triplets
    is lowest where nothing was learned. The training loss decides.
    """

    def __init__(self, loss: UnitLoss):
        self._loss = loss

    def score(self, model: Any, batch: Any, losses: Array) -> dict[str, Array]:
        """Loss and recall of every unit, [n] each."""
        key = jax.random.key(0)  # the same views at every evaluation
        recall = jax.lax.map(lambda rows: self._loss.recall(model, rows, key), batch)
        return {"losses": losses, "recall": recall}

    def accumulator(self) -> _Means:
        """Means over the units."""
        return _Means()


class _Means:
    def __init__(self) -> None:
        self._losses: list[np.ndarray] = []
        self._recall: list[np.ndarray] = []

    def add(self, losses: np.ndarray, recall: np.ndarray) -> None:
        self._losses.append(losses)
        self._recall.append(recall)

    def result(self) -> Results:
        found: dict[str, Estimate] = {}
        parts = ((LOSS, self._losses, "loss"), (RECALL, self._recall, "share of queries"))
        for name, values, unit in parts:
            each = np.concatenate(values).astype(np.float64)
            if not np.isfinite(each).all():
                found[name] = not_estimable("not finite for some batch", unit=unit)
                continue
            found[name] = Estimate(
                value=float(each.mean()), lo=None, hi=None, num_examples=len(each), unit=unit,
                method="mean over batches of P x K",
                flags=("batches share rows, so their spread gives no interval",),
            )  # fmt: skip
        return Results(found, higher_is_better=[RECALL])
