"""Stability bounds against iterations and operators written out in full.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest
from scipy import stats

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature import (
    condition_number,
    necessary_limit,
    rate_limit,
    stability_ratio,
)


def run(kind, rate, curvature, beta, steps=3000):
    """Size of the error along one direction, by the update rules themselves."""
    theta, v = 1.0, 0.0
    trail = [theta]
    for _ in range(steps):
        g = curvature * (theta - beta * v if kind == "nesterov" else theta)
        if kind == "ema":
            v = beta * v + (1 - beta) * g
            theta -= rate * v
        else:
            v = beta * v + rate * g
            theta -= v
        trail.append(theta)
        if abs(theta) > 1e6:
            break
    return np.abs(np.array(trail)), np.array(trail)


# catches: kinds of momentum mixed up, (1 - beta) left out, a factor of 2
@pytest.mark.parametrize("kind", ["heavy_ball", "ema", "nesterov"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_bound_parts_shrinking_from_growing(kind, beta):
    limit = rate_limit(beta, kind) / 2.5
    below, _ = run(kind, 0.99 * limit, 2.5, beta)
    above, _ = run(kind, 1.01 * limit, 2.5, beta)
    assert below[-1] < 1e-3 and above[-1] > 1e6


def test_known_bounds():
    assert rate_limit(0.9, "nesterov") / 2 == pytest.approx(0.67857143, rel=1e-8)
    assert rate_limit(0.9, "ema") == pytest.approx(38)
    with pytest.raises(UsageError, match="momentum_kind"):
        rate_limit(0.9)


# catches: the change of sign put at 2/lambda; heavy ball judged by gradient descent's factor
@pytest.mark.parametrize(
    ("kind", "beta", "x", "regime"),
    [
        (None, 0.0, 0.7, "decays monotonically"),
        (None, 0.0, 1.5, "oscillates and decays"),
        (None, 0.0, 2.0, "neither decays nor grows"),
        (None, 0.0, 2.05, "diverges"),
        ("heavy_ball", 0.81, 0.009, "decays monotonically"),
        ("heavy_ball", 0.81, 0.02, "oscillates and decays"),
        ("heavy_ball", 0.81, 3.6, "oscillates and decays"),
        ("heavy_ball", 0.81, 3.7, "diverges"),
        ("nesterov", 0.5, 1.3, "oscillates and decays"),
        ("nesterov", 0.5, 1.55, "diverges"),
        ("ema", 0.9, 30.0, "oscillates and decays"),
    ],
)
def test_regimes_are_what_the_iteration_does(kind, beta, x, regime):
    told = stability_ratio(x, 1.0, momentum=beta, momentum_kind=kind)
    assert told.regime == regime
    size, trail = run(kind, 1.0, x, beta, steps=400)
    if regime == "decays monotonically":
        assert (trail > 0).all() and (np.diff(trail) <= 0).all()
    elif regime == "oscillates and decays":
        assert (trail < 0).any() and size[-1] < 1e-2 * size[:20].max()
    elif regime == "diverges":
        assert size[-1] > 1e3
    else:
        assert size[-1] == 1


# catches: interval ends not carried or swapped; a missing lambda_max turned into a number
def test_ratio_of_measurements():
    sharp = Estimate(value=30.0, lo=25.0, hi=50.0, unit="loss / parameter^2")
    told = stability_ratio(sharp, 0.05, losses=np.linspace(2, 1, 10))
    assert (told.ratio.value, told.ratio.lo, told.ratio.hi) == pytest.approx((0.75, 0.625, 1.25))
    rate = told.largest_stable_rate
    assert (rate.value, rate.lo, rate.hi) == pytest.approx((2 / 30, 2 / 50, 2 / 25))
    assert not told.at_edge and any("includes 1" in flag for flag in told.ratio.flags)
    lost = stability_ratio(not_estimable("no", unit=""), 0.05)
    assert not lost.ratio.is_measured and not lost.largest_stable_rate.is_measured
    flat = stability_ratio(-1.0, 0.05)
    assert "no limit" in flat.regime and not flat.largest_stable_rate.is_measured


# catches: edge without a falling loss, or from the mean of a spiky loss
def test_edge_of_stability_needs_a_falling_loss():
    falling = [5.0, 4.0, 4.5, 3.0, 2.0, 50.0, 2.5, 1.5]
    assert stability_ratio(42.0, 0.05, losses=falling).at_edge
    assert not stability_ratio(42.0, 0.05, losses=falling[::-1]).at_edge
    assert not stability_ratio(42.0, 0.05).at_edge
    assert not stability_ratio(60.0, 0.05, losses=falling).at_edge


# catches: f with N for N - 1 or without 1/B, eta for eta^2 in the noise
@pytest.mark.parametrize(("batch", "sampling"), [(1, "replacement"), (4, "reshuffled")])
def test_above_the_limit_the_mean_square_grows(batch, sampling):
    """Of the operator E[(I - eta H_B) x (I - eta H_B)] over all rows, written out in full."""
    x = np.random.default_rng(0).normal(size=(25, 4)) * [1, 1, 2, 0.5]
    hessians, one = x[:, :, None] * x[:, None, :], np.eye(4)
    weight = (25 - batch) / (24 * batch) if sampling == "reshuffled" else 1 / batch
    mean = hessians.mean(axis=0)
    values, vectors = np.linalg.eigh(mean)
    curvatures = np.einsum("ik,nij,jk->nk", vectors, hessians, vectors)
    limit = necessary_limit(curvatures, batch, num_rows=25, sampling=sampling)
    assert limit.lo == limit.value == limit.hi

    def growth(eta):  # of E|error|^2 along each eigenvector, one step from there
        noiseless = np.kron(one - eta * mean, one - eta * mean)
        total = sum(np.kron(one - eta * h, one - eta * h) for h in hessians) / len(hessians)
        operator = noiseless + weight * (total - noiseless)
        along = [np.kron(u, u) for u in vectors.T]
        return max(float(each @ operator @ each) for each in along)

    assert growth(0.999 * limit.value) < 1 < growth(1.001 * limit.value)
    assert limit.value < 2 / values[-1]


# catches: population variance for sample variance, an interval that misses, a direction
# that curves down taken as the minimum
def test_necessary_limit_from_a_sample():
    covered = []
    for seed in range(300):
        x = np.random.default_rng(seed).normal(size=(400, 2)) * [1, 0.5]
        found = necessary_limit(x**2, 4)
        covered.append(found.lo <= 2 / (1 + 2 / 4) <= found.hi)
    assert 0.90 < np.mean(covered) < 0.985
    x = np.random.default_rng(0).normal(size=(100, 1))
    mixed = necessary_limit(np.concatenate([x**2, -(x**2)], axis=1), 4)
    assert mixed.value == pytest.approx(necessary_limit(x**2, 4).value)
    assert any("curve down" in flag for flag in mixed.flags)
    assert not necessary_limit(-(x**2), 4).is_measured
    assert not necessary_limit(x[:1], 4).is_measured
    assert not necessary_limit(x * np.nan, 4).is_measured
    assert necessary_limit(np.ones((9, 1)), 4).value == pytest.approx(2.0)


# catches: a jackknife on other values than those with one row left out
def test_necessary_interval_is_the_jackknife():
    row = np.random.default_rng(0).exponential(size=8)

    def limit(values):
        return 2 * values.mean() / (values.mean() ** 2 + values.var(ddof=1) / 4)

    logs = [math.log(limit(np.delete(row, i))) for i in range(8)]
    error = math.sqrt(7 * np.var(logs))
    found = necessary_limit(row[:, None], 4)
    assert found.value == pytest.approx(limit(row))
    assert math.log(found.hi / found.value) == pytest.approx(stats.t.ppf(0.975, 7) * error)
    assert math.log(found.lo / found.value) == pytest.approx(-stats.t.ppf(0.975, 7) * error)


# catches: singular values for eigenvalues, uncentred columns, rotation "healed" by standardising
def test_condition_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2)) * [10, 1] + 100
    told = condition_number(x)
    assert told.before.lo < 100 < told.before.hi and told.after.value < 1.1
    rotated = x @ np.array([[1, 1], [-1, 1]]) / math.sqrt(2)
    told = condition_number(rotated)
    assert told.after.value == pytest.approx(told.before.value, rel=0.05)
    r = 0.9
    y = rng.normal(size=(20_000, 2))
    y[:, 1] = r * y[:, 0] + math.sqrt(1 - r * r) * y[:, 1]
    assert condition_number(y).after.lo < 19 < condition_number(y).after.hi
    scaled = condition_number(y * [1e-150, 1e-150])
    assert scaled.after.value == pytest.approx(condition_number(y).after.value)


@pytest.mark.slow
def test_condition_numbers_cover_and_refuse():
    covered = []
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=(500, 3)) * [1, 2, 4]
        found = condition_number(x).before
        covered.append(found.lo <= 16 <= found.hi)
    assert 0.9 < np.mean(covered) < 0.99
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[:, 1] = 7.1
    told = condition_number(x)
    assert "1 constant columns (1)" in told.after.reason and not told.before.is_measured
    x[:, 1] = x[:, 0] + 2 * x[:, 2]
    told = condition_number(x)
    assert "rank 2 of 3" in told.before.reason
    assert "rank 1 of 3" in condition_number(x[:2]).before.reason
    assert not condition_number(x[:1]).before.is_measured
    assert not condition_number(x * np.nan).before.is_measured
    assert condition_number(x[:, :1]).before.value == 1
