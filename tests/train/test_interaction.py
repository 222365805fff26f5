"""Losses with and without a gradient per example."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import UsageError
from downslope.objective import build
from downslope.train.assemble import assemble
from downslope.train.interaction import can_divide, examples_interact
from plain import training

X = np.random.default_rng(0).normal(size=(12, 4)).astype("f4")
ROWS = X, np.arange(12, dtype="i4") % 3
MODEL = {"w": np.random.default_rng(1).normal(size=(4, 3)).astype("f4"), "v": np.ones(3, "f4")}


def hidden(model, batch):
    return jnp.tanh(batch[0] @ model["w"])


def plain(model, batch, key):
    return jnp.square(hidden(model, batch) @ model["v"] - batch[1])


def weighted(model, batch, key):
    return jnp.abs(batch[0][:, 0]) * plain(model, batch, key)


def dropout(model, batch, key):
    kept = jax.random.bernoulli(key, 0.5, (batch[0].shape[0], 3))
    return (hidden(model, batch) * kept) @ model["v"]


def noisy(model, batch, key):
    return plain(model, (batch[0] + jax.random.normal(key, batch[0].shape), batch[1]), key)


def normalised(model, batch, key):
    h = hidden(model, batch)
    return ((h - h.mean(0)) / (h.std(0) + 1e-3)) @ model["v"]


def hardest(model, batch, key):
    """Distance to the furthest row of the same class less that to the nearest of another."""
    h = hidden(model, batch)
    apart = jnp.square(h[:, None] - h[None]).sum(-1)
    same = batch[1][:, None] == batch[1][None]
    nearest = jnp.where(same, jnp.inf, apart).min(1)
    return jax.nn.relu(1 + jnp.where(same, apart, 0).max(1) - nearest)


def contrastive(model, batch, key):
    h = hidden(model, batch)
    return -jnp.diag(jax.nn.log_softmax(h @ h.T))


def groups_of(size, apart=False):
    """Normalised in groups of neighbours, or of every k-th row."""

    def loss(model, batch, key):
        h = hidden(model, batch)
        shape = (size, -1, 3) if apart else (-1, size, 3)
        axis = 0 if apart else 1
        parts = h.reshape(shape)
        spread = parts.std(axis, keepdims=True) + 1e-3
        return ((parts - parts.mean(axis, keepdims=True)) / spread).reshape(h.shape) @ model["v"]

    return loss


def shared_weights(model, batch, key):
    value = weighted(model, batch, key)
    return value / jnp.abs(batch[0][:, 0]).mean()


def answer(loss, rows=ROWS, model=MODEL):
    objective, params = build(loss, model, rows, lambda r: r, num_rows=24)
    return examples_interact(objective, params, rows)


def scalar(model, batch, key):
    return plain(model, batch, key).mean()


ALONE = plain, weighted, dropout, noisy
# of small groups: rows exchanged by halves of the batch, between which no group reaches
TOGETHER = (
    normalised, hardest, contrastive, shared_weights, scalar,
    *(groups_of(size, apart) for size in (2, 4, 8) for apart in (False, True)),
)  # fmt: skip


@pytest.mark.parametrize("loss", [*ALONE, *TOGETHER])
def test_which_losses_have_a_gradient_of_each_example(loss):
    """Catches draws taken for an exchange between rows, and an exchange within small groups."""
    assert answer(loss) is (loss in TOGETHER)


@pytest.mark.slow
def test_what_can_be_divided_into_micro_batches():
    """12 rows are two micro-batches of 6: groups of 2 and 3 are held whole, of 4 are not."""

    def can(loss):
        objective, params = build(loss, MODEL, ROWS, lambda r: r, num_rows=24)
        return can_divide(objective, params, ROWS)

    assert can(plain) and can(groups_of(2)) and can(groups_of(3))
    assert not can(groups_of(4)) and not can(groups_of(2, apart=True)) and not can(normalised)


def test_groups_held_whole_by_a_micro_batch_are_accumulated():
    """Catches halves of a micro-batch compared, which hold fewer groups, and a batch whose loss
    its micro-batches do not give.
    """
    rows = np.resize(ROWS[0], (40, 4)), np.resize(ROWS[1], 40)
    options = {"optimizer": "sgd", "batch_size": 8, "microbatch_size": 4, "measure_every": None}
    setup = assemble(groups_of(4), MODEL, rows, training(**options))
    assert (setup.batch_rows, setup.first_step.step_rows) == (8, 4)
    with pytest.raises(UsageError, match="use a batch_size of at most 4"):
        assemble(normalised, MODEL, rows, training(**options))


def test_an_output_layer_of_zeros_hides_nothing():
    assert answer(normalised, model={**MODEL, "v": np.zeros(3, "f4")}) is True


def test_equal_rows_and_too_few_tell_nothing():
    same = np.ones((12, 4), "f4"), np.zeros(12, "i4")
    assert answer(normalised, same) is False
    assert answer(normalised, (X[:2], ROWS[1][:2])) is False
    assert answer(normalised, (X[:3], ROWS[1][:3])) is True


def test_what_is_not_finite():
    broken = X.copy()
    broken[0] = np.nan  # in a row whose loss is looked at: itself, and no other
    assert answer(plain, (broken, ROWS[1])) is False
    broken = X.copy()
    broken[5] = np.nan  # in another row: its loss alone, unless rows interact
    assert answer(plain, (broken, ROWS[1])) is False
    assert answer(normalised, (broken, ROWS[1])) is True
    assert answer(lambda m, b, k: plain(m, b, k) * jnp.nan) is False


def test_rounding_in_large_losses_is_no_interaction():
    rows = np.random.default_rng(0).normal(size=(12, 512)).astype("f4") * 1e4
    wide = {"w": np.ones((512, 64), "f4")}
    assert answer(lambda m, b, k: (b @ m["w"]).sum(-1) ** 2, rows, wide) is False


def test_a_loss_of_one_batch_size():
    def picky(model, batch, key):
        if batch[0].shape[0] == 8:
            raise ValueError("only whole batches")
        return plain(model, batch, key)

    assert answer(picky) is False
