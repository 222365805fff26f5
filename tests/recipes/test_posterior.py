"""Posterior samples against exact posteriors and NUTS, and the choices of step and batch."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import CapacityError, DataError, UsageError
from downslope.recipes.posterior import (
    Posterior,
    choose_batch,
    choose_step,
    ensemble,
    sample,
    swag,
)

N, D = 2000, 4


def regression(seed=0):
    """Rows of a linear regression with correlated columns; mean and sd of its exact posterior."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, D)) * [1, 0.5, 0.25, 0.125]
    x[:, 1] += 0.8 * x[:, 0]
    y = x @ [1.0, -1.0, 0.5, 2.0] + 0.5 * rng.normal(size=N)
    precision = x.T @ x / 0.25
    covariance = np.linalg.inv(precision)
    rows = x.astype(np.float32), y.astype(np.float32)
    return rows, covariance @ (x.T @ y) / 0.25, np.sqrt(np.diag(covariance))


def squares(model, batch, key):
    x, y = batch
    return 2 * (x @ model - y) ** 2


def gaussian(mean, batch, key):
    return 0.5 * (batch - mean) ** 2


ROWS, MEAN, SD = regression()
ZEROS = np.zeros(D, np.float32)


@pytest.mark.parametrize(
    ("method", "control"),
    [("sghmc", None), ("sghmc", False), ("sgld", None), ("sgld", False), ("cyclical", False),
     ("constant_sgd", None)],
)  # fmt: skip
def test_a_linear_regression_has_its_exact_posterior(method, control):
    """Catches injected noise from which that of the gradients is not subtracted (sd 9 % too large
    for sgld, 10 % for sghmc), steps off by a factor of 2, and samples of a burn-in.
    """
    found = sample(
        squares, ZEROS, ROWS, method=method, control_variate=control, prior_scale=math.inf,
        num_samples=3000,
    )  # fmt: skip
    assert np.abs((found.mean() - MEAN) / SD).max() < 0.1
    ratios = found.sd() / SD
    assert np.abs(ratios - 1).max() < 0.08
    assert abs(ratios.mean() - 1) < 0.04
    assert found.r_hat < 1.02 and found.effective_samples > 500
    assert found.is_complete and found.num_samples == 3000


def test_coordinates_by_single_axes_serve_too():
    """Catches a diagonal scaling whose step ignores the curvature left: it diverges, or the slow
    direction is never sampled.
    """
    found = sample(
        squares, ZEROS, ROWS, method="sgld", scaling="diagonal", prior_scale=math.inf,
        num_samples=2000,
    )  # fmt: skip
    assert np.abs((found.mean() - MEAN) / SD).max() < 0.25
    assert np.abs(found.sd() / SD - 1).max() < 0.15


@pytest.mark.parametrize("temperature", [0.25, 1.0, 2.0])
def test_the_mean_of_a_gaussian_with_prior_and_temperature(temperature):
    """Catches a prior that is left out or counted for every row, and a temperature that scales
    the likelihood alone or the deviation in place of the variance.
    """
    rows = np.random.default_rng(1).normal(1.0, size=20).astype(np.float32)
    found = sample(
        gaussian, np.zeros((), np.float32), rows, prior_scale=0.2, temperature=temperature,
        num_samples=4000,
    )  # fmt: skip
    precision = 20 + 25
    sd = math.sqrt(temperature / precision)
    assert abs(found.mean() - rows.sum() / precision) < 0.1 * sd
    assert found.sd() == pytest.approx(sd, rel=0.06)
    lo, hi = found.interval(0.9)
    assert (hi - lo) / sd == pytest.approx(2 * 1.645, rel=0.08)


def logistic(model, batch, key):
    x, y = batch
    return jax.nn.softplus((1 - 2 * y) * (x @ model))


