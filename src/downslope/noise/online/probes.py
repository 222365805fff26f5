"""What a measured step sees of its own gradient: a few sums, made inside the compiled loop.

Two gradients of independent examples, g1 of b1 and g2 of b2, at the same parameters tell
signal from noise: `<g1, g2>` is an unbiased estimate of |G|^2 and
`|g1 - g2|^2 / (1/b1 + 1/b2)` one of tr(Sigma) (methods of McCandlish et al. 2018, A.1, for
two parts). What the update did with them gives the temperature and the stability signals.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Probe(NamedTuple):
    """One float for each thing that was seen, NaN where there was nothing to see.

    The first four belong to a window, the others to the update that it completed.

    Attributes:
        rows_first, rows_second: examples behind the two gradients, b1 and b2.
        dot: <g1, g2>, (loss/param)^2.
        square_distance: |g1 - g2|^2, (loss/param)^2.
        square_gradient: |g|^2 of the update's gradient with penalties, before clipping.
        clipped: 1 where that was shortened, 0 where not.
        learning_rate: the step size used, with the schedule's factor.
        position_dot_gradient: <theta - anchor, g>, g as the optimizer got it.
        position_dot_update: <theta - anchor, u> for the update theta <- theta - u.
        square_update: |u|^2.
        update_dot_before: <u, u'> with u' the update before; NaN where that was not seen.
        square_before: |u'|^2.
    """

    rows_first: Any
    rows_second: Any
    dot: Any
    square_distance: Any
    square_gradient: Any
    clipped: Any
    learning_rate: Any
    position_dot_gradient: Any
    position_dot_update: Any
    square_update: Any
    update_dot_before: Any
    square_before: Any


def compare(
    first: Any, second: Any, rows_first: Array, rows_second: Array, shift: Any = None
) -> dict[str, Array]:
    """The window's part of a probe, from two sums of per-example gradients.

    Args:
        first, second: trees of gradient sums, not means.
        rows_first, rows_second: examples in each; with none in one of them the products are NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> found = compare({"w": jnp.array([2.0, 0.0])}, {"w": jnp.array([2.0, 4.0])},
        ...                 jnp.float32(2), jnp.float32(2))
        >>> float(found["dot"]), float(found["square_distance"])
        (1.0, 4.0)
    """
    whole = jnp.where((rows_first > 0) & (rows_second > 0), 1.0, jnp.nan)
    scale = [whole / jnp.maximum(rows, 1) for rows in (rows_first, rows_second)]
    # The distance is summed from differences: two squares subtracted would lose all digits.
    distance = jax.tree.map(lambda a, b: _wide(a) * scale[0] - _wide(b) * scale[1], first, second)
    pairs = [(first, second), (distance, distance)]
    if shift is not None:
        pairs += [(shift, first), (shift, second), (shift, shift)]
    between, square, *shifted = dots(*pairs)
    inner = between * scale[0] * scale[1]
    if shifted:  # <g1 + p, g2 + p>
        inner += shifted[0] * scale[0] + shifted[1] * scale[1] + shifted[2]
    return {
        "rows_first": rows_first,
        "rows_second": rows_second,
        "dot": inner,
        "square_distance": square,
    }


def compare_updates(
    params: Any, after: Any, *, before: Any, anchor: Any, gradient: Any
) -> dict[str, Array]:
    """The update's part of a probe that is made of inner products.

    Args:
        params, after: parameters before the update and after it.
        before: those one update earlier, or `params` again where that was not seen.
        anchor: those of an earlier step.
        gradient: what the optimizer got.
    """
    update = jax.tree.map(jnp.subtract, params, after)
    earlier = jax.tree.map(jnp.subtract, before, params)
    position = jax.tree.map(jnp.subtract, params, anchor)
    found = dots(
        (position, gradient),
        (position, update),
        (update, update),
        (update, earlier),
        (earlier, earlier),
    )
    names = Probe._fields[-len(found) :]
    seen = dict(zip(names, found, strict=True))
    unseen = seen["square_before"] == 0
    seen["update_dot_before"] = jnp.where(unseen, jnp.nan, seen["update_dot_before"])
    return seen


def dot(a: Any, b: Any) -> Array:
    """Inner product of two trees, summed in float32 or wider."""
    return dots((a, b))[0]


SMALL_LEAF = 16_384  # below it a product's dispatch costs more than its arithmetic (measured)


def dots(*pairs: tuple[Any, Any]) -> list[Array]:
    """Inner products of pairs of trees of one structure, summed in float32 or wider.

    The products of small leaves are gathered, to be summed by a single matrix product.
    """
    leaves = [[jax.tree.leaves(tree) for tree in pair] for pair in pairs]
    products = [list(zip(*pair, strict=True)) for pair in leaves]
    small, sums = [], [[] for _ in pairs]
    for parts in zip(*products, strict=True):
        if parts[0][0].size <= SMALL_LEAF:
            small.append(jnp.stack([(_wide(a) * _wide(b)).ravel() for a, b in parts]))
        else:
            for total, (a, b) in zip(sums, parts, strict=True):
                total.append(jnp.vdot(_wide(a), _wide(b)))
    if small:
        joined = jnp.concatenate(small, axis=1)
        totals = joined @ jnp.ones(joined.shape[1], joined.dtype)
        for total, value in zip(sums, totals, strict=True):
            total.append(value)
    return [functools.reduce(operator.add, total) for total in sums]


PROJECTED = 64  # numbers kept of the parameters: lengths right within sqrt(2/64) = 18 %


def project(tree: Any) -> Array:
    """A random projection [PROJECTED] of a tree, linear and always the same.

    Entry number i goes to bucket i mod PROJECTED with a sign hashed from i (Charikar, Chen and
    Farach-Colton 2002): inner products of projections are unbiased for those of the trees.
    """
    total, offset = [], 0
    for leaf in jax.tree.leaves(tree):
        flat = _wide(leaf).ravel()
        signed = flat * _signs(flat.size, offset).astype(flat.dtype)
        padded = jnp.pad(signed, (0, -flat.size % PROJECTED))
        total.append(padded.reshape(-1, PROJECTED).sum(axis=0))
        offset += flat.size
    return functools.reduce(operator.add, total)


def _signs(count: int, offset: int) -> Array:
    """1 and -1 by a hash of the numbers from `offset` on (the finisher of MurmurHash3)."""
    bits = jnp.arange(count, dtype=jnp.uint32) + jnp.uint32(offset % 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return 1 - 2 * (bits & 1).astype(jnp.int32)


def _wide(a: Array) -> Array:
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


GROUP = 4  # neighbours measured together: the first costs four times the next, whose code and
# memory are in the caches by then (measured)
PER_OCTAVE = 8  # assumed: three octaves tell a noise scale; more would cost a short run dear


def is_measured(step: Array, every: int) -> Array:
    """Whether an update is measured: the first `GROUP` of every `GROUP * every` updates.

    Neighbours, so that one update can be compared with the one before. While the number of
    updates is small they are measured more densely, `PER_OCTAVE` each time it doubles, for a
    short run to have something to show.
    """
    return step % _period(step, every) < GROUP


def most_measured(num_steps: int, every: int | None) -> int:
    """Upper bound of the measured ones among so many consecutive updates."""
    if every is None:
        return 0
    octaves = (GROUP * every).bit_length()
    return num_steps // every + GROUP + PER_OCTAVE * (octaves + 2)


def _period(step: Array, every: int) -> Array:
    octave = 31 - jax.lax.clz(jnp.maximum(step, 1))
    dense = jnp.left_shift(1, octave) // (PER_OCTAVE // GROUP)
    return jnp.clip(dense, GROUP * min(4, every), min(GROUP * every, 2**30))  # an int32


def moves_anchor(step: Array, every: int) -> Array:
    """Whether the parameters of a measured update become the anchor: once in each octave.

    At stationarity E<theta - c, g> is the same for every fixed c, but far from theta it
    drowns in the variance of <c, g>. An anchor that is moved as the number of steps doubles
    stays close, and is soon older than any memory of the process.
    """
    period = _period(step, every)
    now, before = step + 1, jnp.maximum(step + 1 - period, 0)
    new_octave = jax.lax.clz(now) < jax.lax.clz(before)
    return new_octave & (step % period == GROUP - 1)
