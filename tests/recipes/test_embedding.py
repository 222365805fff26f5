"""Losses of embeddings: closed forms, gradients at hard places, memory."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from downslope.recipes.embedding import (
    UnitLoss,
    collapse_loss,
    embed_in_chunks,
    nt_xent,
    pairs,
    supervised_contrastive,
    triplet,
    unit,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
LOSSES = {
    "supervised": supervised_contrastive,
    "nt_xent": nt_xent,
    "pairs": pairs,
    "triplet": triplet,
    "triplet_soft": lambda z, y, **more: triplet(z, y, margin=None, **more),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def rows(num=24, dim=5, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, dim)), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [nt_xent, supervised_contrastive])
def test_nt_xent_has_its_closed_forms(loss):
    """Catches a row counted among its own strangers, and a temperature left out of a part."""
    labels = np.repeat(np.arange(8), 2)
    same = jnp.ones((16, 4))
    orthonormal = jnp.repeat(jnp.eye(8), 2, axis=0)
    simplex = jnp.repeat(jnp.eye(8) - 1 / 8, 2, axis=0)
    values = [float(loss(z, labels, temperature=0.5)) for z in (same, orthonormal, simplex)]
    np.testing.assert_allclose(values, [2.7080502, 1.06288, 0.8853446], rtol=2e-6)


@pytest.mark.slow
def test_nt_xent_is_that_of_optax():
    """Catches partners left in each other's denominators, for classes of several rows."""
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 5, 24))
    z = rows()
    expected = optax.losses.ntxent(z, labels, temperature=0.3)
    np.testing.assert_allclose(nt_xent(z, labels, temperature=0.3), expected, rtol=1e-5)


@pytest.mark.slow
def test_supervised_contrastive_takes_all_others():
    """Three rows on a line through 0: by hand, with cosines 1 and -1 at temperature 1."""
    z, labels = jnp.array([[1.0], [2.0], [-1.0], [-3.0]]), jnp.array([0, 0, 1, 0])
    # rows 0, 1: partners at 1 and -1; row 3: both at -1; row 2 has none
    first = np.log(np.e + 2 / np.e) - 0
    last = np.log(np.e + 2 / np.e) + 1
    expected = (2 * first + last) / 3
    np.testing.assert_allclose(
        supervised_contrastive(z, labels, temperature=1.0), expected, rtol=1e-6
    )


def test_pairs_by_hand():
    """Catches distances that are not squared, and pairs of one kind that drown the other."""
    z, labels = jnp.array([[0.0], [3.0], [3.5], [10.0]]), jnp.array([0, 0, 1, 2])
    # one pair at 3; strangers at 3.5, 10, 0.5, 7, 6.5: one of the five is 1.5 short of 2
    np.testing.assert_allclose(pairs(z, labels, margin=2.0), 4.5 + 1.5**2 / 10, rtol=1e-5)


@pytest.mark.slow
def test_triplet_takes_the_hardest():
    """Catches the mean or the nearest partner in place of the farthest."""
    z, labels = jnp.array([[0.0], [1.0], [4.0], [6.0], [8.0]]), jnp.array([0, 0, 0, 1, 1])
    # farthest partner less nearest stranger: 4-6, 3-5, 4-2, 2-2, 2-4
    gaps = np.array([-2, -2, 2, 0, -2.0])
    np.testing.assert_allclose(triplet(z, labels, margin=0.5), np.mean([0, 0, 2.5, 0.5, 0]), 1e-5)
    np.testing.assert_allclose(
        triplet(z, labels, margin=None), np.log1p(np.exp(gaps)).mean(), rtol=1e-5
    )


@pytest.mark.slow
@each_loss
@pytest.mark.parametrize("what", ["equal", "zero", "one label", "all different"])
def test_nothing_is_nan(name, what):
    """Catches the root at 0, a zero vector at length 1, and the mean of nothing."""
    labels = {"one label": np.zeros(8, int), "all different": np.arange(8)}.get(
        what, np.arange(8) // 2
    )
    z = {"equal": jnp.full((8, 3), 0.7), "zero": jnp.zeros((8, 3))}.get(what, rows(8, 3))
    value, gradient = jax.jit(jax.value_and_grad(LOSSES[name]))(z, labels)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if what == "all different" and name != "pairs":
        assert value == 0


