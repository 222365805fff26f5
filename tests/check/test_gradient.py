"""Wrong gradients planted by hand are found and named; kinks are not called wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import losses
from downslope.check import gradient
from downslope.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 10)).astype("float32")
Y = (RNG.random(300) < 0.5).astype("float32")
ZEROS = {"w": np.zeros(10, "float32"), "b": np.zeros((), "float32")}
DRAWN = {"w": RNG.normal(size=10).astype("float32"), "b": np.float32(0.3)}
NET = {
    "w1": RNG.normal(size=(10, 16)).astype("float32") / 3,
    "b1": np.zeros(16, "float32"),
    "w2": RNG.normal(size=16).astype("float32") / 4,
}


def linear(function):
    return lambda m, batch, key: function(batch[0] @ m["w"] + m["b"], batch[1])


def paths(found):
    return list(found.leaves)


def spoiled(change):
    """The identity, whose gradient is changed."""

    @jax.custom_vjp
    def same(v):
        return v

    same.defvjp(lambda v: (v, None), lambda _, t: (change(t),))
    return same


def with_spoiled(leaf, change):
    same = spoiled(change)

    def loss(m, batch, key):
        m = {**m, leaf: same(m[leaf])}
        return losses.logistic(batch[0] @ m["w"] + m["b"], batch[1])

    return loss


def net(activation, narrow=False):
    def loss(m, batch, key):
        hidden = activation(batch[0] @ m["w1"] + m["b1"])
        hidden = hidden.astype(jnp.float32) if narrow else hidden
        return losses.squared(hidden @ m["w2"], batch[1])

    return loss


@pytest.mark.parametrize("name", sorted(set(losses.NAMED) - {"softmax"}))
def test_losses_of_ours_are_right(name):
    model = DRAWN if "squared" in name else ZEROS
    y = abs(Y) + 1 if name in ("poisson", "gamma") else Y  # counts and amounts
    found = gradient(linear(losses.NAMED[name]), model, (X, y))
    assert found.verdict in ("right", "kink")
    assert found.precision == "float64"


def test_a_scaled_leaf():
    found = gradient(with_spoiled("w", lambda t: 3 * t), ZEROS, (X, Y))
    assert found.verdict == "wrong"
    assert str(found) == "the gradient is wrong in ['w'] (it is 3 times the true one)"


def test_one_coordinate_off_by_a_tenth():
    found = gradient(with_spoiled("w", lambda t: t.at[4].mul(1.1)), DRAWN, (X, Y))
    assert found.verdict == "wrong" and paths(found) == ["['w']"]
    assert "in some of its numbers" in str(found)


def test_one_coordinate_of_a_matrix():
    same = spoiled(lambda t: t.at[7, 5].mul(1.1))
    loss = net(jnp.tanh)
    found = gradient(lambda m, b, k: loss({**m, "w1": same(m["w1"])}, b, k), NET, (X, Y))
    assert paths(found) == ["['w1']"]


def test_a_wrong_sign_and_a_forgotten_path():
    found = gradient(with_spoiled("w", lambda t: -t), DRAWN, (X, Y))
    assert str(found) == "the gradient is wrong in ['w'] (it has the wrong sign)"

    def stopped(m, batch, key):
        return losses.squared(batch[0] @ jax.lax.stop_gradient(m["w"]) + m["b"], batch[1])

    found = gradient(stopped, DRAWN, (X, Y))
    assert paths(found) == ["['w']"]
    assert "it is 0 where the loss does change" in str(found)

    def all_stopped(m, batch, key):
        return losses.squared(batch[0] @ jax.lax.stop_gradient(m), batch[1]) + 0 * m.sum()

    assert gradient(all_stopped, DRAWN["w"], (X, Y)).verdict == "wrong"


def test_a_wrong_leaf_that_zeros_hide():
    """With an output layer of zeros the hidden gradient is 0, and 3 times 0 is right."""
    same = spoiled(lambda t: 3 * t)
    loss = net(jnp.tanh)
    model = {**NET, "w2": np.zeros(16, "float32")}
    found = gradient(lambda m, b, k: loss({**m, "w1": same(m["w1"])}, b, k), model, (X, Y))
    assert found.verdict == "wrong" and paths(found) == ["['w1']"]


def test_a_wrong_penalty():
    same = spoiled(lambda t: -t)
    penalty = lambda m: 0.1 * (same(m["w"]) ** 2).sum()  # noqa: E731
    assert gradient(linear(losses.squared), DRAWN, (X, Y), penalty=penalty).verdict == "wrong"
    right = lambda m: 0.1 * (m["w"] ** 2).sum()  # noqa: E731
    assert gradient(linear(losses.squared), DRAWN, (X, Y), penalty=right).verdict == "right"


def test_a_gradient_that_is_no_number():
    def loss(m, batch, key):
        return jnp.sqrt((m["w"] ** 2).sum()) + 0 * batch[1]

    found = gradient(loss, {"w": ZEROS["w"]}, (X, Y))
    assert found.verdict == "wrong" and "not finite" in str(found)


def test_a_kink_at_the_model_is_not_wrong():
    penalty = lambda m: 0.1 * jnp.abs(m["w"]).sum()  # noqa: E731
    found = gradient(linear(losses.squared), ZEROS, (X, Y), penalty=penalty)
    assert found.verdict in ("right", "kink")


def test_a_wrong_leaf_beside_a_kink():
    """The one-sided slopes of |w| lie far apart, and hide what is wrong with b along w."""
    same = spoiled(lambda t: 2 * t)

    def loss(m, batch, key):
        fit = losses.squared(batch[0] @ m["w"] + same(m["b"]), batch[1])
        return fit + jnp.abs(m["w"]).sum()

    found = gradient(loss, ZEROS, (X, Y))
    assert found.verdict == "wrong" and paths(found) == ["['b']"]


def test_no_subgradient_at_all():
    """Not every number passes at a kink: |w| has none above 1."""
    same = spoiled(lambda t: t + 5)
    found = gradient(lambda m, b, k: jnp.abs(same(m)).sum() + 0 * b[1], ZEROS["w"], (X, Y))
    assert found.verdict == "wrong"


def test_networks():
    assert gradient(net(jax.nn.relu), NET, (X, Y)).verdict == "right"
    dead = {**NET, "w1": np.zeros((10, 16), "float32")}
    found = gradient(net(jax.nn.relu), dead, (X, Y))
    assert found.verdict == "kink" and "kink at the model" in str(found)


def test_a_loss_in_float32():
    found = gradient(net(jnp.tanh, narrow=True), NET, (X, Y))
    assert (found.verdict, found.precision) == ("right", "float32")
    assert 1e-7 < found.error < 3e-4
    loss, same = net(jnp.tanh, narrow=True), spoiled(lambda t: t.at[3].mul(1.1))
    found = gradient(lambda m, b, k: loss({**m, "w2": same(m["w2"])}, b, k), NET, (X, Y))
    assert paths(found) == ["['w2']"]


def test_randomness_is_frozen():
    def loss(m, batch, key):
        kept = jax.random.bernoulli(key, 0.5, batch[0].shape)
        return losses.squared((batch[0] * kept) @ m["w"], batch[1])

    assert gradient(loss, DRAWN, (X, Y)).verdict == "right"


def test_scalar_losses_and_large_and_small_ones():
    for factor in (1e-9, 1e9):
        loss = lambda m, b, k, c=factor: c * losses.squared(b[0] @ m["w"], b[1]).mean()  # noqa: E731
        assert gradient(loss, DRAWN, (X, Y)).verdict == "right"


def test_64_bit_numbers_stay_inside():
    gradient(linear(losses.squared), DRAWN, (X, Y))
    assert jnp.zeros(1).dtype == jnp.float32


def test_what_cannot_be_checked():
    coarse = lambda m, b, k: losses.squared(b[0] @ m.astype(jnp.bfloat16), b[1])  # noqa: E731
    with pytest.raises(UsageError, match="less than float32"):
        gradient(coarse, DRAWN["w"], (X, Y))
    with pytest.raises(DataError, match="not finite"):
        gradient(linear(losses.squared), DRAWN, (X * np.inf, Y))
    with pytest.raises(UsageError, match="num_rows must be a whole number of at least 1; got 0"):
        gradient(linear(losses.squared), DRAWN, (X, Y), num_rows=0)
