"""Losses of embeddings by relations: rows of one label belong together, others do not.

Each is a scalar over a batch whose rows interact: it has no gradient per row, and its value
depends on how many rows the batch has. Rows without a partner of their own label, or without one
of another, do not count; where none counts the loss is 0. Nothing is NaN, nor is any gradient,
where embeddings coincide or are zero.

With `block_rows`, a block of rows is compared with all others at a time and compared anew for the
gradient: memory then grows with the batch and not with its square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

FAR = -1e30  # in place of -inf, whose difference with itself is NaN
TINY = 1e-12  # of a squared length: the slope at the zero vector stays below 1e6


def unit(vectors: Array) -> Array:
    """The vectors at length 1; a zero vector stays zero.

    Args:
        vectors: [..., d].

    Example:
        >>> print(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
        [[0.6 0.8]
         [0.  0. ]]
    """
    return vectors * lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + TINY)


def supervised_contrastive(
    embeddings: Array, labels: Any, *, temperature: float = 0.1, block_rows: int | None = None
) -> Array:
    """Cross-entropy of finding a row's partners among all other rows, by cosine.

    L = mean_i [ ln sum_{j != i} exp(s_ij / t) - mean_{p in P(i)} s_ip / t ]. With all embeddings
    equal it is ln(B - 1).

    Args:
        embeddings: [B, d].
        labels: integers [B].
        temperature: t, above 0.
        block_rows: rows compared at a time; None takes all at once.

    Example:
        >>> round(float(supervised_contrastive(jnp.ones((8, 3)), jnp.arange(8) // 4)), 4)
        1.9459

    Source: Khosla et al. 2020, equation 2 (L_out).
    """
    z, labels = unit(jnp.asarray(embeddings)), jnp.asarray(labels)

    def of(i: Array) -> tuple[Array, Array]:
        similar, same, others = _similar(z, labels, i, temperature)
        total = jax.nn.logsumexp(jnp.where(others, similar, FAR), axis=1)
        count = same.sum(1)
        mean = jnp.where(same, similar, 0.0).sum(1) / jnp.maximum(count, 1)
        return jnp.where(count > 0, total - mean, 0.0), (count > 0).astype(z.dtype)

    return _mean(of, len(z), block_rows)


def nt_xent(
    embeddings: Array, labels: Any, *, temperature: float = 0.1, block_rows: int | None = None
) -> Array:
    """Cross-entropy of telling each partner from the rows of other labels (NT-Xent, InfoNCE).

    L = mean over pairs (i, p) of ln(1 + sum_n exp((s_in - s_ip) / t)), n over rows of other
    labels. With B pairs of two views and all embeddings equal it is ln(2B - 1). With two rows a
    label it equals `supervised_contrastive`, and `optax.losses.ntxent` always.

    Args:
        embeddings: [B, d].
        labels: integers [B].
        temperature: t, above 0.
        block_rows: rows compared at a time; None takes all at once.

    Example:
        >>> round(float(nt_xent(jnp.ones((16, 3)), jnp.arange(16) // 2)), 4)
        2.7081

    Source: Sohn 2016; van den Oord, Li and Vinyals 2018; Chen et al. 2020, equation 1.
    """
    z, labels = unit(jnp.asarray(embeddings)), jnp.asarray(labels)

    def of(i: Array) -> tuple[Array, Array]:
        similar, same, others = _similar(z, labels, i, temperature)
        against = jax.nn.logsumexp(jnp.where(others & ~same, similar, FAR), axis=1)
        losses = jax.nn.softplus(against[:, None] - similar)
        return jnp.where(same, losses, 0.0).sum(1), same.sum(1).astype(z.dtype)

    return _mean(of, len(z), block_rows)


def pairs(
    embeddings: Array, labels: Any, *, margin: float = 1.0, block_rows: int | None = None
) -> Array:
    """Pairs of one label are drawn together, others pushed apart as far as the margin.

    The mean of d^2 / 2 over pairs of one label plus the mean of max(0, margin - d)^2 / 2 over
    the others. With all embeddings equal it is margin^2 / 2.

    Args:
        embeddings: [B, d].
        labels: integers [B].
        margin: distance, above 0.
        block_rows: rows compared at a time; None takes all at once.

    Example:
        >>> float(pairs(jnp.array([[0.0], [2.0], [0.5]]), jnp.array([0, 0, 1])))
        2.0625

    Source: Hadsell, Chopra and LeCun 2006, equation 4; balanced between the two kinds of pairs.
    """
    z, labels = _centred(embeddings), jnp.asarray(labels)

    def of(i: Array) -> tuple[Array, ...]:
        squares, same, others = _squares(z, labels, i)
        short = jnp.maximum(margin - _root(squares), 0.0) ** 2
        apart = others & ~same
        return (
            jnp.where(same, squares, 0.0).sum(1) / 2,
            same.sum(1).astype(z.dtype),
            jnp.where(apart, short, 0.0).sum(1) / 2,
            apart.sum(1).astype(z.dtype),
        )

    pull, num_same, push, num_apart = _sums(of, len(z), block_rows)
    return pull / jnp.maximum(num_same, 1) + push / jnp.maximum(num_apart, 1)


def triplet(
    embeddings: Array, labels: Any, *, margin: float | None = 0.2, block_rows: int | None = None
) -> Array:
    """The farthest partner against the nearest stranger of each row (batch-hard).

    Mean of max(0, margin + d_p - d_n), or of ln(1 + exp(d_p - d_n)) without a margin. With all
    embeddings equal it is the margin, or ln 2.

    Args:
        embeddings: [B, d].
        labels: integers [B].
        margin: distance, 0 or more; None for the soft margin.
        block_rows: rows compared at a time; None takes all at once.

    Example:
        >>> z, labels = jnp.array([[0.0], [0.3], [0.5], [0.9]]), jnp.array([0, 0, 1, 1])
        >>> round(float(triplet(z, labels)), 4)  # rows: 0, 0.3, 0.4 and 0
        0.175

    Source: Hermans, Beyer and Leibe 2017, equation 5.
    """
    z, labels = _centred(embeddings), jnp.asarray(labels)

    def of(i: Array) -> tuple[Array, Array]:
        squares, same, others = _squares(z, labels, i)
        apart = others & ~same
        # the roots of two squares a row, not of all: the farthest square is the farthest
        far = _root(jnp.where(same, squares, 0.0).max(1))
        near = _root(jnp.where(apart, squares, -FAR).min(1))
        gap = far - near
        losses = jax.nn.softplus(gap) if margin is None else jnp.maximum(margin + gap, 0.0)
        counts = same.any(1) & apart.any(1)
        return jnp.where(counts, losses, 0.0), counts.astype(z.dtype)

    return _mean(of, len(z), block_rows)


def _similar(z: Array, labels: Array, i: Array, temperature: float) -> tuple[Array, Array, Array]:
    """Cosines of rows `i` over the temperature, which are partners, and which other rows."""
    others = i[:, None] != jnp.arange(len(z))
    same = (labels[i, None] == labels) & others
    return z[i] @ z.T / temperature, same, others


def _squares(z: Array, labels: Array, i: Array) -> tuple[Array, Array, Array]:
    """Squared distances of rows `i` to all, which are partners, and which other rows."""
    lengths = jnp.sum(z**2, axis=1)
    squares = lengths[i, None] + lengths - 2 * z[i] @ z.T
    others = i[:, None] != jnp.arange(len(z))
    return jnp.maximum(squares, 0.0), (labels[i, None] == labels) & others, others


def _centred(embeddings: Array) -> Array:
    """The embeddings about their mean: squares of distances then round to less."""
    z = jnp.asarray(embeddings)
    return z - z.mean(0)


def _root(squares: Array) -> Array:
    """The square root, with slope 0 at 0."""
    positive = squares > TINY
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def _mean(of: Callable[[Array], tuple[Array, Array]], num_rows: int, block: int | None) -> Array:
    total, count = _sums(of, num_rows, block)
    return total / jnp.maximum(count, 1)


def _sums(of: Callable[[Array], Any], num_rows: int, block_rows: int | None) -> Any:
    """Sums over rows of what `of(rows)` gives for each, a block of rows at a time."""
    if block_rows is None or block_rows >= num_rows:
        return tuple(values.sum() for values in of(jnp.arange(num_rows)))
    count = -(-num_rows // block_rows)
    places = jnp.arange(count * block_rows).reshape(count, block_rows)

    @jax.checkpoint
    def block(place: Array) -> Any:
        found = of(jnp.minimum(place, num_rows - 1))
        # the last block is filled up with rows that do not count
        return tuple(jnp.where(place < num_rows, values, 0.0).sum() for values in found)

    return tuple(values.sum() for values in lax.map(block, places))
