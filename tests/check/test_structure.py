"""Whether a loss may be a quadratic, found by tracing it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import losses
from downslope.check.structure import may_be_quadratic
from downslope.objective import build

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = np.arange(6, dtype="float32")
W = {"w": np.ones(3, "float32"), "b": np.float32(0.5), "names": ("a", 2)}


def line(model, batch):
    return batch[0] @ model["w"] + model["b"]


def asked(loss, model=W, penalty=None, data=(X, Y), **options):
    objective, params = build(loss, model, data, lambda rows: rows, penalty, **options)
    return may_be_quadratic(objective, params, data)


QUADRATIC = {
    "squared": lambda m, b, k: (line(m, b) - b[1]) ** 2,
    "squared by losses": lambda m, b, k: losses.squared(line(m, b), b[1]),
    "square": lambda m, b, k: jnp.square(line(m, b) - b[1]),
    "product": lambda m, b, k: line(m, b) * (line(m, b) - 2 * b[1]),
    "linear": lambda m, b, k: line(m, b),
    "constant": lambda m, b, k: 0 * b[1],
    "rows of any kind": lambda m, b, k: jnp.exp(b[1]) * (jnp.sin(b[0]) @ m["w"]) ** 2,
    "compiled": lambda m, b, k: jax.jit(lambda z: (z - 1) ** 2)(line(m, b)),
    "mapped": lambda m, b, k: jax.vmap(lambda x: (x @ m["w"] - 1) ** 2)(b[0]),
    "summed in a loop": lambda m, b, k: (
        b[1] * jax.lax.scan(lambda c, x: (c + (x @ m["w"]) ** 2, None), jnp.zeros(()), b[0])[0]
    ),
    "computed again": lambda m, b, k: jax.checkpoint(jnp.square)(line(m, b)),
    "saddle": lambda m, b, k: m["w"][0] * m["w"][1] * b[1],
}
PIECES = {
    "hinge": lambda m, b, k: losses.hinge(line(m, b), b[1]),
    "absolute": lambda m, b, k: jnp.abs(line(m, b) - b[1]),
}
CURVED = {
    "logistic": lambda m, b, k: losses.logistic(line(m, b), b[1]),
    "fourth power": lambda m, b, k: (line(m, b) - b[1]) ** 4,
    "cubic in one weight": lambda m, b, k: line(m, b) ** 2 + m["b"] ** 3,
    "factors": lambda m, b, k: (m["b"] * (b[0] @ m["w"]) - b[1]) ** 2,
    "exponential": lambda m, b, k: jnp.exp(line(m, b)) - b[1] * line(m, b),
    "hidden": lambda m, b, k: (jnp.tanh(line(m, b)) - b[1]) ** 2,
    "curved far away": lambda m, b, k: line(m, b) ** 2 + jax.nn.softplus(m["b"] - 100.0),
    "compiled": lambda m, b, k: jax.jit(jnp.cosh)(line(m, b)),
    "in a loop": lambda m, b, k: (
        b[1] * jax.lax.scan(lambda c, x: (c + (x @ m["w"]) ** 3, None), jnp.zeros(()), b[0])[0]
    ),
}


@pytest.mark.parametrize("name", QUADRATIC)
def test_a_quadratic_is_never_denied(name):
    """Catches a linear model that is searched for because its loss is written another way."""
    assert asked(QUADRATIC[name])


@pytest.mark.parametrize("name", PIECES)
def test_pieces_are_left_to_the_closer_look(name):
    """Catches an answer that no trace can give: these have no third derivative either."""
    assert asked(PIECES[name])


@pytest.mark.parametrize("name", CURVED)
def test_a_third_derivative_is_seen(name):
    """Catches a curve that is flat where the run begins, or in all weights but one."""
    assert not asked(CURVED[name])


def test_relu_layers_are_seen_by_their_product():
    """Catches a net of pieces that is taken for a quadratic because each part of it is one."""
    net = {"a": np.ones((3, 4), "float32"), "c": np.ones(4, "float32")}
    assert not asked(lambda m, b, k: (jax.nn.relu(b[0] @ m["a"]) @ m["c"] - b[1]) ** 2, net)


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [(lambda m: (m["w"] ** 2).sum(), True), (lambda m: (m["w"] ** 4).sum(), False)],
)
def test_a_penalty_belongs_to_the_loss(penalty, expected):
    """Catches a penalty that is forgotten, or that always denies."""
    assert asked(QUADRATIC["squared"], penalty=penalty) is expected


def test_nothing_is_compiled(caplog):
    """Catches a look that costs what the closer one costs."""
    asked(CURVED["hidden"])  # what tracing itself may compile once
    with jax.log_compiles():
        asked(CURVED["hidden"])
    assert "Finished XLA compilation" not in caplog.text
