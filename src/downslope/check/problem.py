"""A loss on data in the package's own terms, a sample of its rows, and 64-bit numbers for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from downslope.arguments import number
from downslope.data.arrays import Arrays
from downslope.data.generator import Generator
from downslope.errors import UsageError
from downslope.objective import (
    Loss,
    Model,
    Objective,
    Params,
    build,
    make_regularizer,
    penalized_mask,
)
from downslope.tree import map_arrays

NUM_STRETCHES = 8  # of consecutive rows that a sample is put together from
EXAMPLE_ROWS = 2
Traced = TypeVar("Traced")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A loss to minimise, its rows, and the parameters to start from.

    Attributes:
        objective: loss and penalty.
        params: the trained leaves.
        source: rows of the data.
        regularizer: gradient of what is added to the mean loss, or None.
    """

    objective: Objective
    params: Params
    source: Any
    regularizer: Callable[[Params], Any] | None = None


def prepare(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    l2: float = 0.0,
    penalize: Callable[[Model], Any] | None = None,
) -> Problem:
    """The problem, after checking the arguments as `downslope.fit` does.

    Raises:
        UsageError: nothing to train, a loss of a wrong shape, or l2 below 0.
    """
    number("l2", l2, least=0)
    is_wide = bool(jax.config.read("jax_enable_x64"))
    source = data if hasattr(data, "unpack") else Arrays(data, wide=is_wide)
    rows = spread_sample(source, EXAMPLE_ROWS)
    rows = map_arrays(lambda a: np.resize(a, (EXAMPLE_ROWS, *a.shape[1:])), rows)
    objective, params = build(loss, model, rows, source.unpack, penalty)
    regularizer = make_regularizer(objective, l2, penalized_mask(penalize, model, params))
    return Problem(objective=objective, params=params, source=source, regularizer=regularizer)


def spread_sample(source: Any, count: int) -> Any:
    """At most `count` rows, in stretches spread evenly over the source; copies."""
    if isinstance(source, Generator):
        return source.batch(seed=0, number=0, num_rows=count)
    total = source.num_rows
    if count >= total:
        return map_arrays(np.array, source.read(0, total))
    stretches = min(NUM_STRETCHES, count)
    ends = [count * i // stretches for i in range(stretches + 1)]
    parts = []
    for i in range(stretches):
        size = ends[i + 1] - ends[i]
        # evenly spaced, so that the last stretch ends with the last row
        start = round(i * (total - size) / max(1, stretches - 1))
        parts.append(map_arrays(np.array, source.read(start, start + size)))
    return map_arrays(lambda *a: np.concatenate(a), *parts)


def wide() -> AbstractContextManager[Any]:
    """A context in which JAX has 64-bit numbers; nothing outside it changes."""
    return jax.enable_x64(True)


def cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point arrays as `dtype`, everything else as it is."""

    def one(leaf: Any) -> Any:
        kind = getattr(leaf, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating) or kind == dtype:
            return leaf
        return leaf.astype(dtype)

    return jax.tree.map(one, tree)


def in_widest_type(attempt: Callable[[Any], Traced]) -> Traced:
    """Result of `attempt(dtype)` for float64, or for float32 where that cannot be traced.

    Raises:
        UsageError: neither can be traced where JAX has 64-bit numbers.
    """
    fault: Exception | None = None
    for dtype in (np.dtype(np.float64), np.dtype(np.float32)):
        try:
            return attempt(dtype)
        except (TypeError, ValueError) as error:
            fault = error
    first = str(fault).splitlines()[0]
    raise UsageError(f"loss must do with 64-bit numbers of JAX; got {first}") from fault
