"""Models for tables: plain pytrees, and functions of them.

A row is numbers `x` [B, n] and codes [B, c]. A column of categories has one code, a
column of text several; each looks up its table, so a category with many values costs a
row of parameters, never a wider row of data. Code 0 (an unknown category, or padding
behind the last word) adds nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Lookup(NamedTuple):
    """One table of parameters: `num_codes` entries, read by `num_slots` code columns."""

    name: str
    num_codes: int
    first_slot: int
    num_slots: int


def linear_init(num_numeric: int, lookups: Sequence[Lookup], num_outputs: int) -> dict[str, Any]:
    """A linear model at zero: weights [n, K], bias [K] and a table [codes, K] a coded column."""
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


def mlp_init(
    num_numeric: int,
    lookups: Sequence[Lookup],
    hidden: Sequence[int],
    num_outputs: int,
    seed: int,
) -> dict[str, Any]:
    """A multi-layer perceptron: normal weights of variance 2/fan-in (He et al. 2015), bias 0."""
    rng = np.random.Generator(np.random.Philox(seed))
    embeddings = {
        t.name: 0.1 * rng.standard_normal((t.num_codes, width(t.num_codes)), np.float32)
        for t in lookups
    }
    widths = [num_numeric + sum(e.shape[1] for e in embeddings.values()), *hidden, num_outputs]
    layers = []
    for fan_in, fan_out in itertools.pairwise(widths):
        # the last layer starts at zero: the first predictions are the neutral ones
        gain = 0.0 if len(layers) == len(hidden) else np.sqrt(2.0 / max(1, fan_in))
        weights = np.float32(gain) * rng.standard_normal((fan_in, fan_out), np.float32)
        layers.append({"weights": weights, "bias": np.zeros(fan_out, np.float32)})
    return {"embeddings": embeddings, "layers": layers}


def width(num_codes: int) -> int:
    """Width of an embedding: 1.6 V^0.56, at most 32 (a rule of thumb of the fastai library).

    Example:
        >>> width(4), width(1000), width(65538)
        (3, 32, 32)
    """
    return int(min(32, num_codes, round(1.6 * num_codes**0.56)))


def mlp_apply(model: Any, lookups: Sequence[Lookup], batch: Any) -> Array:
    """Outputs [B, K] of a multi-layer perceptron; the words of a text are averaged."""
    parts = [batch.x]
    for table in lookups:
        entries = _entries(model["embeddings"][table.name], table, batch.codes)
        codes = _codes(table, batch.codes)
        parts.append(entries.sum(1) / jnp.maximum(1, (codes > 0).sum(1, keepdims=True)))
    h = jnp.concatenate(parts, axis=-1)
    *inner, last = model["layers"]
    for layer in inner:
        h = jax.nn.relu(h @ layer["weights"] + layer["bias"])
    return h @ last["weights"] + last["bias"]


def weights_only(model: Any) -> Any:
    """True for everything but biases: what L1, L2 act on."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) != "bias", model
    )


def _codes(table: Lookup, codes: Array) -> Array:
    return codes[:, table.first_slot : table.first_slot + table.num_slots]


def _entries(parameters: Array, table: Lookup, codes: Array) -> Array:
    """Entries [B, slots, width] that the codes point to, zero for code 0."""
    codes = _codes(table, codes)
    found = jnp.take(parameters, codes, axis=0, mode="clip")
    return jnp.where((codes > 0)[..., None], found, 0.0)
