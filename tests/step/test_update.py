"""One update: proximal L1 against scikit-learn's optimum, masks, penalties, clipping."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso

import plain
from downslope.data.windows import Windows
from downslope.errors import UsageError
from downslope.step.update import clip, soft_threshold
from downslope.train.assemble import assemble

pytestmark = pytest.mark.usefixtures("quick_compilation")
L1 = 0.1


def loss(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2


def _standard(a):
    return (a - a.mean(0)) / a.std(0)


def _orthogonal():
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(200, 8)))[0] * np.sqrt(200)
    return x, x @ [1.5, -1, 0.7, 0.5, 0.05, -0.02, 0, 0.08] + 0.1 * rng.normal(size=200)


def _diabetes():
    x, y = load_diabetes(return_X_y=True)
    return _standard(x), _standard(y)


DATA = {"orthogonal": _orthogonal, "diabetes": _diabetes}


def full_descent(data, num_steps, **options):
    """Weights after steps that each use all rows, in one call to the device, in float64."""
    rows, width = data[0].shape
    with jax.enable_x64(True):
        training = plain.training(batch_size="full", steps=num_steps, **options)
        setup = assemble(loss, {"w": np.zeros(width)}, data, training)
        zeros = np.zeros(num_steps, np.int32)
        windows = Windows(
            starts=zeros, lows=zeros, highs=zeros + rows, offsets=zeros,
            ends=np.ones(num_steps, bool), first=0, count=num_steps,
        )  # fmt: skip
        state, seen = setup.first_step.run(setup.start(), data, windows, setup.knobs())
        assert int(seen.done) == num_steps
        return np.asarray(setup.kept_params(state)["w"])


# learning rate, steps, and how near to the optimum's weights they come (measured, times 10)
LASSO = {
    "sgd": ({"learning_rate": 0.2}, 1000, 1e-11),
    "momentum": ({"learning_rate": 0.02}, 1000, 1e-7),
    "nesterov": ({"learning_rate": 0.02}, 1000, 1e-7),
    "adagrad": ({"learning_rate": 0.3}, 2000, 1e-7),
    "rmsprop": ({"learning_rate": 0.002}, 4000, 1e-7),
    "adam": ({"learning_rate": 0.005}, 4000, 1e-6),
    "adamw": ({"learning_rate": 0.005, "weight_decay": 0.0}, 4000, 1e-6),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "name"),
    [*(("diabetes", name) for name in LASSO), ("orthogonal", "momentum"), ("orthogonal", "adam")],
)
def test_l1_comes_to_rest_at_the_lasso(which, name):
    """Catches a threshold that is not the rule's own step size (rate instead of rate/(1-beta)
    for momentum, or rate/sqrt(v) for Adam), which rests elsewhere; zeros that are not exact.
    """
    options, steps, tolerance = LASSO[name]
    x, y = DATA[which]()
    found = full_descent((x, y), steps, optimizer=name, l1=L1, **options)
    truth = Lasso(alpha=L1, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(x, y).coef_
    assert_allclose(found, truth, atol=tolerance)
    assert_array_equal(found == 0, truth == 0)
    assert 3 <= (found == 0).sum() < len(found)
    if which == "orthogonal":  # a second truth: each coordinate alone, shrunk by L1
        alone = x.T @ y / len(y)
        assert_allclose(found, np.sign(alone) * np.maximum(abs(alone) - L1, 0), atol=tolerance)


@pytest.mark.slow
def test_l1_with_l2_comes_to_rest_at_the_elastic_net():
    """Catches an L2 without its half, or one that acts on the thresholded weights only."""
    options, steps, tolerance = LASSO["adam"]
    x, y = _diabetes()
    found = full_descent((x, y), steps, optimizer="adam", l1=L1, l2=0.2, **options)
    net = ElasticNet(alpha=0.3, l1_ratio=1 / 3, fit_intercept=False, tol=1e-12, max_iter=100_000)
    assert_allclose(found, net.fit(x, y).coef_, atol=tolerance)


@pytest.mark.slow
def test_l1_through_fit_gives_exact_zeros_and_spares_what_is_not_penalized():
    """Catches penalties on the intercept, which then no longer is the mean of y."""
    x, y = _orthogonal()
    x = x - x.mean(0)

    def shifted(model, batch, key):
        return 0.5 * (batch[0] @ model["w"] + model["b"] - batch[1]) ** 2

    model = {"w": np.zeros(8, "float32"), "b": np.float32(0), "name": "lasso"}
    options = {"optimizer": "sgd", "learning_rate": 0.2, "batch_size": "full", "steps": 150}
    result = plain.fit(
        shifted, model, (x, y + 5), l1=L1, l2=0.1,
        penalize=lambda m: {"w": True, "b": False, "name": None}, **options,
    )  # fmt: skip
    assert result.params["b"] == pytest.approx(np.mean(y + 5), rel=1e-5)
    assert result.params["name"] == "lasso"
    assert (result.params["w"] == 0).sum() >= 3
    everything = plain.fit(shifted, model, (x, y + 5), l1=L1, l2=0.1, **options)
    assert everything.params["b"] == pytest.approx((np.mean(y + 5) - L1) / 1.1, rel=1e-5)


@pytest.mark.parametrize("mask", [{"w": True, "c": True}, {"w": 1.0}, {"w": [True]}, []])
def test_a_mask_unlike_the_model_is_refused_in_one_line(mask):
    """Catches JAX's own error about tree prefixes, or a mask whose truth value decides."""
    with pytest.raises(UsageError, match="penalize must give a tree of bools") as caught:
        assemble(
            loss, {"w": np.zeros(8)}, _orthogonal(), plain.training(l1=L1, optimizer="sgd"),
            penalize=lambda model: mask,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_penalty_of_the_users_is_added_to_the_mean_loss():
    """Catches a penalty that is added to every example's loss, or once for every window."""
    x, y = _diabetes()
    result = plain.fit(
        loss, {"w": np.zeros(10, "float32")}, (x, y), penalty=lambda m: 0.5 * (m["w"] ** 2).sum(),
        optimizer="sgd", learning_rate=0.2, batch_size="full", microbatch_size=100, steps=60,
    )  # fmt: skip
    ridge = np.linalg.solve(x.T @ x / len(y) + np.eye(10), x.T @ y / len(y))
    assert_allclose(result.params["w"], ridge, atol=1e-5)


def test_a_penalty_that_is_no_scalar_is_refused_in_one_line():
    """Catches JAX's own error from the middle of a trace."""
    with pytest.raises(UsageError, match=r"penalty must return a scalar; it returned \(8,\)"):
        plain.fit(loss, {"w": np.zeros(8)}, _orthogonal(), penalty=lambda m: m["w"] ** 2)


def test_soft_threshold_is_the_proximal_step():
    """Catches a threshold that zeroes and does not shrink: hard instead of soft."""
    grid = np.linspace(-4, 4, 8001)
    for p in (-2.5, -0.3, 0.0, 0.7, 3.0):
        best = grid[np.argmin(0.5 * (grid - p) ** 2 + 0.8 * np.abs(grid))]
        assert float(soft_threshold(jnp.float32(p), jnp.float32(0.8))) == pytest.approx(
            best, abs=1e-3
        )


@pytest.mark.parametrize(("norm", "factor"), [(1.0, 1 / 13), (13.0, 1), (99.0, 1), (np.inf, 1)])
def test_clip_keeps_the_direction(norm, factor):
    """Catches clipping by value, leaf by leaf, and 0/0 for a gradient of zero."""
    tree = {"a": jnp.float32([3, 4]), "b": jnp.float32(12)}
    found = clip(tree, jnp.float32(norm))
    assert_allclose(found["a"], [3 * factor, 4 * factor], rtol=1e-6)
    assert_allclose(found["b"], 12 * factor, rtol=1e-6)
    assert_array_equal(clip({"a": jnp.zeros(3)}, jnp.float32(norm))["a"], np.zeros(3))
