"""Temperatures against runs and stationary states.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest
from scipy import linalg, stats
from scipy.signal import lfilter

from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.noise.statistics.series import mean_of_series, ratio_of_series
from downslope.noise.temperature import (
    direction_temperatures,
    effective_temperature,
    equilibrium_ratio,
    measured_temperature,
    reshuffling_ratio,
    temperature_record,
    update_equilibrium_ratio,
)
from downslope.noise.temperature.dynamics import (
    PRECONDITIONED,
    heavy_ball_rate,
    population_factor,
)
from downslope.noise.temperature.equilibrium import TRANSIENT
from downslope.noise.temperature.prescribed import (
    OVERSTATED,
    temperature_factor,
)

KINDS = [(None, 0.0), ("heavy_ball", 0.5), ("heavy_ball", 0.9), ("ema", 0.9), ("nesterov", 0.8)]


def update(kind, beta, eta, hessian, theta, v, z):
    """One step of the rule under gradient noise z: the gradient, the step and the new velocity."""
    g = (theta - beta * v if kind == "nesterov" else theta) @ hessian + z
    if kind == "ema":
        v = beta * v + (1 - beta) * g
        return g, eta * v, v
    v = beta * v + eta * g
    return g, v, v


def sgd(kind, beta, eta, hessian, noise):
    """Runs the update rule; noise [steps, walkers, d]. Yields position, gradient, step."""
    theta, v = np.zeros(noise.shape[1:]), np.zeros(noise.shape[1:])
    for z in noise:
        g, step, v = update(kind, beta, eta, hessian, theta, v, z)
        yield theta, g, step
        theta = theta - step


def stationary_variance(kind, beta, eta, curvature, variance):
    """Of the position along one direction, from the rule's linear map by Lyapunov's equation."""
    hessian, columns = np.array([[curvature]]), []
    for theta, v, z in np.eye(3)[:, :, None]:
        _, step, velocity = update(kind, beta, eta, hessian, theta, v, z)
        columns.append([(theta - step)[0], velocity[0]])
    position, velocity, noise = np.array(columns)
    covariance = linalg.solve_discrete_lyapunov(
        np.stack([position, velocity], axis=1), variance * np.outer(noise, noise)
    )
    return covariance[0, 0]


# catches: (1 + beta) lost or doubled, eta for eta (1 - beta), the position after the step
@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_equilibrium_ratio_is_one_at_stationarity(kind, beta):
    rng = np.random.default_rng(1)
    hessian, eta = np.diag([1.0, 3.0]), 0.1 if kind != "ema" else 0.5
    noise = rng.normal(size=(2500, 100, 2)) * [1, 2]
    dots, squares, updates = [], [], []
    for theta, g, step in sgd(kind, beta, eta, hessian, noise):
        dots.append((theta * g).sum())
        squares.append((step**2).sum())
        updates.append((theta * step).sum())
    told = equilibrium_ratio(dots[500:], squares[500:], eta, beta, kind)
    free = update_equilibrium_ratio(updates[500:], squares[500:])
    for ratio in (told, free):
        assert ratio.value == pytest.approx(1, abs=0.02)
        assert ratio.lo < 1 < ratio.hi < 1.2 and not ratio.flags
    # the temperature of the steps is that of the virial, E[theta . g] / d
    heat = measured_temperature(
        np.array(squares[500:]) / 100, 2, learning_rate=eta, momentum=beta, momentum_kind=kind
    )
    assert heat.value == pytest.approx(np.mean(dots[500:]) / 200, rel=0.02)
    exact = [stationary_variance(kind, beta, eta, *each) for each in ((1.0, 1.0), (3.0, 4.0))]
    if kind != "nesterov":  # there the gradient is taken ahead of the position
        assert heat.value == pytest.approx((hessian @ exact).sum() / 2, rel=0.03)


# catches: a transient called equilibrium; an interval from correlated steps as if independent
def test_equilibrium_ratio_while_relaxing():
    noise = np.random.default_rng(0).normal(size=(100, 1, 1))
    theta, dots, squares = 30.0, [], []
    for z in noise[:, 0, 0]:
        g = theta + z
        dots.append(theta * g)
        squares.append((0.01 * g) ** 2)
        theta -= 0.01 * g
    told = equilibrium_ratio(dots, squares, 0.01)
    assert told.value > 10 and told.lo > 1 and TRANSIENT in told.flags


def test_adam_has_an_equilibrium_of_its_own():
    rng = np.random.default_rng(3)
    theta, m, v, dots, squares = np.zeros(5000), np.zeros(5000), np.ones(5000), [], []
    for step in range(4000):
        g = theta + rng.normal(size=5000)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        u = 0.02 * m / np.sqrt(v)
        if step > 1000:
            dots.append(theta @ u)
            squares.append(u @ u)
        theta = theta - u
    assert update_equilibrium_ratio(dots, squares).value == pytest.approx(1, abs=0.02)


# catches: standard errors of independent steps; a window too short not told
def test_intervals_of_correlated_series():
    rng = np.random.default_rng(0)
    for decay, least in ((0.0, 0.93), (0.9, 0.92)):
        x = lfilter([1], [1, -decay], rng.normal(size=(400, 2500)), axis=1)[:, 500:]
        found = [mean_of_series(row) for row in x]
        assert np.mean([m.lo <= 0 <= m.hi for m in found]) > least
        assert np.mean([bool(m.flags) for m in found]) < 0.1
    x = lfilter([1], [1, -0.9], rng.normal(size=(1500, 700)), axis=1)[:, 500:]
    found = [mean_of_series(row) for row in x]  # 200 steps, worth about 10 independent ones
    assert np.mean([m.lo <= 0 <= m.hi for m in found]) > 0.91
    walk = np.cumsum(rng.normal(size=1000))
    assert any("too short" in flag for flag in mean_of_series(walk).flags)


# catches: a mean of ratios, underflow of tiny steps, a ratio of nothing, negative squares taken
def test_ratio_of_series_at_the_edges():
    assert ratio_of_series([1.0, 30.0], [1.0, 10.0]).value == pytest.approx(31 / 11)
    d = np.random.default_rng(0).exponential(size=(2, 20))
    big, tiny = ratio_of_series(*d), ratio_of_series(*(1e-200 * d))
    assert (tiny.lo, tiny.value, tiny.hi) == pytest.approx((big.lo, big.value, big.hi))
    for n, d in (([], []), ([1.0], [1.0]), ([1.0] * 9, [0.0] * 9), ([math.nan] * 9, [1.0] * 9)):
        assert not ratio_of_series(n, d).is_measured
    with pytest.raises(UsageError, match="one shape"):
        ratio_of_series([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="0 or more"):
        ratio_of_series([1.0, 2.0], [1.0, -1.0])


# catches: N for N - 1, phi or 2 or d lost, momentum counted for EMA
def test_prescribed_temperature():
    found = effective_temperature(
        4.5, 3, learning_rate=0.1, batch_size=5, num_rows=60, sampling="reshuffled"
    )
    assert found.value == pytest.approx(0.1 * (55 / 59) * 4.5 / (2 * 5 * 3)) and found.flags
    settings = {"learning_rate": 0.1, "batch_size": 5, "sampling": "streaming"}
    ball = temperature_factor(momentum=0.9, momentum_kind="heavy_ball", **settings)
    assert ball == pytest.approx(0.1) and temperature_factor(**settings) == pytest.approx(0.01)
    assert temperature_factor(momentum=0.9, momentum_kind="ema", **settings) == pytest.approx(0.01)
    noisy = effective_temperature(Estimate(value=4.0, lo=2.0, hi=6.0, unit=""), 2, **settings)
    assert (noisy.lo, noisy.value, noisy.hi) == pytest.approx((0.01, 0.02, 0.03))
    assert not effective_temperature(math.nan, 2, **settings).is_measured
    assert population_factor(60, 60, "reshuffled") == 0
    for wrong in ({"batch_size": -1}, {"learning_rate": 0.0}, {"sampling": "shuffled"}):
        with pytest.raises(UsageError):
            effective_temperature(1.0, 2, **{**settings, **wrong})
    with pytest.raises(UsageError, match="num_rows"):
        temperature_factor(0.1, 5, sampling="reshuffled")
    with pytest.raises(UsageError, match="kind"):
        heavy_ball_rate(0.1, 0.9, None)


# catches: T_eff that is not the small-step limit of the exact state, by kind of momentum
@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_prescribed_temperature_is_the_small_step_limit(kind, beta):
    found = effective_temperature(
        5.0, 2, learning_rate=1e-6, batch_size=10, sampling="streaming", momentum=beta,
        momentum_kind=kind,
    )  # fmt: skip
    exact = [stationary_variance(kind, beta, 1e-6, *each) for each in ((1.0, 0.1), (2.0, 0.4))]
    assert found.value == pytest.approx(np.dot([1.0, 2.0], exact) / 2, rel=1e-4)


# catches: variances for deviations, an interval of other directions, noiseless directions
def test_direction_temperatures():
    covered = []
    settings = {"learning_rate": 0.1, "batch_size": 10, "sampling": "streaming"}
    for seed in range(300):
        g = 5 + np.random.default_rng(seed).normal(size=(300, 3)) * [1, 4, 2]
        told = direction_temperatures(g, **settings)
        covered.append(told.anisotropy.lo <= 16 <= told.anisotropy.hi)
    assert 0.91 < np.mean(covered) < 0.985
    np.testing.assert_allclose(told.temperatures, 0.005 * g.var(axis=0, ddof=1))
    assert any("misleading" in flag for flag in told.anisotropy.flags)
    few = g[:8, :2]
    logs = []
    for i in range(8):
        variance = np.delete(few, i, axis=0).var(axis=0)
        logs.append(abs(math.log(variance[1] / variance[0])))
    found = direction_temperatures(few, **settings).anisotropy
    reach = stats.t.ppf(0.975, 7) * math.sqrt(7 * np.var(logs))
    assert math.log(found.hi / found.value) == pytest.approx(reach)
    g[:, 1] = 3.0
    assert not direction_temperatures(g, **settings).anisotropy.is_measured
    assert not direction_temperatures(g[:1], **settings).anisotropy.is_measured
    assert not direction_temperatures(g * np.nan, **settings).anisotropy.is_measured


def by_hand(x, n):
    """Epoch average and end-of-epoch variance over that with replacement, term by term."""
    noise = (np.eye(n) - 1 / n) * n / (n - 1)  # covariance of an epoch's batches, C = 1
    epochs = math.ceil(40 / (x * n)) + 1
    variances = []
    for j in range(1, n + 1):
        weights = [(1 - x) ** (j - 1 - i) if i < j else 0.0 for i in range(n)]
        total = np.array(weights) @ noise @ weights
        for back in range(1, epochs):
            weights = np.array([(1 - x) ** (j + back * n - 1 - i) for i in range(n)])
            total += weights @ noise @ weights
        variances.append(total)
    base = 1 / (x * (2 - x))
    return np.mean(variances) / base, variances[-1] / base


# catches: sums over i < j without the sum over the epoch, V_0 forgotten, a wrong baseline
@pytest.mark.parametrize(("x", "n"), [(0.3, 5), (0.05, 12), (1.0, 6), (1.7, 9), (0.9, 2)])
def test_reshuffling_term_by_term(x, n):
    found = reshuffling_ratio(x, n)
    average, end = by_hand(x, n)
    assert found.epoch_average == pytest.approx(average, rel=1e-9)
    assert found.end_of_epoch == pytest.approx(end, rel=1e-9)


# catches: cancellation for slow directions, limits of the wrong power
def test_reshuffling_limits():
    assert reshuffling_ratio(0.01, 100).epoch_average == pytest.approx(0.26793532, rel=1e-8)
    for x in (1e-4, 1e-8, 1e-12):
        slow = reshuffling_ratio(x, 200)
        assert slow.epoch_average == pytest.approx(200 * x / 3, rel=2e-2)
        assert slow.end_of_epoch == pytest.approx((200 * x) ** 2 / 12, rel=2e-2)
    fast = reshuffling_ratio(0.05, 20_000)
    for share in (fast.epoch_average, fast.end_of_epoch):
        assert share == pytest.approx(1 - 1.95 / (0.05 * 20_000), abs=1e-4)
    with pytest.raises(UsageError, match="below 2"):
        reshuffling_ratio(2.0, 10)


# catches: a temperature for Adam, flags lost, reshuffling shares of the bare learning rate
def test_record():
    settings = {"learning_rate": 0.1, "batch_size": 5, "num_rows": 60, "sampling": "reshuffled"}
    told = temperature_record(4.5, 3, curvatures=[0.1, 5.0], **settings)
    assert OVERSTATED in told.flags and any("not checked" in flag for flag in told.flags)
    assert told.reshuffling[0] == pytest.approx(reshuffling_ratio(0.01, 12).epoch_average)
    assert any("factor 1.33" in flag for flag in told.flags)
    ratio = Estimate(value=1.5, unit="")
    moving = temperature_record(
        4.5, 3, momentum=0.5, momentum_kind="heavy_ball",
        equilibrium=ratio, curvatures=[0.1], **settings,
    )  # fmt: skip
    assert TRANSIENT in moving.flags
    assert moving.reshuffling[0] == pytest.approx(reshuffling_ratio(0.02, 12).epoch_average)
    adam = temperature_record(4.5, 3, is_plain=False, momentum=0.9, momentum_kind="ema", **settings)
    assert adam.effective.reason == PRECONDITIONED
    assert PRECONDITIONED in adam.flags and OVERSTATED not in adam.flags
    unstable = temperature_record(4.5, 3, curvatures=[30.0], **settings)
    assert any("not stable" in flag for flag in unstable.flags)
