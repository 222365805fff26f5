"""Detection of losses in which an example depends on the other examples of its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.objective import Objective, Params
from downslope.train.program_cache import kept
from downslope.train.sources import example

NUM_ROWS = 12  # rows that are enough to detect interaction
MOVED = 0.1  # relative: an output layer of zeros would hide the layers before it; assumed


def examples_interact(objective: Objective, params: Params, rows: Any) -> bool:
    """True if the losses of some examples change with the rest of their batch.

    They do with batch normalisation and contrastive losses, which have no gradient per example.
    A batch of rows a and b is compared with one of a and c under the same random key: the losses
    of a must agree up to rounding, at the parameters and at a point near them. The rows are mixed
    so that groups of neighbours, or of every 2nd or 4th row, hold both kinds, which detects
    normalisation within small groups too. The examples of a scalar loss are taken to interact.

    Args:
        rows: at least three rows; with fewer, the answer is False.
    """
    if not objective.separable:
        return True
    size = jax.tree.leaves(rows)[0].shape[0] // 3
    if size == 0:
        return False

    # the Thue-Morse sequence: of rows 2i and 2i + 1 one is kept, so of any group of neighbours too
    is_other = np.array([i.bit_count() % 2 for i in range(2 * size)])
    order = np.argsort(np.argsort(is_other, kind="stable"))

    @jax.jit
    def of_kept(params: Params, kept: Any, others: Any) -> Any:
        batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b])[order], kept, others)
        return objective.losses(params, batch, jax.random.key(0))[is_other == 0]

    kept, *others = (
        jax.tree.map(lambda a, k=k: a[k * size : (k + 1) * size], rows) for k in range(3)
    )
    return _differ_near(params, lambda p: [of_kept(p, kept, part) for part in others]) or False


def can_divide(objective: Objective, params: Params, rows: Any) -> bool:
    """True if the losses of some rows are those of their two halves computed separately.

    They are if examples interact only within groups that lie in one half, such as ghost batches:
    a batch may then be accumulated over micro-batches of that size.

    Args:
        rows: an even number of rows, two micro-batches.
    """
    half = jax.tree.leaves(rows)[0].shape[0] // 2

    @jax.jit
    def losses(params: Params, rows: Any) -> Any:
        return objective.losses(params, rows, jax.random.key(0))

    parts = [jax.tree.map(lambda a, k=k: a[k * half : (k + 1) * half], rows) for k in (0, 1)]

    def both(params: Params) -> list[Any]:
        return [losses(params, rows), np.concatenate([losses(params, part) for part in parts])]

    return _differ_near(params, both) is False


def _differ_near(params: Params, pair: Callable[[Params], list[Any]]) -> bool | None:
    """True if two computations of losses differ at the parameters or near them.

    None if the loss takes batches of one size only.
    """
    try:
        return any(_differ(*map(np.asarray, pair(point))) for point in (params, _moved(params)))
    except (TypeError, ValueError):
        return None


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """True if two results of the same computation differ by more than rounding."""
    finite = np.isfinite(one)
    if (finite != np.isfinite(other)).any():
        return True
    # products of float32 matrices round differently from row to row
    tolerance = 1e-9 if one.dtype == np.float64 else 1e-4
    one, other = one[finite].astype(np.float64), other[finite].astype(np.float64)
    scale = np.abs(one).max(initial=0) + np.abs(other).max(initial=0)
    return bool(np.abs(one - other).max(initial=0) > tolerance * scale)


def _moved(params: Params) -> Params:
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: (np.asarray(p) + MOVED * draw.standard_normal(np.shape(p))).astype(p.dtype),
        params,
    )


def interact(objective: Objective, params: Params, source: Any, kind: Any) -> bool:
    """True if examples interact, checked once for all runs of a kind and shape."""
    rows = example(source, NUM_ROWS)
    shapes = [(a.shape, str(a.dtype)) for a in jax.tree.leaves((params, rows))]
    key = kind and ("interacts", kind, tuple(shapes))
    return kept(key, lambda: examples_interact(objective, params, rows))
