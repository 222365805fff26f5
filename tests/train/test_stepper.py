"""`Stepper` compared with updates made by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from downslope import DataError, Stepper, Training, UsageError


def loss(model, batch, key):
    x, y = batch
    return 0.5 * (x @ model["w"] - y) ** 2


PLAIN = Training(optimizer="sgd", learning_rate=0.1, l2=0.5)
X = np.random.default_rng(0).normal(size=(21, 3)).astype("float32")
Y = X @ np.array([1, 2, 3], "float32") + 1


def by_hand(w, x, y, count):
    """The gradient of the mean loss and of 0.5/2 |w|^2."""
    return w - 0.1 * (x.T @ (x @ w - y) / count + 0.5 * w)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 21])
def test_one_update_is_that_of_the_rows_given(count):
    """Catches padding that is counted, and a mean over the padded length."""
    stepper = Stepper(loss, {"w": np.ones(3, "float32")}, PLAIN)
    value = stepper.step((X[:count], Y[:count]))
    residual = X[:count] @ np.ones(3) - Y[:count]
    assert value == pytest.approx(0.5 * (residual**2).mean(), rel=1e-5)
    known = by_hand(np.ones(3), X[:count], Y[:count], count)
    np.testing.assert_allclose(stepper.params["w"], known, rtol=1e-5)


def test_a_batch_size_makes_several_updates_in_order():
    """Catches updates in another order, and a last one that is divided by its own length."""
    stepper = Stepper(
        loss, {"w": np.ones(3, "float32")}, Training(**vars(PLAIN) | {"batch_size": 8})
    )
    stepper.step((X, Y))
    w = np.ones(3)
    for part in (slice(0, 8), slice(8, 16), slice(16, 21)):
        w = by_hand(w, X[part], Y[part], 8)
    np.testing.assert_allclose(stepper.params["w"], w, rtol=1e-5)
    assert stepper.num_steps == 3


def test_rows_that_break_it_change_nothing():
    stepper = Stepper(loss, {"w": np.ones(3, "float32")}, PLAIN)
    stepper.step((X, Y))
    before = stepper.params["w"].copy()
    with pytest.raises(DataError, match="not finite"):
        stepper.step((X, np.full(21, np.nan, "float32")))
    np.testing.assert_array_equal(stepper.params["w"], before)
    stepper.step((X, Y))
    assert stepper.num_steps == 2


@pytest.mark.slow
def test_lengths_share_their_programs():
    """Catches a program for every length: 33 lengths need those of 1, 2, 4, 8, 16 and 32, 64."""
    stepper = Stepper(loss, {"w": np.ones(3, "float32")}, PLAIN)
    for count in range(1, 34):
        rows = np.resize(X, (count, 3))
        stepper.step((rows, np.resize(Y, count)))
    assert len(stepper._programs) == 7
    assert all(program._cache_size() == 1 for program in stepper._programs.values())


def test_what_it_cannot_do_is_said():
    model = {"w": np.ones(3, "float32")}
    with pytest.raises(UsageError, match="cosine"):
        Stepper(loss, model, Training(schedule="cosine", steps=5))
    with pytest.raises(UsageError, match="one value per example"):
        Stepper(lambda m, b, k: loss(m, b, k).mean(), model, PLAIN).step((X, Y))


def test_a_copy_through_pickle_goes_on_alike():
    """Catches a state lost or shared, and programs that cannot be pickled."""
    stepper = Stepper(loss, {"w": np.ones(3, "float32")}, PLAIN)
    fresh = pickle.loads(pickle.dumps(stepper))
    stepper.step((X, Y))
    copy = pickle.loads(pickle.dumps(stepper))
    for each in (stepper, copy):
        each.step((X, Y))
    np.testing.assert_array_equal(stepper.params["w"], copy.params["w"])
    assert (copy.num_steps, fresh.num_steps) == (2, 0)