@pytest.mark.slow
@each_loss
def test_collapse_has_the_stated_value(name):
    """Catches a stated value that is not the loss's own, for a batch other than pairs."""
    z = jnp.full((12, 3), 0.3)
    expected = collapse_loss(name, num_classes=4, rows_per_class=3, margin=0.2)
    more = {"margin": 0.2} if name in ("pairs", "triplet") else {}
    np.testing.assert_allclose(LOSSES[name](z, np.arange(12) // 3, **more), expected, rtol=1e-4)


@pytest.mark.slow
@each_loss
def test_the_gradient_is_the_slope(name):
    """Against differences in float64."""
    with jax.enable_x64(True):
        labels = np.arange(12) // 3
        z = jnp.asarray(np.random.default_rng(3).normal(size=(12, 4)))
        way = jnp.asarray(np.random.default_rng(4).normal(size=(12, 4)))
        loss = jax.jit(LOSSES[name])
        slope = (loss(z + 1e-5 * way, labels) - loss(z - 1e-5 * way, labels)) / 2e-5
        gradient = (jax.grad(loss)(z, labels) * way).sum()
        np.testing.assert_allclose(gradient, slope, rtol=1e-6)


@pytest.mark.slow
@each_loss
@pytest.mark.parametrize("block", [7, 100])
def test_blocks_of_rows_change_nothing(name, block):
    """Catches rows of a filled-up block that count twice."""
    labels, z = np.arange(24) // 3, rows()
    whole = jax.jit(jax.value_and_grad(LOSSES[name]))(z, labels)
    parts = jax.jit(jax.value_and_grad(lambda z: LOSSES[name](z, labels, block_rows=block)))(z)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(parts[1], whole[1], atol=2e-6)


def model(widths, seed=0):
    draw = np.random.default_rng(seed)
    layers = [
        {"weights": np.float32(draw.normal(size=(a, b)) / np.sqrt(a)), "bias": np.zeros(b, "f4")}
        for a, b in itertools.pairwise(widths)
    ]
    return {"layers": layers}


def unit_loss(num_rows, chunk_rows, name="nt_xent"):
    return UnitLoss(
        name=name, num_classes=num_rows // 2, rows_per_class=2, temperature=0.5, margin=0.2,
        chunk_rows=chunk_rows,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chunk"), [("nt_xent", 8), ("triplet", 13)])
def test_the_gradient_cache_is_exact(name, chunk):
    """Catches losses averaged over chunks (naive accumulation), which are far off."""
    x, net = rows(32, 6)[None], model((6, 20, 4))
    key = jax.random.key(0)

    def gradient(loss):
        return jax.jit(jax.grad(lambda net: loss(net, x, key).sum()))(net)

    whole, parts = (gradient(unit_loss(32, each, name)) for each in (None, chunk))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(b, a, atol=2e-5 * np.abs(a).max())
    short = UnitLoss(name="nt_xent", num_classes=4, rows_per_class=2, temperature=0.5, margin=0.2)
    naive = jax.grad(lambda net: short(net, x.reshape(4, 8, 6), key).mean())(net)
    if name == "nt_xent":
        a, b = whole["layers"][0]["weights"], naive["layers"][0]["weights"]
        assert np.linalg.norm(a - b) > 0.1 * np.linalg.norm(a)


def temporary_bytes(num_rows, chunk_rows):
    loss, net = unit_loss(num_rows, chunk_rows), model((16, 512, 8))
    x = jax.ShapeDtypeStruct((1, num_rows, 16), jnp.float32)
    step = jax.jit(jax.grad(lambda net, x: loss(net, x, jax.random.key(0)).sum()))
    return step.lower(net, x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_does_not_hold_the_whole_batch():
    """Catches activations kept for every chunk, and a similarity matrix kept whole."""
    small, large = temporary_bytes(1024, 128), temporary_bytes(4096, 128)
    # bytes for each row more: less than its 512 activations alone, or 4,096 similarities
    assert (large - small) / 3072 < 4 * 512
    assert temporary_bytes(4096, None) > 8 * large


def test_chunks_of_rows_of_other_shapes():
    """Catches chunks that only work on flat rows, or on a multiple of their size."""
    images = rows(10, 12).reshape(10, 3, 4)
    found = embed_in_chunks(lambda w, x: x.sum(1) @ w, jnp.ones((4, 2)), images, 4)
    np.testing.assert_allclose(found, images.sum(1) @ jnp.ones((4, 2)), rtol=1e-5)


def test_units_are_independent():
    """Catches one loss over the rows of all units."""
    x, net = rows(48, 6).reshape(3, 16, 6), model((6, 20, 4))
    loss, key = unit_loss(16, None), jax.random.key(0)
    together = loss(net, x, key)
    alone = [float(loss(net, x[i : i + 1], key)[0]) for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_unit_keeps_directions():
    z = unit(rows(6, 3))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)
