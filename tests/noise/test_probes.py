"""The sums of a measured step against NumPy, and which steps are measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from downslope.noise.online.probes import (
    GROUP,
    PER_OCTAVE,
    SMALL_LEAF,
    Probe,
    compare,
    compare_updates,
    dot,
    dots,
    is_measured,
    most_measured,
    moves_anchor,
)

SHAPES = {"a": (), "b": (3, 5), "c": (SMALL_LEAF,), "d": (SMALL_LEAF + 1,), "e": (2, SMALL_LEAF)}


def tree(seed, dtype="float32", shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), dtype) for k, s in shapes.items()}


def flat(a):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(a)])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("names", ["abcde", "ab", "de", "a"])
def test_inner_products_of_trees(dtype, names):
    """Catches leaves left out at either side of the limit, sums in 16 bits, pairs mixed up."""
    with jax.enable_x64(dtype == "float64"):
        a, b, c = (tree(i, dtype, {k: SHAPES[k] for k in names}) for i in range(3))
        found = dots((a, b), (b, c), (a, a))
        assert [f.dtype for f in found] == [jnp.promote_types(dtype, "float32")] * 3
        size = np.linalg.norm(flat(b)) * np.linalg.norm(flat(c))
        assert float(dot(b, c)) == pytest.approx(float(found[1]), abs=2e-6 * size)
        for value, (x, y) in zip(found, ((a, b), (b, c), (a, a)), strict=True):
            size = np.linalg.norm(flat(x)) * np.linalg.norm(flat(y))
            rtol = 1e-14 if dtype == "float64" else 2e-6
            assert_allclose(float(value), flat(x) @ flat(y), atol=rtol * size, rtol=0)


def test_types_may_differ_from_leaf_to_leaf():
    """Catches a sum narrowed to the first leaf's type, and None where a leaf is not trained."""
    with jax.enable_x64(True):
        a = {"x": jnp.full(3, 1e6, "float64"), "y": None, "z": jnp.full(70_000, 0.1, "float16")}
        tenth = float(np.float16(0.1))
        assert_allclose(float(dot(a, a)), 3e12 + 70_000 * tenth**2, rtol=1e-15)
    half = {"w": jnp.full(70_000, 2.0, "float16")}
    assert float(dot(half, half)) == 280_000.0  # over float16's largest


@pytest.mark.parametrize(("rows", "other"), [(4, 4), (3, 4), (1, 7)])
def test_two_parts_by_hand(rows, other):
    """Catches sums for means, a wrong divisor, the sizes of the parts swapped."""
    a, b = tree(0), tree(1)
    found = compare(a, b, jnp.float32(rows), jnp.float32(other))
    g, h = flat(a) / rows, flat(b) / other
    assert (found["rows_first"], found["rows_second"]) == (rows, other)
    assert_allclose(found["square_distance"], ((g - h) ** 2).sum(), rtol=1e-5)
    assert_allclose(found["dot"], g @ h, atol=2e-6 * np.linalg.norm(g) * np.linalg.norm(h))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shifts", [False, True])
def test_two_parts_in_a_metric_by_hand(shifts, dtype):
    """Catches P applied to one product alone, twice to a pair, not to the penalties, in 16 bits, or
    to the Euclidean products.
    """
    a, b, shift = tree(0), tree(1), tree(2) if shifts else None
    weights = jax.tree.map(lambda w: jnp.abs(w).astype(dtype), tree(3))
    sizes = jnp.float32(3), jnp.float32(4)
    found = compare(a, b, *sizes, shift, weights)
    g, h, p = flat(a) / 3, flat(b) / 4, flat(weights)
    added = flat(shift) if shifts else 0.0
    assert_allclose(found["preconditioned_square_distance"], ((g - h) ** 2 * p).sum(), rtol=1e-5)
    assert_allclose(found["preconditioned_dot"], ((g + added) * (h + added) * p).sum(), rtol=2e-3)
    without = compare(a, b, *sizes, shift)
    assert np.isnan(without["preconditioned_dot"])
    assert np.isnan(without["preconditioned_square_distance"])
    for name in ("dot", "square_distance"):
        assert found[name] == without[name]


def test_weights_that_are_all_0_are_no_metric():
    """Catches a distance of 0 before the first update, which would say that there is no noise."""
    none = jax.tree.map(jnp.zeros_like, tree(0))
    one = none | {"a": jnp.ones(())}
    for weights, is_known in ((none, False), (one, True)):
        found = compare(tree(0), tree(1), jnp.float32(3), jnp.float32(4), None, weights)
        assert np.isfinite(found["preconditioned_dot"]) == is_known
        assert np.isfinite(found["preconditioned_square_distance"]) == is_known
        assert np.isfinite(found["dot"])


@pytest.mark.parametrize("rows", [(0, 4), (4, 0), (0, 0)])
def test_an_empty_part_compares_with_nothing(rows):
    """Catches a gradient of 0 rows taken for a gradient of 0."""
    found = compare(tree(0), tree(1), *map(jnp.float32, rows))
    assert np.isnan(found["dot"]) and np.isnan(found["square_distance"])
    assert (found["rows_first"], found["rows_second"]) == rows


def test_a_small_distance_between_large_gradients_keeps_its_digits():
    """Catches |g1|^2 + |g2|^2 - 2 <g1, g2>, which is all rounding here."""
    g = np.float32(1000) + np.arange(100, dtype="float32")
    h = g + np.float32(2**-10)
    found = compare({"w": 2 * g}, {"w": 2 * h}, jnp.float32(2), jnp.float32(2))
    assert float(found["square_distance"]) == 100 * 2.0**-20


