"""Quadratics are told from losses that only look like one at some scale."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import losses
from downslope.check import quadratic
from downslope.errors import UsageError

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 8)).astype("float32")
Y = RNG.normal(size=1000).astype("float32")
C = (Y > 0).astype("float32")
MODEL = {"w": np.zeros(8, "float32"), "b": np.zeros((), "float32")}
TRUNK = RNG.normal(size=(8, 16)).astype("float32") / 3


def linear(function):
    return lambda m, batch, key: function(batch[0] @ m["w"] + m["b"], batch[1])


def narrow(loss):
    """The same in float32, whatever it is given."""

    def narrowed(m, batch, key):
        m, batch = jax.tree.map(lambda a: a.astype(jnp.float32), (m, batch))
        return loss(m, batch, key)

    return narrowed


def last_layer(m, batch, key):
    return losses.squared(jax.nn.relu(batch[0] @ TRUNK) @ m, batch[1])


def weighted(m, batch, key):
    return batch[2] * losses.squared(batch[0] @ m["w"] + m["b"], batch[1])


def outputs(m, batch, key):
    return losses.squared(batch[0] @ m, batch[1][:, None]).sum(-1)


@pytest.mark.parametrize(
    ("loss", "model", "data"),
    [
        (linear(losses.squared), MODEL, (X, Y)),
        (linear(losses.squared), MODEL, (X * 1e6, Y)),
        (linear(losses.squared), MODEL, (X, Y * 1e6)),
        (linear(losses.squared), MODEL, (X, Y * 1e10)),
        (weighted, MODEL, (X, Y, np.abs(Y))),
        (outputs, np.zeros((8, 3), "float32"), (X, Y)),
        (last_layer, np.zeros(16, "float32"), (X, Y)),
        (narrow(linear(losses.squared)), MODEL, (X, Y)),
    ],
    ids=[
        "least squares",
        "large x",
        "large y",
        "huge y",
        "weighted",
        "outputs",
        "last layer",
        "float32",
    ],
)
def test_quadratics(loss, model, data):
    found = quadratic(loss, model, data)
    assert found.is_quadratic and found.is_solvable, str(found)
    assert found.kappa < (1e-8 if found.precision == "float64" else 1e-3)


def output(m, batch):
    return batch[0] @ m["w"] + m["b"]


def residual(m, batch):
    return output(m, batch) - batch[1]


# Pieces of lines and parabolas, which have no third derivative: what tracing cannot tell.
PIECEWISE = {
    **{name: linear(losses.NAMED[name]) for name in ("absolute", "hinge", "squared_hinge")},
    "quantile": lambda m, b, k: jnp.maximum(-0.9 * residual(m, b), 0.1 * residual(m, b)),
    "leaky": lambda m, b, k: (jax.nn.leaky_relu(output(m, b), 0.99) - b[1]) ** 2,
    "clipped output": lambda m, b, k: (jnp.clip(output(m, b), -1, 1) - b[1]) ** 2,
    "clipped loss": lambda m, b, k: jnp.minimum(residual(m, b) ** 2, 100.0),
    "sides by 1e-6": lambda m, b, k: jnp.where(output(m, b) > 0, 1 + 1e-6, 1) * residual(m, b) ** 2,
    "relu": lambda m, b, k: (jax.nn.relu(output(m, b)[:, None] * TRUNK[0]).sum(-1) - b[1]) ** 2,
    **{
        f"huber {delta:g}": lambda m, b, k, d=delta: losses.huber(output(m, b), b[1], d)
        for delta in (1.0, 20.0, 1e3, 1e5, 1e7)
    },
}
CURVED = {
    "logistic": linear(losses.logistic),
    "log-cosh": lambda m, b, k: jnp.log(jnp.cosh(residual(m, b))),
    "root": lambda m, b, k: jnp.sqrt(1 + residual(m, b) ** 2),
}


@pytest.mark.parametrize("name", [*PIECEWISE, *CURVED])
def test_other_losses(name):
    """Catches a piece that is taken for the whole, however far out the next one begins."""
    found = quadratic((PIECEWISE | CURVED)[name], MODEL, (X, C))
    assert not found.is_quadratic and not found.is_solvable
    assert "not a quadratic" in str(found)


def test_small_bends_are_seen():
    def quartic(m, batch, key):
        return losses.squared(batch[0] @ m["w"], batch[1]) + 1e-6 * (m["w"] ** 4).sum()

    def softmax(m, batch, key):
        return losses.softmax(batch[0] @ m, batch[1].astype(jnp.int32))

    def net(m, batch, key):
        return losses.squared(jax.nn.relu(batch[0] @ m["a"]) @ m["b"], batch[1])

    assert not quadratic(quartic, MODEL, (X, Y)).is_quadratic
    assert not quadratic(softmax, np.zeros((8, 2), "float32"), (X, C)).is_quadratic
    model = {"a": TRUNK, "b": np.ones(16, "float32")}
    assert not quadratic(net, model, (X, Y)).is_quadratic
    penalty = lambda m: 1e-3 * jnp.abs(m["w"]).sum()  # noqa: E731
    assert not quadratic(linear(losses.squared), MODEL, (X, Y), penalty=penalty).is_quadratic


def test_what_a_loss_computes_in_is_measured():
    """Catches a small quartic that passes for rounding, and rounding that passes for a bend."""

    def quartic(m, batch, key):
        return losses.squared(batch[0] @ m["w"], batch[1]) + 1e-6 * (m["w"] ** 4).sum()

    for loss in (quartic, linear(losses.squared)):
        assert quadratic(loss, MODEL, (X, Y)).precision == "float64"
        assert quadratic(narrow(loss), MODEL, (X, Y)).precision == "float32"
    assert quadratic(quartic, MODEL, (X, Y)).scale == 1
    found = quadratic(narrow(quartic), MODEL, (X, Y))
    assert not found.is_quadratic and found.scale == 100


def test_quadratics_without_a_least_value():
    def bent_down(m, batch, key):
        return losses.squared(batch[0] @ m["w"], batch[1]) - m["w"][0] ** 2

    found = quadratic(bent_down, MODEL, (X, Y))
    assert found.is_quadratic and not found.is_solvable and "curves downward" in str(found)
    found = quadratic(lambda m, b, k: b[0] @ m["w"] + b[1], MODEL, (X, Y))
    assert not found.is_solvable and str(found).startswith("linear")


def test_quadratics_of_a_batch_only():
    def dropout(m, batch, key):
        kept = jax.random.bernoulli(key, 0.5, batch[0].shape)
        return losses.squared((batch[0] * kept) @ m["w"], batch[1])

    def centred(m, batch, key):
        return losses.squared((batch[0] - batch[0].mean(0)) @ m["w"], batch[1])

    def scalar(m, batch, key):
        return losses.squared(batch[0] @ m["w"], batch[1]).mean()

    for loss, word in ((dropout, "the key"), (centred, "interact"), (scalar, "interact")):
        found = quadratic(loss, MODEL, (X, Y))
        assert found.is_quadratic and word in str(found) and not found.is_solvable


def test_a_loss_that_is_not_finite_or_not_for_64_bits():
    found = quadratic(lambda m, b, k: jnp.sqrt(m["w"]).sum() + b[1], MODEL, (X, Y))
    assert not found.is_quadratic and found.kappa is None

    def counts(m, batch, key):
        total, _ = jax.lax.scan(lambda c, v: (c + v, None), jnp.int32(0), jnp.arange(3))
        return losses.squared(batch[0] @ m["w"], batch[1]) + 0 * total

    with pytest.raises(UsageError, match="64-bit"):
        quadratic(counts, MODEL, (X, Y))
