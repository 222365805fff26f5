"""The models as functions: against sums written out in NumPy."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope.models import (
    Lookup,
    linear_apply,
    linear_init,
    mlp_apply,
    mlp_init,
    weights_only,
    width,
)

LOOKUPS = (Lookup("kind", 5, 0, 1), Lookup("text", 9, 1, 3))
RNG = np.random.default_rng(0)


class Batch(NamedTuple):
    x: np.ndarray
    codes: np.ndarray


BATCH = Batch(
    RNG.normal(size=(4, 2)).astype("float32"),
    np.array([[0, 0, 0, 0], [2, 1, 0, 0], [4, 8, 8, 3], [1, 5, 0, 0]], "int32"),
)


def filled(model):
    """The same model with random numbers everywhere."""
    return jax.tree.map(lambda a: RNG.normal(size=a.shape).astype(a.dtype), model)


def test_linear_against_indicators():
    """Catches a slot shifted, an unknown category or padding that counts, a word counted once."""
    model = filled(linear_init(2, LOOKUPS, 3))
    expected = BATCH.x @ model["weights"] + model["bias"]
    for row, codes in enumerate(BATCH.codes):
        for slot, code in enumerate(codes):
            if code > 0:
                expected[row] += model["tables"]["kind" if slot == 0 else "text"][code]
    found = linear_apply(model, LOOKUPS, BATCH)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_mlp_against_numpy():
    """Catches a text that weighs more the longer it is, and layers in another order."""
    model = filled(mlp_init(2, LOOKUPS, (6, 4), 3, seed=0))
    rows = []
    for x, codes in zip(BATCH.x, BATCH.codes, strict=True):
        kind = model["embeddings"]["kind"][codes[0]] * (codes[0] > 0)
        words = [model["embeddings"]["text"][code] for code in codes[1:] if code > 0]
        text = np.mean(words, axis=0) if words else np.zeros(width(9))
        rows.append(np.concatenate([x, kind, text]))
    h = np.stack(rows)
    *inner, last = model["layers"]
    for layer in inner:
        h = np.maximum(h @ layer["weights"] + layer["bias"], 0)
    expected = h @ last["weights"] + last["bias"]
    np.testing.assert_allclose(mlp_apply(model, LOOKUPS, BATCH), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("apply", [linear_apply, mlp_apply])
def test_code_zero_is_not_trained(apply):
    """Catches a parameter of the unknown that learns from padding."""
    init = linear_init(2, LOOKUPS, 3) if apply is linear_apply else None
    model = filled(init or mlp_init(2, LOOKUPS, (6,), 3, seed=0))
    gradient = jax.jit(jax.grad(lambda m: jnp.square(apply(m, LOOKUPS, BATCH)).sum()))(model)
    tables = gradient["tables" if init else "embeddings"]
    for name, used in (("kind", [1, 2, 4]), ("text", [1, 3, 5, 8])):
        moved = np.flatnonzero(np.abs(np.asarray(tables[name])).sum(1))
        assert moved.tolist() == used


def test_models_without_numbers_or_codes():
    """Catches a model that needs a column of each sort."""
    empty = Batch(np.zeros((4, 0), "float32"), BATCH.codes)
    assert linear_apply(linear_init(0, LOOKUPS, 2), LOOKUPS, empty).shape == (4, 2)
    assert mlp_apply(mlp_init(0, LOOKUPS, (3,), 2, 0), LOOKUPS, empty).shape == (4, 2)
    numbers = Batch(BATCH.x, np.zeros((4, 0), "int32"))
    assert linear_apply(linear_init(2, (), 2), (), numbers).shape == (4, 2)
    assert mlp_apply(mlp_init(2, (), (), 2, 0), (), numbers).shape == (4, 2)


def test_initial_parameters():
    """Catches weights of another variance than He's, and first predictions that are not neutral."""
    model = mlp_init(300, (), (500, 400), 3, seed=1)
    for layer, fan_in in zip(model["layers"][:2], (300, 500), strict=True):
        assert layer["weights"].dtype == np.float32
        assert layer["weights"].var() == pytest.approx(2 / fan_in, rel=0.02)
        assert not layer["bias"].any()
    assert not model["layers"][2]["weights"].any()
    same, other = mlp_init(300, (), (500, 400), 3, 1), mlp_init(300, (), (500, 400), 3, 2)
    assert jax.tree.all(jax.tree.map(np.array_equal, model, same))
    assert not np.array_equal(model["layers"][0]["weights"], other["layers"][0]["weights"])


def test_penalties_leave_biases_alone():
    """Catches a bias that is drawn to zero, and a table of categories that is not, "bias" too."""
    named = (Lookup("bias", 4, 0, 1),)
    assert weights_only(linear_init(2, named, 1))["tables"] == {"bias": True}
    for model in (linear_init(2, LOOKUPS, 1), mlp_init(2, LOOKUPS, (3,), 1, 0)):
        mask = weights_only(model)
        for path, on in jax.tree_util.tree_leaves_with_path(mask):
            assert on == ("bias" not in jax.tree_util.keystr(path))
