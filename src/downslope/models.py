"""Linear models and multi-layer perceptrons: plain pytrees, and functions of them.

The rows of a table are numbers `x` [B, n] and codes [B, c]: one code for a column of categories,
several for a column of text. Each code looks up a row of parameters, so a category with many
values costs parameters, never a wider row of data. Code 0 (an unknown category, or padding
behind the last word) adds nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Lookup(NamedTuple):
    """A table of parameters with `num_codes` entries, read by `num_slots` columns of codes."""

    name: str
    num_codes: int
    first_slot: int
    num_slots: int


def linear_init(num_numeric: int, lookups: Sequence[Lookup], num_outputs: int) -> dict[str, Any]:
    """A linear model at zero: weights [n, K], bias [K] and a table [codes, K] per coded column."""
    return {
        "weights": np.zeros((num_numeric, num_outputs), np.float32),
        "bias": np.zeros(num_outputs, np.float32),
        "tables": {t.name: np.zeros((t.num_codes, num_outputs), np.float32) for t in lookups},
    }


def linear_apply(model: Any, lookups: Sequence[Lookup], batch: Any) -> Array:
    """Outputs [B, K] of a linear model."""
    out = batch.x @ model["weights"] + model["bias"]
    for table in lookups:
        out = out + _entries(model["tables"][table.name], table, batch.codes).sum(1)
    return out


def dense_init(
    widths: Sequence[int], draw: Callable[[tuple[int, int]], np.ndarray], *, last_gain: float = 0.0
) -> list[dict[str, Any]]:
    """Dense layers: normal weights of variance 2/fan-in (He et al. 2015), bias 0.

    Args:
        widths: of the inputs, the hidden layers and the outputs.
        draw: standard normal numbers of a shape; called once a layer, in order.
        last_gain: variance of the last layer's weights times its fan-in. At 0 it is not drawn,
            and the first outputs are 0.

    Example:
        >>> layers = dense_init((3, 8, 1), np.random.default_rng(0).standard_normal)
        >>> [layer["weights"].shape for layer in layers]
        [(3, 8), (8, 1)]
    """
    layers = []
    for number, shape in enumerate(itertools.pairwise(widths), start=2):
        gain = last_gain if number == len(widths) else 2.0
        weights = np.zeros(shape, np.float32)
        if gain:
            drawn = draw(shape)
            weights = np.float32(drawn * drawn.dtype.type(np.sqrt(gain / max(1, shape[0]))))
        layers.append({"weights": weights, "bias": np.zeros(shape[1], np.float32)})
    return layers


def dense_apply(layers: Sequence[Any], x: Any, module: Any = jnp) -> Any:
    """Outputs [B, K] of dense layers with ReLU between them.

    Args:
        layers: each with `weights` and, in the last one if it has any, `bias`.
        x: inputs [B, n].
        module: `jax.numpy`, or `numpy` for predictions that compile nothing.
    """
    relu = jax.nn.relu if module is jnp else lambda h: np.maximum(h, 0)
    *inner, last = layers
    for layer in inner:
        x = relu(x @ layer["weights"] + layer["bias"])
    x = x @ last["weights"]
    return x + last["bias"] if "bias" in last else x


def mlp_init(
    num_numeric: int,
    lookups: Sequence[Lookup],
    hidden: Sequence[int],
    num_outputs: int,
    seed: int,
) -> dict[str, Any]:
    """A multi-layer perceptron: embeddings [codes, width] per coded column, then dense layers."""
    rng = np.random.Generator(np.random.Philox(seed))

    def draw(shape: tuple[int, int]) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    tables = {t.name: 0.1 * draw((t.num_codes, width(t.num_codes))) for t in lookups}
    num_inputs = num_numeric + sum(e.shape[1] for e in tables.values())
    return {"embeddings": tables, "layers": dense_init((num_inputs, *hidden, num_outputs), draw)}


def width(num_codes: int) -> int:
    """Width of an embedding: 1.6 V^0.56, at most 32 (the fastai library's rule of thumb).

    Example:
        >>> width(4), width(1000), width(65538)
        (3, 32, 32)
    """
    return int(min(32, num_codes, round(1.6 * num_codes**0.56)))


def mlp_apply(model: Any, lookups: Sequence[Lookup], batch: Any) -> Array:
    """Outputs [B, K] of a multi-layer perceptron; the words of a text are averaged."""
    parts = [batch.x]
    parts += [embedded(model["embeddings"][t.name], t, batch.codes) for t in lookups]
    return dense_apply(model["layers"], jnp.concatenate(parts, axis=-1))


def embedded(parameters: Any, table: Lookup, codes: Array) -> Array:
    """Mean [B, width] of the entries that a column's codes point to, without code 0."""
    entries, found = _entries(parameters, table, codes), _codes(table, codes)
    return entries.sum(1) / jnp.maximum(1, (found > 0).sum(1, keepdims=True))


def weights_only(model: Any) -> Any:
    """True for every leaf but biases, which are its vectors: what L1 and L2 act on."""
    return jax.tree.map(lambda leaf: np.ndim(leaf) > 1, model)


def _codes(table: Lookup, codes: Array) -> Array:
    return codes[:, table.first_slot : table.first_slot + table.num_slots]


def _entries(parameters: Array, table: Lookup, codes: Array) -> Array:
    """Entries [B, slots, width] that the codes point to, zero for code 0."""
    codes = _codes(table, codes)
    found = jnp.take(parameters, codes, axis=0, mode="clip")
    return jnp.where((codes > 0)[..., None], found, 0.0)
