"""What an optimizer's state says of its metric and its memory, against sums by hand."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loops
import plain
from downslope.step.optimizers import decays, preconditioner


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adagrad", "momentum"])
def test_the_preconditioner_by_hand(name):
    """Three steps on gradients drawn, then what divides the next one."""
    setup = loops.setup_of(optimizer=name, weight_decay=0.0)
    gradients = np.random.default_rng(0).normal(size=(3, 3)).astype("f4")
    rule, state = setup.optimizer.build(1.0), setup.start()
    opt_state = state.opt_state
    for g in gradients:
        _, opt_state = rule.update({"w": jnp.asarray(g)}, opt_state, state.params)
    found = preconditioner(setup.optimizer, state._replace(opt_state=opt_state))
    squares = gradients.astype("f8") ** 2
    if name == "momentum":
        assert found is None
    elif name == "adagrad":  # optax begins at 0.1
        np.testing.assert_allclose(found, np.sqrt(0.1 + squares.sum(0) + 1e-7), rtol=1e-5)
    elif name == "rmsprop":
        v = 0.1 * (0.81 * squares[0] + 0.9 * squares[1] + squares[2])
        np.testing.assert_allclose(found, np.sqrt(v + 1e-8), rtol=1e-5)
    else:
        v = 0.001 * (0.999**2 * squares[0] + 0.999 * squares[1] + squares[2])
        np.testing.assert_allclose(found, np.sqrt(v / (1 - 0.999**3)) + 1e-8, rtol=1e-5)


def test_decays_are_those_that_optax_uses():
    def of(name, **more):
        return decays(dataclasses.replace(plain.training(optimizer=name), **more))

    assert of("adam") == of("adamw") == of("prodigy") == {"b1": 0.9, "b2": 0.999}
    assert of("rmsprop") == {"decay": 0.9}
    assert of("schedule_free") == {"b2": 0.999}
    assert of("momentum", momentum=0.8) == {"momentum": 0.8}
    assert of("sgd") == of("adagrad") == of(optax.adam, learning_rate=0.1) == {}
    assert of("sgd", average="ema", ema_decay=0.97) == {"average": 0.97}
    # an impulse decays in Adam's state by what was said
    rule = optax.adam(1.0)
    state = rule.init(jnp.zeros(1))
    for g in (1.0, 0.0):
        state, before = rule.update(jnp.array([g]), state)[1], state
    for name, decay in (("mu", "b1"), ("nu", "b2")):
        ratio = optax.tree.get(state, name)[0] / optax.tree.get(before, name)[0]
        assert ratio == pytest.approx(of("adam")[decay], rel=1e-5)
