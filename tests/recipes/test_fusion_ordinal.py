"""Ordered classes: against a latent variable integrated by quadrature, and shares of rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from downslope.losses import logistic
from downslope.recipes.fusion import ordinal

pytestmark = pytest.mark.usefixtures("quick_compilation")
MODEL = {"bias": np.float32([-1.5]), "gaps_bias": np.float32([0.3, -2.0, 1.0])}
RAW = st.lists(st.floats(-200, 50, width=32), min_size=1, max_size=6)


def test_the_loss_is_that_of_a_latent_logistic_variable():
    """Catches a sign, a cut that is off by one, and a class at an end with both cuts."""
    edges = [-np.inf, *ordinal.cuts(MODEL), np.inf]
    scores = [-3.0, 0.0, 0.7, 4.0]
    for k in range(5):
        found = ordinal.losses(jnp.float32(scores), MODEL, jnp.full(4, k))
        low, high = edges[k], edges[k + 1]
        areas = [integrate.quad(stats.logistic(s).pdf, low, high)[0] for s in scores]
        np.testing.assert_allclose(found, -np.log(areas), rtol=3e-5)
        logs = ordinal.log_probabilities(np.array(scores), ordinal.cuts(MODEL))
        np.testing.assert_allclose(np.exp(logs[:, k]), areas, rtol=1e-8)


@given(RAW, st.floats(-30, 30), st.floats(-300, 300))
def test_probabilities_sum_to_one_and_cuts_ascend(raw, first, score):
    """Catches cuts that cross for some parameters, and mass that is lost between two classes."""
    at = ordinal.cuts({"bias": np.float32([first]), "gaps_bias": np.float32(raw)})
    assert (np.diff(at) > 0).all()
    chances = np.exp(ordinal.log_probabilities(np.array([score]), at))
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    assert (chances >= 0).all()


@pytest.mark.parametrize(("score", "k", "slope"), [(80.0, 0, 1), (80.0, 1, 1), (-80.0, 4, -1)])
def test_far_off_scores_keep_a_loss_and_a_slope(score, k, slope):
    """Catches the difference of two sigmoids, which is 0 there: infinite loss, gradient NaN."""

    def loss(s):
        return ordinal.losses(s[None], MODEL, jnp.array([k]))[0]

    value, gradient = jax.value_and_grad(loss)(jnp.float32(score))
    assert abs(float(value) - 80) < 5
    assert float(gradient) == pytest.approx(slope, abs=1e-3)


@pytest.mark.slow
def test_without_predictors_shares_of_rows_are_the_best_cuts():
    """Catches a wrong gradient of the cuts: at the cumulative shares' log-odds it must be 0."""
    counts = np.array([300, 100, 250, 50])
    model = ordinal.initial_cuts(counts - 0.5)  # half a row is added to each
    target = jnp.asarray(np.repeat(np.arange(4), counts))
    share = counts.cumsum()[:-1] / counts.sum()
    np.testing.assert_allclose(ordinal.cuts(model), stats.logistic.ppf(share), rtol=1e-5)

    def loss(model):
        return ordinal.losses(jnp.zeros(len(target)), model, target).mean()

    for part in jax.tree.leaves(jax.grad(loss)(model)):
        np.testing.assert_allclose(part, 0, atol=2e-6)
    entropy = stats.entropy(counts / counts.sum())
    assert float(loss(model)) == pytest.approx(entropy, rel=1e-5)


@pytest.mark.slow
def test_two_classes_are_logistic_regression():
    model = {"bias": np.float32([0.4]), "gaps_bias": np.zeros(0, np.float32)}
    score, target = jnp.linspace(-5, 5, 10), jnp.arange(10) % 2
    found = ordinal.losses(score, model, target)
    np.testing.assert_allclose(found, logistic(score - 0.4, target), rtol=1e-5)


@pytest.mark.slow
def test_a_class_without_rows_costs_a_finite_loss():
    """Catches a gap that goes to 0: a held-out row of that class would cost infinity."""
    model = {"bias": np.float32([0]), "gaps_bias": np.float32([-200])}
    loss, gradient = jax.value_and_grad(
        lambda m: ordinal.losses(jnp.zeros(1), m, jnp.array([1]))[0]
    )(model)
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
