"""Mean loss on held-out rows, compiled once for all runs of a workload."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.selftuning.workloads.workload import Loss, Rows, num_rows, take

ROWS_AT_ONCE = 1024


class HeldOutLoss:
    """`mean(model)`: the mean loss of these rows, infinite if it is not finite.

    The programs stay compiled when JAX's caches are cleared before a run. The key is the same for
    every model.
    """

    def __init__(self, loss: Loss, rows: Rows, model: Any):
        count = num_rows(rows)
        self._parts = [
            jax.tree.map(jnp.asarray, take(rows, slice(first, first + ROWS_AT_ONCE)))
            for first in range(0, count, ROWS_AT_ONCE)
        ]
        self._count = count
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), model)
        total = jax.jit(lambda model, rows: loss(model, rows, jax.random.key(0)).sum())
        self._totals: dict[int, Any] = {}
        for part in self._parts:
            length = num_rows(part)
            if length not in self._totals:
                self._totals[length] = total.lower(shapes, part).compile()

    def mean(self, model: Any) -> float:
        """Mean loss of a model."""
        model = jax.tree.map(jnp.asarray, model)
        totals = [float(self._totals[num_rows(part)](model, part)) for part in self._parts]
        mean = math.fsum(totals) / self._count if all(map(math.isfinite, totals)) else math.inf
        return mean if math.isfinite(mean) else math.inf
