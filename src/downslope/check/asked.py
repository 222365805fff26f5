"""What a check is asked about: the user's loss, model and data, put into our own terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.data.arrays import Arrays
from downslope.data.generator import Generator
from downslope.errors import UsageError
from downslope.objective import Loss, Model, Objective, Params, build
from downslope.tree import map_arrays

PIECES = 8  # stretches of a source that a sample is put together from
EXAMPLE_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A loss on data.

    Attributes:
        objective: what is minimised.
        params: the trained leaves.
        source: where the rows come from.
        regularizer: gradient of what is added to the mean loss, or None.
    """

    objective: Objective
    params: Params
    source: Any
    regularizer: Callable[[Params], Any] | None


def prepare(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    l2: float = 0.0,
    penalize: Callable[[Model], Any] | None = None,
) -> Asked:
    """The parts of a question, after checking the arguments as `downslope.fit` does.

    Raises:
        UsageError: nothing to train, a loss of a wrong shape, or l2 below 0.
    """
    if not 0 <= l2 < float("inf"):
        raise UsageError(f"l2 must be finite and 0 or more; got {l2}")
    source = data if hasattr(data, "unpack") else Arrays(data, wide=_is_wide())
    rows = sample(source, EXAMPLE_ROWS)
    rows = map_arrays(lambda a: np.resize(a, (EXAMPLE_ROWS, *a.shape[1:])), rows)
    objective, params = build(loss, model, rows, source.unpack, penalty)
    mask = jax.tree.map(lambda _: True, params) if penalize is None else penalize(model)
    regularizer = None
    if penalty is not None or l2:
        regularizer = make_gradient(objective, l2, _over(params, mask) if l2 else None)
    return Asked(objective=objective, params=params, source=source, regularizer=regularizer)


def _is_wide() -> bool:
    return bool(jax.config.read("jax_enable_x64"))


def _over(params: Params, mask: Any) -> Any:
    """The mask as bools over exactly the trained leaves."""
    try:
        return jax.tree.map(
            lambda p, on: None if p is None else bool(on), params, mask, is_leaf=lambda p: p is None
        )
    except ValueError as error:
        raise UsageError(
            "penalize must give a tree of bools like the model, one for every array; "
            f"{str(error).splitlines()[0]}"
        ) from error


def make_gradient(objective: Objective, l2: float, mask: Any) -> Callable[[Params], Any]:
    """`gradient(params)` of the objective's penalty and of `l2 / 2 |w|^2` where the mask is set."""

    def gradient(params: Params) -> Any:
        extra = objective.penalty_gradient(params)
        if not l2:
            return extra
        squares = jax.tree.map(lambda p, on: l2 * p if on else jnp.zeros_like(p), params, mask)
        return squares if extra is None else jax.tree.map(jnp.add, extra, squares)

    return gradient


def sample(source: Any, count: int) -> Any:
    """At most `count` rows from stretches spread evenly over a source, as arrays of their own."""
    if isinstance(source, Generator):
        return source.batch(seed=0, number=0, num_rows=count)
    total = source.num_rows
    if count >= total:
        return map_arrays(np.array, source.read(0, total))
    pieces = min(PIECES, count)
    sizes = [count * (i + 1) // pieces - count * i // pieces for i in range(pieces)]
    # evenly spaced so that the last stretch ends with the last row
    starts = [round(i * (total - sizes[i]) / max(1, pieces - 1)) for i in range(pieces)]
    stops = [min(a + n, total) for a, n in zip(starts, sizes, strict=True)]
    found = [map_arrays(np.array, source.read(a, b)) for a, b in zip(starts, stops, strict=True)]
    return map_arrays(lambda *a: np.concatenate(a), *found)
