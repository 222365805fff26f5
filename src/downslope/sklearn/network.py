"""Models of the estimators: layers of weights, and the loss of a row.

A linear model is one layer. The same function gives outputs under JAX while training and under
NumPy for predictions, which therefore compile nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from downslope.losses import NAMED
from downslope.models import dense_apply, dense_init

LOSSES = {"squared_error": "squared", "absolute_error": "absolute", "huber": "huber"}
SMALL = 1 << 16  # numbers in a table below which padding costs next to nothing
NARROW = 64  # columns up to which a table is padded


@dataclass(frozen=True)
class RowLoss:
    """The weighted loss of every row. It compares by value: its programs outlive a fit.

    Every loss but softmax is taken of each output by itself, and added up.
    """

    name: str  # in `downslope.losses.NAMED`

    def __call__(self, model: Any, batch: Any, key: Any) -> Any:
        """Losses [B] of a batch of rows, targets and weights."""
        x, y, weight = batch
        out, loss = dense_apply(model["layers"], x), NAMED[self.name]
        if self.name == "softmax":
            return weight * loss(out, y)
        if y.ndim == 1 and out.shape[-1] > 1:  # one class against the rest
            y = y[:, None] == jnp.arange(out.shape[-1])
        return weight * loss(out, y.reshape(out.shape).astype(out.dtype)).sum(-1)


def initial(
    num_columns: int, hidden: Sequence[int], num_outputs: int, *, intercept: bool, seed: int
) -> dict[str, Any]:
    """A model before training, whose first outputs are 0, with or without an intercept."""
    draw = np.random.default_rng(seed).standard_normal
    layers = dense_init((num_columns, *hidden, num_outputs), draw)
    if not intercept:
        del layers[-1]["bias"]
    return {"layers": layers}


def padded_width(num_rows: int, num_columns: int) -> int:
    """Columns of a small table with those of zeros that fill it up to a power of two.

    Such columns change nothing, and tables of nearby widths share their compiled programs.
    """
    if num_columns > NARROW or num_rows * num_columns > SMALL:
        return num_columns
    return max(4, 1 << (num_columns - 1).bit_length())


def pad_columns(x: np.ndarray, width: int) -> np.ndarray:
    """The table as float32, filled up with columns of zeros."""
    if x.shape[1] == width:
        return np.ascontiguousarray(x, np.float32)
    wide = np.zeros((len(x), width), np.float32)
    wide[:, : x.shape[1]] = x
    return wide


def resize_inputs(model: Any, width: int) -> Any:
    """The model for inputs of another width: rows of zeros are added, or the last ones cut off."""
    first, *others = model["layers"]
    weights = np.zeros((width, first["weights"].shape[1]), np.float32)
    rows = min(width, len(first["weights"]))
    weights[:rows] = first["weights"][:rows]
    return {"layers": [first | {"weights": weights}, *others]}


def rescale_outputs(model: Any, scale: Any, shift: Any) -> Any:
    """The model whose outputs are `scale` times those of `model` plus `shift`."""
    *inner, last = model["layers"]
    found = {"weights": np.float32(last["weights"] * scale)}
    if "bias" in last:
        found["bias"] = np.float32(last["bias"] * scale + shift)
    return {"layers": [*inner, found]}
