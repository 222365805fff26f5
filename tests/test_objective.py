"""The objective: leaves that are trained, losses that are accepted, rows that are counted."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from downslope.errors import UsageError
from downslope.objective import build, merge, split

KEY = jax.random.key(0)
ROWS = (np.arange(6, dtype="float32").reshape(3, 2), np.float32([1, 0, 1]))


class Net(NamedTuple):
    w: Any
    b: Any
    classes: Any


def _same(rows):
    return rows


def _residual(model, batch, key):
    return batch[0] @ model["w"] - batch[1]


def _model():
    return {"w": np.float32([1, -1])}


@pytest.mark.parametrize(
    "model",
    [
        {"w": np.zeros(2, "float32"), "n": np.arange(3), "name": "x", "on": True, "f": jnp.tanh},
        [np.zeros(1, "float32"), (np.zeros((), "float16"), 3)],
        Net(np.float32(0), jnp.ones(2), np.array([1, 2])),
        np.zeros(3, "float32"),
    ],
    ids=["dict", "list", "named tuple", "array"],
)
def test_split_and_merge_are_inverse_and_train_floats_only(model):
    """Catches integers, flags and functions that get a gradient, or leaves that swap places."""
    params, fixed = split(model)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))
    assert not any(
        isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" for leaf in jax.tree.leaves(fixed)
    )
    back = merge(params, fixed)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
        assert a is b


def test_plain_python_numbers_are_pointed_out():
    """Catches the newcomer's {"b": 0.0}, which would silently never be trained."""
    with pytest.warns(UserWarning, match=r"numpy.float32\(0\) instead of 0.0"):
        split({"w": np.zeros(2, "float32"), "b": 0.0})


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda m, b, k: _residual(m, b, k)[:, None], r"for B = 2 it returned \(2, 1\)"),
        (lambda m, b, k: (_residual(m, b, k), 0), r"it returned \(\(2,\)"),
        (lambda m, b, k: None, "it returned None"),
        (lambda m, b, k: {"loss": _residual(m, b, k)}, "it returned {'loss': "),
        (lambda m, b, k: (b[0] * m["w"]).mean(0), r"for B = 4 it returned \(2,\)"),
        (lambda m, b, k: (b[1] > 0).astype("int32"), "floating-point numbers; got int32"),
    ],
    ids=["column", "tuple", "nothing", "dict", "one value per column", "integers"],
)
def test_a_loss_of_a_wrong_shape_is_refused_in_one_line(loss, words):
    """Catches a check at one batch size only: a mean over rows of two columns looks like [B]."""
    with pytest.raises(UsageError, match=words) as caught:
        build(loss, _model(), ROWS, _same)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [{}, {"n": np.arange(3)}, {"name": "x"}, None])
def test_a_model_with_nothing_to_train_is_refused(model):
    """Catches a run that does nothing at all and calls itself finished."""
    with pytest.raises(UsageError, match="no floating-point array to train"):
        build(lambda m, b, k: b[1], model, ROWS, _same)


def test_the_loss_is_traced_with_as_many_rows_as_it_will_see():
    """Catches a trial with a number of rows that the loss, made for groups, cannot divide."""

    def triplets(model, batch, key):
        return (_residual(model, batch, key).reshape(-1, 3).sum(1) ** 2).mean()

    objective, _ = build(triplets, _model(), ROWS, _same, num_rows=6)
    assert not objective.separable


def test_rows_that_do_not_count_add_nothing_even_if_infinite():
    """Catches a product with a mask of zeros and ones: 0 times infinity is NaN."""
    objective, params = build(_residual, _model(), ROWS, _same)
    rows = (np.float32([[1, 2], [np.inf, 0], [3, 1]]), ROWS[1])
    counted = np.array([True, False, True])
    assert float(objective.loss_sum(params, rows, counted, KEY)) == (1 - 2 - 1) + (3 - 1 - 1)


def test_a_scalar_loss_stands_for_each_of_its_rows():
    """Catches a batch loss that weighs 1 beside losses that weigh B."""
    objective, params = build(
        lambda m, b, k: _residual(m, b, k).mean(), _model(), ROWS, _same, num_rows=3
    )
    losses = objective.losses(params, ROWS, KEY)
    assert_allclose(losses, np.full(3, losses[0]))
    counted = np.array([True, True, False])
    assert_allclose(objective.loss_sum(params, ROWS, counted, KEY), 2 * losses[0], rtol=1e-6)


def test_the_loss_sees_the_unpacked_rows_and_the_key():
    """Catches a loss that is handed the stored rows, or the same key always."""

    def loss(model, batch, key):
        return batch["x"] @ model["w"] + jax.random.normal(key, (batch["x"].shape[0],))

    objective, params = build(loss, _model(), ROWS, lambda rows: {"x": 2 * rows[0]})
    found = objective.losses(params, ROWS, jax.random.key(5))
    noise = jax.random.normal(jax.random.key(5), (3,))
    assert_allclose(found, 2 * ROWS[0] @ [1, -1] + noise, rtol=1e-6)


def test_the_gradient_of_the_penalty_is_that_of_the_penalty_alone():
    """Catches a penalty that is added to the losses, and so enters the measured noise."""
    with_it, params = build(_residual, _model(), ROWS, _same, lambda m: (m["w"] ** 3).sum())
    without, _ = build(_residual, _model(), ROWS, _same)
    assert_allclose(with_it.penalty_gradient(params)["w"], [3, 3])
    assert without.penalty_gradient(params) is None
    assert_array_equal(with_it.losses(params, ROWS, KEY), without.losses(params, ROWS, KEY))