@pytest.mark.slow
def test_a_logistic_regression_agrees_with_nuts():
    """Catches a bias that a Gaussian posterior does not show."""
    import blackjax

    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    chance = 1 / (1 + np.exp(-x @ [2.0, -1.0, 0.5, 0.0, 1.0]))
    y = (rng.random(300) < chance).astype(np.float32)

    def log_density(model):
        return -logistic(model, (x, y), None).sum() - jnp.square(model).sum() / 2

    key = jax.random.key(0)
    warm_up = blackjax.window_adaptation(blackjax.nuts, log_density)
    (state, known), _ = warm_up.run(key, jnp.zeros(5), 500)
    kernel = blackjax.nuts(log_density, **known)

    def step(state, key):
        state, _ = kernel.step(key, state)
        return state, state.position

    _, truth = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(key, 8000)))(state)
    found = sample(logistic, np.zeros(5, np.float32), (x, y), num_samples=4000)
    sd = truth.std(0)
    assert np.abs((found.mean() - truth.mean(0)) / sd).max() < 0.1
    assert np.abs(found.sd() / sd - 1).max() < 0.1


def test_noise_that_exceeds_the_temperature_is_said():
    """Catches injected noise that is cut off at 0 in silence: the samples are too hot."""
    found = sample(
        squares, ZEROS, ROWS, method="sgld", step_size=0.5, batch_size=8, control_variate=False,
        num_samples=40,
    )  # fmt: skip
    assert "times as hot as the posterior" in found.describe()


