"""Compiled programs that later runs reuse, and those that they must not."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import plain

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")


@dataclasses.dataclass(frozen=True)
class Pull:
    """A user's loss: towards a point that comparing leaves out."""

    to: Any = dataclasses.field(compare=False)

    def __call__(self, model, batch, key):
        return 0.5 * ((model["w"] - self.to) ** 2).sum() + 0 * batch[:, 0]


@dataclasses.dataclass(frozen=True)
class Held:
    """A user's loss with an array in it, which has no hash."""

    to: Any

    def __call__(self, model, batch, key):
        return 0.5 * ((model["w"] - jnp.asarray(self.to)) ** 2).sum() + 0 * batch[:, 0]


def fitted(loss):
    found = plain.fit(
        loss, {"w": np.zeros(3, "float32")}, X, optimizer="sgd", learning_rate=0.5, epochs=20
    )
    return found.params["w"]


@pytest.mark.slow
def test_a_loss_of_the_users_is_compiled_anew():
    """Catches a second fit that descends on the first one's loss, since the two compare equal."""
    assert Pull(1.0) == Pull(5.0)
    np.testing.assert_allclose(fitted(Pull(1.0)), 1, atol=1e-3)
    np.testing.assert_allclose(fitted(Pull(5.0)), 5, atol=1e-3)


@pytest.mark.slow
def test_a_loss_without_a_hash_trains():
    """Catches a cache that asks every loss for its hash."""
    np.testing.assert_allclose(fitted(Held(np.float32([1, 2, 3]))), [1, 2, 3], atol=1e-3)