def test_16_bit_gradients_overflow_neither_in_the_mean_nor_in_the_square():
    """Catches arithmetic in float16, whose largest number is 65504."""
    a = {"w": jnp.full(10, 60_000.0, "float16")}
    found = compare(a, a, jnp.float32(100), jnp.float32(100))
    size = float(np.float16(60_000))
    assert_allclose(float(found["dot"]), 10 * (size / 100) ** 2, rtol=1e-6)
    assert float(found["square_distance"]) == 0


def test_products_of_updates_by_hand():
    """Catches a sign, an update taken from the wrong side, fields in another order."""
    now, after, before, anchor, gradient = (tree(i) for i in range(5))
    found = compare_updates(now, after, before=before, anchor=anchor, gradient=gradient)
    u, v, x = flat(now) - flat(after), flat(before) - flat(now), flat(now) - flat(anchor)
    expected = {
        "position_dot_gradient": (x, flat(gradient)), "position_dot_update": (x, u),
        "square_update": (u, u), "update_dot_before": (u, v), "square_before": (v, v),
    }  # fmt: skip
    assert list(found) == list(expected) == list(Probe._fields[-5:])
    for name, (p, q) in expected.items():
        size = np.linalg.norm(p) * np.linalg.norm(q)
        assert_allclose(float(found[name]), p @ q, atol=2e-6 * size, rtol=0, err_msg=name)


def test_an_update_without_one_before_has_no_product():
    """Catches a 0 that would count as neighbours that neither agree nor disagree."""
    found = compare_updates(tree(0), tree(1), before=tree(0), anchor=tree(3), gradient=tree(4))
    assert np.isnan(found["update_dot_before"]) and found["square_before"] == 0
    assert found["square_update"] > 0


LONG = 1 << 17


def measured(every, num=LONG, begin=0):
    return np.asarray(is_measured(jnp.arange(begin, begin + num, dtype=jnp.int32), every))


@pytest.mark.parametrize("every", [1, 2, 3, 4, 7, 128, 1000])
def test_one_update_in_so_many_is_measured(every):
    """Catches another share, single updates instead of neighbours, a start that is not dense."""
    on = measured(every)
    assert on[:GROUP].all()
    late = on[2 * GROUP * max(every, 2) :]
    num = len(late) // (GROUP * every) * GROUP * every
    share = late[-num:].mean() if num else 1 / every
    assert share == pytest.approx(1 / every, rel=0.02)
    begins = np.flatnonzero(np.diff(np.r_[False, on].astype(int)) == 1)
    ends = np.flatnonzero(np.diff(np.r_[on, False].astype(int)) == -1)
    if every > 1:
        assert set(ends[:-1] - begins[:-1] + 1) == {GROUP}
    for k in range(5, 16):  # PER_OCTAVE, or more where one in `every` is more
        octave = on[1 << k : 2 << k].sum()
        assert octave >= PER_OCTAVE
        assert octave <= max(PER_OCTAVE, (1 << k) / every + GROUP)


def test_one_is_every_one():
    """Catches a rule that leaves gaps where all are asked for."""
    assert measured(1).all()


@pytest.mark.parametrize("every", [1, 2, 3, 128, 2000])
def test_no_stretch_has_more_than_the_bound(every):
    """Catches a buffer of probes that is too short: XLA would drop them without a word."""
    sums = np.r_[0, np.cumsum(measured(every))]
    for num in (1, 2, 7, 8, 9, 16, 17, 64, 100, 1000, 1024, 5000, 30_000):
        most = (sums[num:] - sums[:-num]).max()
        assert most <= most_measured(num, every)
    assert most_measured(10**6, 128) < 1.05 * 10**6 / 128  # and no memory is wasted
    assert most_measured(1000, None) == 0


@pytest.mark.slow
def test_many_steps_and_rare_measuring_do_not_overflow():
    """Catches int32 running over: late in a run of 2^30 steps, or at a huge `measure_every`."""
    assert measured(128, 4096, 2**30).sum() == 32
    for every in (2**27, 2**28, 10**10):
        assert measured(every, 64)[:GROUP].all()
        assert GROUP <= measured(every, 4096).sum() <= most_measured(4096, every)
        assert not np.asarray(moves_anchor(jnp.arange(GROUP - 1, dtype=jnp.int32), every)).any()


@pytest.mark.parametrize("every", [1, 2, 4, 128])
def test_the_anchor_moves_once_in_each_octave_at_the_end_of_a_group(every):
    """Catches an anchor that never moves, moves with every group, or where none is measured."""
    moves = np.flatnonzero(moves_anchor(jnp.arange(LONG, dtype=jnp.int32), every))
    on = measured(every, LONG + 1)
    assert on[moves].all()
    octaves = np.floor(np.log2(moves + 1)).astype(int)
    first = 3 if every < 4 else 4  # none in the octave that a longer period steps over
    assert octaves.tolist() == [2, *range(first, 17 + (every == 1))]
    if every == 1:
        assert (moves + 1 == 1 << octaves).all()
    else:
        assert not on[moves + 1].any()  # the last of its group, the first group of its octave
        assert (moves[1:] + 1 == (1 << octaves[1:]) + GROUP).all()