def test_noise_is_measured_where_samples_are():
    """Catches the plain noise of the mode, where an interpolating model has next to none."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 100)).astype(np.float32)
    y = (x @ np.ones(100) + rng.normal(size=200)).astype(np.float32)

    def loss(model, batch, key):
        x, y = batch
        return 0.5 * (x @ model - y) ** 2

    found = sample(
        loss, np.zeros(100, np.float32), (x, y), prior_scale=math.inf, method="sgld",
        num_samples=2000,
    )  # fmt: skip
    exact = np.sqrt(np.diag(np.linalg.inv(x.T @ x)))
    assert (found.sd() / exact).mean() == pytest.approx(1, abs=0.025)


def test_the_same_seed_gives_the_same_samples():
    """Catches draws that depend on the clock."""
    first, second = (
        sample(gaussian, np.zeros((), np.float32), np.arange(9, dtype=np.float32), num_samples=40)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.samples, second.samples)


def test_the_batch_is_where_examples_are_fewest():
    """Catches the root of the noise without the overhead, and a batch above the rows."""
    ask = {"method": "sgld", "mean_noise": 1.0}
    for noise in (3.0, 900.0, 1e5):
        size = choose_batch(**ask, most_noise=noise, num_rows=10**9).new
        costs = {b: (b + 64) * (1 + noise / b) for b in (size / 2, size, 2 * size)}
        assert min(costs, key=costs.get) == size
    assert choose_batch(**ask, most_noise=1e9, num_rows=50).new == 50


@pytest.mark.parametrize(
    ("method", "added"), [("sgld", 0.2), ("sghmc", 0.2), ("constant_sgd", 1.0)]
)
def test_a_step_has_the_temperature_that_its_sentence_says(method, added):
    """Catches 2s for s in the temperature of a step."""
    noise, size = 5000.0, 8
    step = choose_step(method=method, most_noise=noise, mean_noise=noise, batch_size=size).new
    w = noise / size
    found = {
        "sgld": step * (1 + w) / 2,
        "sghmc": step * w / 4,
        "constant_sgd": step * w / (2 - step),
    }
    assert found[method] == pytest.approx(added, rel=1e-3)


def test_a_single_row_has_a_posterior():
    """Catches an interval of one number, which is infinite."""
    row = np.ones(1, np.float32)
    found = sample(gaussian, np.zeros((), np.float32), row, prior_scale=1.0, num_samples=2000)
    assert found.mean() == pytest.approx(0.5, abs=0.1)
    assert found.sd() == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_predictions_have_means_and_intervals():
    """Catches the density of the mean parameters in place of the mean density."""
    rows = np.random.default_rng(3).normal(size=10).astype(np.float32)
    found = sample(gaussian, np.zeros((), np.float32), rows, prior_scale=math.inf, num_samples=4000)
    mean, lo, hi = found.predict(lambda m, x: m * x, np.array([1.0, 10.0], np.float32))
    assert mean == pytest.approx(found.mean() * np.array([1, 10]), abs=1e-4)
    assert (hi - lo)[1] == pytest.approx(10 * (hi - lo)[0], rel=1e-4)
    new = np.array([3.0], np.float32)
    exact = -0.5 * (3 - rows.mean()) ** 2 / 1.1 - 0.5 * math.log(1.1)
    assert found.log_predictive_density(gaussian, new).value == pytest.approx(exact, abs=0.05)


def test_samples_are_saved_whole(tmp_path):
    """Catches a field that is lost, and samples read into another model."""
    found = sample(squares, ZEROS, ROWS, num_samples=40)
    found.save(tmp_path / "posterior")
    again = Posterior.load(tmp_path / "posterior", ZEROS)
    np.testing.assert_array_equal(again.samples, found.samples)
    assert again.describe() == found.describe()
    with pytest.raises(UsageError, match="model must have the arrays"):
        Posterior.load(tmp_path / "posterior", np.zeros(3, np.float32))
    with pytest.raises(DataError):
        found.save(tmp_path / "posterior")


def test_what_speaks_against_samples_is_said():
    """Catches a run that is cut short, or a method that cannot be right, without a word."""
    found = sample(squares, ZEROS, ROWS, num_samples=100_000, seconds=0.01, prior_scale=math.inf)
    assert not found.is_complete and "out of time" in found.describe()
    assert found.num_samples < 100_000
    found = sample(squares, ZEROS, ROWS, method="constant_sgd", num_samples=40)
    assert "on average only" in found.describe()


def test_baselines():
    """Catches SWAG without its low rank, and an ensemble of one model."""
    found = swag(squares, ZEROS, ROWS, prior_scale=math.inf, num_samples=2000)
    assert np.abs((found.mean() - MEAN) / SD).max() < 0.2
    assert found.flags and np.corrcoef(found.flat[:, :2].T)[0, 1] < -0.2  # half of -0.85
    assert np.abs(found.sd() / SD - 1).max() < 0.3

    def model(seed):
        return np.random.default_rng(seed).normal(size=D).astype(np.float32)

    members = ensemble(squares, model, ROWS, num_members=3, prior_scale=math.inf, seconds=3)
    assert members.samples.shape == (3, 1, D)
    assert np.abs((members.mean() - MEAN) / SD).max() < 1
    assert members.r_hat is None and members.flags
    assert np.ptp(members.samples, axis=0).max() > 0
    with pytest.raises(UsageError, match="function of a seed"):
        ensemble(squares, ZEROS, ROWS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prior_scale": 0.0}, "prior_scale must be"),
        ({"prior_scale": math.nan}, "prior_scale must be"),
        ({"method": "hmc"}, "method must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"step_size": -1.0}, "step_size must be"),
        (
            {"method": "constant_sgd", "control_variate": True},
            "control_variate would cool constant_sgd",
        ),
        ({"model": np.arange(4)}, "floating-point arrays"),
        ({"data": (ROWS[0], ROWS[1][:9])}, "same number of rows"),
        ({"data": (ROWS[0][:0], ROWS[1][:0])}, "same number of rows"),
        ({"loss": lambda m, b, k: squares(m, b, k).mean()}, "one number per row"),
        ({"loss": lambda m, b, k: squares(m, b, k) * np.nan, "trains": False}, "finite gradient"),
        ({"loss": lambda m, b, k: squares(m, b, k) * jax.random.uniform(k)}, "its key"),
        ({"model": {"net": "text"}}, "floating-point arrays"),
        ({"step_size": 100.0, "method": "constant_sgd"}, "diverged"),
    ],
)
def test_bad_arguments_get_one_clear_line(changed, message):
    """Catches each of these taken in silence."""
    given = {"loss": squares, "model": ZEROS, "data": ROWS} | changed
    with pytest.raises(UsageError, match=message):
        sample(given.pop("loss"), given.pop("model"), given.pop("data"), num_samples=40, **given)


def test_too_many_samples_are_refused_before_anything_is_trained():
    """Catches a failed allocation after the sampling."""
    with pytest.raises(CapacityError, match="1 GiB"):
        sample(squares, ZEROS, ROWS, num_samples=10**9)
