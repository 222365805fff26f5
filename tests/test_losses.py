"""The losses against independent formulas and differences, and their subgradients at kinks."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from numpy.testing import assert_allclose

from downslope import losses

STEP = 5e-6  # about eps^(1/3), where central differences in float64 are at their best
LOG_LINKS = ("poisson", "gamma")
CLASSIFY = ("logistic", "hinge", "squared_hinge")


def _signs(y):
    return np.where(y == 1, 1.0, -1.0)


# Written from the textbooks' definitions, with SciPy's functions where it has them.
TRUTHS = {
    "squared": lambda p, y: (p - y) ** 2 / 2,
    "absolute": lambda p, y: np.abs(p - y),
    "huber": lambda p, y: scipy.special.huber(1.0, p - y),
    "logistic": lambda p, y: -scipy.special.log_expit(_signs(y) * p),
    "softmax": lambda p, y: -scipy.special.log_softmax(p, axis=1)[np.arange(len(y)), y],
    "hinge": lambda p, y: np.maximum(0, 1 - _signs(y) * p),
    "squared_hinge": lambda p, y: np.maximum(0, 1 - _signs(y) * p) ** 2,
    "poisson": lambda p, y: _half_deviances("poisson", p, y),
    "gamma": lambda p, y: _half_deviances("gamma", p, y),
}


def _half_deviances(name, p, y):
    deviance = getattr(sklearn.metrics, f"mean_{name}_deviance")
    return np.array([deviance([each], [np.exp(q)]) / 2 for each, q in zip(y, p, strict=True)])


def _case(name, num=200):
    """Predictions and targets, none of them within 1e-3 of a kink."""
    rng = np.random.default_rng(7)
    if name == "softmax":
        return rng.normal(size=(num, 4)) * 3, rng.integers(4, size=num)
    p = rng.normal(size=num) * 2
    y = rng.integers(2, size=num).astype(float) if name in CLASSIFY else rng.normal(size=num)
    if name in LOG_LINKS:
        return p, np.exp(y)
    kink = {"absolute": np.abs(p - y), "huber": np.abs(np.abs(p - y) - 1)}
    far = kink.get(name, np.abs(1 - _signs(y) * p)) > 1e-3
    return p[far], y[far]


def _values(loss, p, y):
    return np.asarray(jax.jit(loss)(p, y))


def _gradient(loss, p, y):
    return np.asarray(jax.jit(jax.grad(lambda q, y: loss(q, y).sum()))(p, y))


def test_every_named_loss_has_a_truth_here():
    """Catches a loss that is added to the table and tested nowhere."""
    assert set(TRUTHS) == set(losses.NAMED)


@pytest.mark.parametrize("name", TRUTHS)
def test_values_equal_the_independent_formula(name):
    """Catches a wrong factor (r^2 for r^2/2), a swapped sign of y, logs to another base."""
    p, y = _case(name)
    with jax.enable_x64(True):
        found = _values(losses.NAMED[name], p, y)
    assert found.shape == y.shape
    assert_allclose(found, TRUTHS[name](p, y), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", TRUTHS)
def test_gradients_equal_central_differences_of_the_independent_formula(name):
    """Catches a gradient that is right for another loss, or cut by a stop_gradient."""
    p, y = _case(name)
    with jax.enable_x64(True):
        gradient = _gradient(losses.NAMED[name], p, y)
    for column in range(p.shape[1]) if p.ndim == 2 else [...]:
        up, down = p.copy(), p.copy()
        up.T[column] += STEP
        down.T[column] -= STEP
        slope = (TRUTHS[name](up, y) - TRUTHS[name](down, y)) / (up - down).T[column]
        assert_allclose(gradient.T[column], slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "p", "y", "subgradient"),
    [
        ("absolute", 2.0, 2.0, 0.0),
        ("hinge", 1.0, 1.0, 0.0),
        ("hinge", -1.0, 0.0, 0.0),
        ("squared_hinge", 1.0, 1.0, 0.0),
        ("huber", 1.5, 0.5, 1.0),
        ("huber", 0.5, 1.5, -1.0),
        ("huber", 0.5, 0.5, 0.0),
    ],
)
def test_subgradient_at_the_kink_is_the_one_documented(name, p, y, subgradient):
    """Catches jnp.maximum for the hinge, whose gradient at the tie is one half."""
    assert _gradient(losses.NAMED[name], np.float32([p]), np.float32([y])) == [subgradient]


@pytest.mark.parametrize("delta", [0.3, 2.0])
def test_huber_takes_its_delta(delta):
    """Catches a delta that is used in one of the two branches only."""
    r = np.linspace(-5, 5, 41)
    with jax.enable_x64(True):
        found = _values(lambda p, y: losses.huber(p, y, delta), r, np.zeros(41))
        slope = _gradient(lambda p, y: losses.huber(p, y, delta), r, np.zeros(41))
    assert_allclose(found, scipy.special.huber(delta, r), rtol=1e-13, atol=1e-15)
    assert_allclose(slope, np.clip(r, -delta, delta), rtol=1e-13, atol=1e-15)


def test_means_equal_scikit_learn():
    """Catches losses in another unit than the field's, such as bits, or halved hinges."""
    p, y = _case("hinge")
    q, c = _case("softmax")
    with jax.enable_x64(True):
        found = {n: _values(losses.NAMED[n], p, y).mean() for n in ("hinge", "logistic")}
        found["softmax"] = _values(losses.softmax, q, c).mean()
    assert found["hinge"] == pytest.approx(sklearn.metrics.hinge_loss(y, p), rel=1e-12)
    share = scipy.special.expit(p)
    assert found["logistic"] == pytest.approx(sklearn.metrics.log_loss(y, share), rel=1e-12)
    shares = scipy.special.softmax(q, axis=1)
    assert found["softmax"] == pytest.approx(sklearn.metrics.log_loss(c, shares), rel=1e-12)


@pytest.mark.parametrize("size", [1e4, 1e18])
@pytest.mark.parametrize("name", [n for n in TRUTHS if n != "softmax"])
def test_large_predictions_keep_loss_and_gradient_finite(name, size):
    """Catches log(1 + exp(p)) written as such, which overflows in float32 beyond p = 88."""
    p, y = np.float32([size, size, -size, -size]), np.float32([0, 1, 0, 1])
    if name == "gamma":  # amounts are above 0
        y = y + 1
    found = _values(losses.NAMED[name], p, y)
    if name not in LOG_LINKS:  # an exponential is continued by its tangent
        assert_allclose(found, TRUTHS[name](p.astype(float), y), rtol=1e-6)
    assert np.isfinite(found).all() and np.isfinite(_gradient(losses.NAMED[name], p, y)).all()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits_keep_softmax_finite(size):
    """Catches a softmax that exponentiates before it subtracts the largest logit."""
    p = np.float32([[size, 0, -size], [size, 0, -size], [-size, -size, -size]])
    y = np.array([0, 2, 1])
    found = _values(losses.softmax, p, y)
    assert_allclose(found, [0, 2 * size, np.log(3) if size < 1e6 else 0], rtol=1e-6, atol=1e-3)
    assert np.isfinite(_gradient(losses.softmax, p, y)).all()


@pytest.mark.parametrize("name", ["softmax", "hinge"])
def test_losses_stay_per_example(name):
    """Catches a reduction, or a gather that mixes rows."""
    p, y = _case(name, num=50)
    whole = _values(losses.NAMED[name], p, y)
    assert_allclose(whole[3:5], _values(losses.NAMED[name], p[3:5], y[3:5]), rtol=1e-6)
