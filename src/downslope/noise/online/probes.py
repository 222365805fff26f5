"""Sums over the gradients and the update of a measured step, made inside the compiled loop.

`docs/noise.md` says how two gradients of independent examples separate signal from noise. Products
of the update with earlier ones give the temperature and stability signals.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Probe(NamedTuple):
    """Sums of one measured window, one float each, NaN where not available.

    The first six belong to the window, the others to the update that it completed.

    Attributes:
        rows_first, rows_second: examples behind the two gradients, b1 and b2.
        dot: <g1, g2>, (loss/param)^2.
        square_distance: |g1 - g2|^2, (loss/param)^2.
        preconditioned_dot: <g1, P g2>, P the metric of the optimizer before the update; NaN where
            it has none.
        preconditioned_square_distance: <g1 - g2, P (g1 - g2)>.
        square_gradient: |g|^2 of the update's gradient with penalties, before clipping.
        clipped: 1 if that was shortened, else 0.
        learning_rate: step size used, with the schedule's factor.
        position_dot_gradient: <theta - anchor, g>, g as the optimizer received it.
        position_dot_update: <theta - anchor, u> for the update theta <- theta - u.
        square_update: |u|^2.
        update_dot_before: <u, u'> with u' the previous update; NaN where that was not kept.
        square_before: |u'|^2.
    """

    rows_first: Any
    rows_second: Any
    dot: Any
    square_distance: Any
    preconditioned_dot: Any
    preconditioned_square_distance: Any
    square_gradient: Any
    clipped: Any
    learning_rate: Any
    position_dot_gradient: Any
    position_dot_update: Any
    square_update: Any
    update_dot_before: Any
    square_before: Any


def compare(
    first: Any,
    second: Any,
    rows_first: Array,
    rows_second: Array,
    shift: Any = None,
    weights: Any = None,
) -> dict[str, Array]:
    """The window's part of a probe, from two sums of per-example gradients.

    Args:
        first, second: trees of gradient sums, not means.
        rows_first, rows_second: examples in each; the products are NaN if either has none.
        shift: tree of the penalties' gradient, added to both means.
        weights: tree of the diagonal of P, a metric that does not depend on the two gradients;
            products in it are NaN if all weights are 0.

    Source: McCandlish et al. 2018, appendix A.1, for two parts.
    """
    whole = jnp.where((rows_first > 0) & (rows_second > 0), 1.0, jnp.nan)
    scale = [whole / jnp.maximum(rows, 1) for rows in (rows_first, rows_second)]
    # The distance is summed from differences: two squares subtracted would lose all digits.
    distance = jax.tree.map(lambda a, b: _wide(a) * scale[0] - _wide(b) * scale[1], first, second)
    pairs = [(first, second), (distance, distance)]
    if shift is not None:
        pairs += [(shift, first), (shift, second), (shift, shift)]

    def products(pairs: list[tuple[Any, Any]]) -> tuple[Array, Array]:
        between, square, *shifted = dots(*pairs)
        inner = between * scale[0] * scale[1]
        if shifted:  # <g1 + p, g2 + p>
            inner += shifted[0] * scale[0] + shifted[1] * scale[1] + shifted[2]
        return inner, square

    inner, square = products(pairs)
    weighted = [jnp.array(jnp.nan)] * 2
    if weights is not None:
        known = jnp.any(jnp.stack([jnp.any(w > 0) for w in jax.tree.leaves(weights)]))
        times = functools.partial(jax.tree.map, lambda w, a: _wide(w) * _wide(a), weights)
        found = products([(times(a), b) for a, b in pairs])
        weighted = [jnp.where(known, value, jnp.nan) for value in found]
    return {
        "rows_first": rows_first,
        "rows_second": rows_second,
        "dot": inner,
        "square_distance": square,
        "preconditioned_dot": weighted[0],
        "preconditioned_square_distance": weighted[1],
    }


def compare_updates(
    params: Any, after: Any, *, before: Any, anchor: Any, gradient: Any
) -> dict[str, Array]:
    """Inner products of a probe that concern the update.

    Args:
        params, after: parameters before the update and after it.
        before: those one update earlier, or `params` again where they were not kept.
        anchor: those of an earlier step.
        gradient: gradient that the optimizer received.
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


SMALL_LEAF = 16_384  # entries; below, dispatch of a product costs more than its sum (measured)


def dots(*pairs: tuple[Any, Any]) -> list[Array]:
    """Inner products of pairs of trees of one structure, summed in float32 or wider.

    Products of small leaves are joined and summed by a single matrix product.
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


PROJECTED = 64  # numbers of a projection: keeps lengths within sqrt(2/64) = 18 %


def project(tree: Any) -> Array:
    """Random projection [PROJECTED] of a tree, linear and always the same.

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
    """Signs 1 and -1 from a hash of the numbers from `offset` on (finalizer of MurmurHash3)."""
    bits = jnp.arange(count, dtype=jnp.uint32) + jnp.uint32(offset % 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return 1 - 2 * (bits & 1).astype(jnp.int32)


def _wide(a: Array) -> Array:
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


GROUP = 4  # consecutive updates measured together: the first costs four times the next ones,
# whose code and data are cached by then (measured)
PER_OCTAVE = 8  # assumed: three octaves give a noise scale; more would be costly for a short run


def is_measured(step: Array, every: int) -> Array:
    """True for an update that is measured: the first `GROUP` of every `GROUP * every`.

    They are consecutive, so that an update can be compared with the previous one. Early updates
    are measured more densely, `PER_OCTAVE` each time their number doubles, so that short runs
    have estimates too.
    """
    return step % _period(step, every) < GROUP


def most_measured(num_steps: int, every: int | None) -> int:
    """Upper bound of the measured updates among `num_steps` consecutive ones."""
    if every is None:
        return 0
    octaves = (GROUP * every).bit_length()
    return num_steps // every + GROUP + PER_OCTAVE * (octaves + 2)


def _period(step: Array, every: int) -> Array:
    octave = 31 - jax.lax.clz(jnp.maximum(step, 1))
    dense = jnp.left_shift(1, octave) // (PER_OCTAVE // GROUP)
    return jnp.clip(dense, GROUP * min(4, every), min(GROUP * every, 2**30))  # an int32


def moves_anchor(step: Array, every: int) -> Array:
    """True where a measured update's parameters become the anchor: once in each octave.

    At stationarity E<theta - c, g> is the same for every fixed c, but its variance grows with
    the distance of c from theta. An anchor that moves each time the number of steps doubles
    stays close, and is soon older than the memory of the process.
    """
    period = _period(step, every)
    now, before = step + 1, jnp.maximum(step + 1 - period, 0)
    new_octave = jax.lax.clz(now) < jax.lax.clz(before)
    return new_octave & (step % period == GROUP - 1)
