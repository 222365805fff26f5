"""What an `Embedder` trains: a small net, and the loss of one logical batch of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from downslope.models import dense_apply, dense_init
from downslope.recipes.embedding import losses

LossName = Literal["supervised", "nt_xent", "pairs", "triplet", "triplet_soft"]
PIECE_ROWS = 4096  # rows embedded at once where nothing is trained
MARGINS = {"pairs": 1.0, "triplet": 0.2}  # for vectors of length 1; assumed


def initial(widths: Sequence[int], seed: int) -> dict[str, Any]:
    """A multi-layer perceptron before training.

    The last layer is drawn too, with variance 1/fan-in: at zero every row would have the same
    embedding, from which no contrastive loss has a way out.

    Args:
        widths: of inputs, hidden layers, embedding.
    """
    draw = np.random.default_rng(seed).standard_normal
    return {"layers": dense_init(widths, draw, last_gain=1.0)}


def outputs(model: Any, rows: Any, module: Any = jnp) -> Any:
    """Embeddings [B, d] before they are brought to length 1."""
    return dense_apply(model["layers"], rows, module)


def embed_in_chunks(
    embed: Callable[[Any, Array], Array], model: Any, rows: Array, chunk_rows: int | None
) -> Array:
    """`embed(model, rows)`, with the activations of one chunk in memory at a time.

    The gradient is exact: the embeddings are kept, the loss is taken of them all, and going back
    each chunk is embedded anew with its part of the loss's gradient (the gradient cache).

    Args:
        embed: gives embeddings [B, d] of rows [B, ...], each by itself.
        rows: [B, ...].
        chunk_rows: rows of a chunk; None embeds all at once.

    Example:
        >>> rows, model = jnp.arange(6.0).reshape(3, 2), jnp.ones((2, 1))
        >>> print(embed_in_chunks(lambda w, x: x @ w, model, rows, 2).ravel())
        [1. 5. 9.]

    Source: Gao, Zhang, Han and Callan 2021.
    """
    num = len(rows)
    if chunk_rows is None or chunk_rows >= num:
        return embed(model, rows)
    count = -(-num // chunk_rows)
    short = count * chunk_rows - num
    if short:  # rows of zeros, whose embeddings are cut off below
        rows = jnp.concatenate([rows, jnp.zeros((short, *rows.shape[1:]), rows.dtype)])
    chunk = jax.checkpoint(embed)
    parts = rows.reshape(count, chunk_rows, *rows.shape[1:])
    found = lax.map(lambda part: chunk(model, part), parts)
    return found.reshape(count * chunk_rows, *found.shape[2:])[:num]


@dataclass(frozen=True, kw_only=True)
class UnitLoss:
    """The loss of every logical batch: `loss(model, units, key) -> [n]`.

    A logical batch is one independent unit, so that its noise, unlike a row's, is defined.

    Attributes:
        name: of the loss.
        num_classes, rows_per_class: P and K; rows p K to (p + 1) K of a unit belong together.
        temperature: of the cosines, for "supervised" and "nt_xent".
        margin: distance, for "pairs" and "triplet".
        chunk_rows: rows embedded at a time, and compared with the others; None takes all.
        view: `view(key, rows) -> rows`; a unit then holds P rows, and K views are made of each.
    """

    name: LossName
    num_classes: int
    rows_per_class: int
    temperature: float
    margin: float
    chunk_rows: int | None = None
    view: Callable[[Array, Array], Array] | None = None

    def __call__(self, model: Any, units: Array, key: Array) -> Array:
        """Losses [n] of units [n, rows, ...]."""

        def of_one(given: tuple[Array, Array]) -> Array:
            rows, number = given
            return self.of_rows(model, rows, jax.random.fold_in(key, number))

        if len(units) == 1:
            return of_one((units[0], jnp.uint32(0)))[None]
        return lax.map(of_one, (units, jnp.arange(len(units), dtype=jnp.uint32)))

    @property
    def labels(self) -> Array:
        """Labels [P K] of a unit's embeddings."""
        return jnp.repeat(jnp.arange(self.num_classes), self.rows_per_class)

    def embed(self, model: Any, rows: Array, key: Array) -> Array:
        """Embeddings [P K, d] of one unit's rows."""
        if self.view is not None:
            rows = self.view(key, jnp.repeat(rows, self.rows_per_class, axis=0))
        return losses.unit(embed_in_chunks(outputs, model, rows, self.chunk_rows))

    def recall(self, model: Any, rows: Array, key: Array) -> Array:
        """Share of one unit's embeddings whose nearest other one has their label."""
        z, labels = self.embed(model, rows, key), self.labels

        def hits(place: Array) -> Array:
            others = jnp.arange(len(z)) != place
            return labels[jnp.argmax(jnp.where(others, z @ z[place], losses.FAR))] == labels[place]

        places = jnp.arange(len(z))
        return lax.map(hits, places, batch_size=self.chunk_rows or len(z)).mean()

    def of_rows(self, model: Any, rows: Array, key: Array) -> Array:
        """The loss of one unit's rows."""
        z, labels, block = self.embed(model, rows, key), self.labels, self.chunk_rows
        if self.name in ("supervised", "nt_xent"):
            of = {"supervised": losses.supervised_contrastive, "nt_xent": losses.nt_xent}[self.name]
            return of(z, labels, temperature=self.temperature, block_rows=block)
        if self.name == "pairs":
            return losses.pairs(z, labels, margin=self.margin, block_rows=block)
        margin = None if self.name == "triplet_soft" else self.margin
        return losses.triplet(z, labels, margin=margin, block_rows=block)


def embed(model: Any, rows: np.ndarray) -> np.ndarray:
    """Embeddings [n, d] of length 1, float32, by NumPy: nothing is compiled."""
    found = np.empty((len(rows), model["layers"][-1]["bias"].size), np.float32)
    for start in range(0, len(rows), PIECE_ROWS):
        z = outputs(model, rows[start : start + PIECE_ROWS], np)
        lengths = np.sqrt(np.sum(z**2, axis=1, keepdims=True) + losses.TINY)
        found[start : start + PIECE_ROWS] = z / lengths
    return found
