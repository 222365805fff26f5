"""Variance, angle, bias and one step of mini-batch gradients against simulation.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest
from scipy import stats

from downslope.errors import UsageError
from downslope.noise.gradient import batch_variance, bias_check, expected_angle, one_step_change
from downslope.noise.scale import curvature_weighted


# catches: divisor N for N - 1; the factor applied to S
@pytest.mark.parametrize("batch_size", [5, 30, 55, 60])
def test_batch_variance_of_a_data_set(batch_size):
    rng = np.random.default_rng(batch_size)
    rows = rng.standard_normal((60, 4)) * [2.0, 1.0, 1.0, 0.5]
    order = rng.permuted(np.tile(np.arange(60), (20000, 1)), axis=1)[:, :batch_size]
    distance = ((rows[order].mean(1) - rows.mean(0)) ** 2).sum(1)
    found = batch_variance(rows, batch_size, num_rows=60)
    assert found.value == pytest.approx(distance.mean(), rel=0.03, abs=1e-12)
    free = batch_variance(rows, batch_size)
    assert free.value == pytest.approx(np.trace(np.cov(rows.T)) / batch_size, rel=1e-12)
    for bad in (0, 61):
        with pytest.raises(UsageError, match="batch_size"):
            batch_variance(rows, bad, num_rows=60)


# catches: cosine of one batch with the full gradient; B where B_simple belongs
def test_angle_of_two_batches():
    rng = np.random.default_rng(0)
    d, batch_size = 400, 16
    g = np.full(d, math.sqrt(400 / 32 / d))  # B_simple = 32
    one, two = g + rng.standard_normal((2, 500, d)) / batch_size**0.5
    dots = (one * two).sum(1)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    report = expected_angle(g + rng.standard_normal((2000, d)), batch_size)
    assert report.cosine.value == pytest.approx((dots / lengths).mean(), rel=0.05)
    angle = np.degrees(np.arccos(dots / lengths)).mean()
    assert report.angle_degrees.value == pytest.approx(angle, abs=2)
    assert report.angle_degrees.lo < angle < report.angle_degrees.hi
    assert report.probability_obtuse.value < 1e-6 and not report.probability_obtuse.flags


# catches: variance of a product without its second term; 1/B for 1/B^2
def test_chance_of_an_obtuse_angle():
    rng = np.random.default_rng(1)
    d, batch_size = 40, 2
    g = np.full(d, 0.35)
    one, two = g + rng.standard_normal((2, 20000, d)) * 2 / batch_size**0.5
    truth = ((one * two).sum(1) < 0).mean()
    assert 0.02 < truth < 0.4
    found = expected_angle(g + 2 * rng.standard_normal((4000, d)), batch_size).probability_obtuse
    assert found.value == pytest.approx(truth, abs=0.02)
    assert found.lo - 0.01 < truth < found.hi + 0.01


def test_chance_in_one_dimension():
    rng = np.random.default_rng(2)
    one, two = 0.7 / 4**0.5 + rng.standard_normal((2, 200_000, 4))
    truth = (one.mean(1) * two.mean(1) < 0).mean()
    report = expected_angle(0.35 + rng.standard_normal(20000), batch_size=4)
    assert report.probability_obtuse.value == pytest.approx(truth, abs=0.01)
    few = expected_angle(0.35 + rng.standard_normal((500, 2)), batch_size=4)
    assert "rough" in few.probability_obtuse.flags[0]


def test_angle_of_pure_noise_is_a_bound():
    report = expected_angle(np.random.default_rng(1).standard_normal((50, 30)), 8)
    assert report.cosine.value is None and report.cosine.hi < 1
    assert report.angle_degrees.lo is not None
    assert report.probability_obtuse.hi == pytest.approx(0.5)


# catches: B_simple; a biased G^T H G
@pytest.mark.parametrize("batched", [False, True])
def test_curvature_weighted(batched):
    rng = np.random.default_rng(13)
    h = np.diag([4.0, 1.0, 0.5, 0.1])
    variances, g = np.array([0.2, 1.0, 1.0, 3.0]), np.array([0.5, 0.5, 1.0, 1.0])
    truth = np.trace(h @ np.diag(variances)) / (g @ h @ g)
    product = (lambda v: v @ h) if batched else (lambda v: h @ v)
    found = [
        curvature_weighted(
            g + rng.standard_normal((200, 4)) * variances**0.5, product, batched=batched
        )
        for _ in range(1000)
    ]
    assert np.mean([m.value for m in found]) == pytest.approx(truth, rel=0.03)
    assert 0.93 <= np.mean([m.lo <= truth <= m.hi for m in found]) <= 0.97


def test_curvature_without_a_valley_is_unresolved():
    rng = np.random.default_rng(4)
    g = 1.0 + rng.standard_normal((100, 2))
    assert not curvature_weighted(g, lambda v: -v).is_measured
    assert not curvature_weighted(g, lambda v: v * np.nan).is_measured
    assert not curvature_weighted(np.ones((9, 2)), lambda v: v).is_measured
    with pytest.raises(UsageError, match="hessian_product"):
        curvature_weighted(g, lambda v: v[:1])


def simulated_steps(g, variances, h, rate, batch, rng, num=200_000):
    drawn = g + rng.standard_normal((num, len(g))) * np.sqrt(variances / batch)
    move = -rate * drawn
    return move @ g + 0.5 * ((move @ h) * move).sum(1)


# catches: the noise's part of the curvature left out; eta for eta^2; a chance of one half always
@pytest.mark.slow
@pytest.mark.parametrize("rank", ["low", "high"])
def test_one_step(rank):
    rng = np.random.default_rng(5)
    if rank == "low":
        variances, h = np.array([4.0, 1.0]), np.array([[3.0, 0.5], [0.5, 1.0]])
        g, rate, batch = np.array([0.6, 0.6]), 0.15, 2
    else:
        variances, h = np.full(60, 1.0), np.diag(np.linspace(0.1, 2, 60))
        g, rate, batch = np.full(60, 0.25), 0.6, 8
    changes = simulated_steps(g, variances, h, rate, batch, rng)
    change, up, expected, chance = [], [], changes.mean(), (changes > 0).mean()
    assert 0.1 < chance < 0.9
    for _ in range(40):
        rows = g + rng.standard_normal((400, len(g))) * variances**0.5
        step = one_step_change(rows, lambda v: h @ v, learning_rate=rate, batch_size=batch)
        change.append(step.change)
        up.append(step.probability_up)
    values = np.array([m.value for m in change])
    assert abs(values.mean() - expected) < 4 * values.std() / 40**0.5 + 0.01 * abs(expected)
    assert np.mean([m.value for m in up]) == pytest.approx(chance, abs=0.025)
    assert np.mean([m.lo <= expected <= m.hi for m in change]) >= 0.85
    assert np.mean([m.lo <= chance <= m.hi for m in up]) >= 0.85


def test_one_step_in_one_dimension_is_exact():
    rng = np.random.default_rng(6)
    rows = rng.standard_normal(4000)
    rows = 1 + 2 * (rows - rows.mean()) / rows.std(ddof=1)
    step = one_step_change(rows[:, None], lambda v: v, learning_rate=0.5, batch_size=1)
    assert step.change.value == pytest.approx(-0.5 + 0.125 * 5, abs=2e-3)
    truth = stats.norm.cdf(-0.5) + stats.norm.sf(1.5)
    assert step.probability_up.value == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize(
    "rows", [np.ones((50, 2)), np.zeros((50, 2)), np.eye(5), np.full((30, 2), np.nan)]
)
def test_one_step_of_nothing(rows):
    step = one_step_change(rows, lambda v: v, learning_rate=0.1, batch_size=4)
    assert not step.change.is_measured and not step.probability_up.is_measured
    with pytest.raises(UsageError, match="learning_rate"):
        one_step_change(rows, lambda v: v, learning_rate=0, batch_size=4)


# catches: a test that rejects sound samplers, or that never rejects
@pytest.mark.parametrize("d", [1, 3, 120])
def test_bias_check(d):
    rng = np.random.default_rng(d)
    variances = np.linspace(0.2, 1, d)
    full = np.full(d, 0.3)
    p, held = [], []
    for _ in range(1000):
        check = bias_check(full + rng.standard_normal((50, d)) * variances**0.5, full)
        p.append(check.p_value)
        held.append(check.square_bias.lo <= 0 <= check.square_bias.hi)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07
    shift = np.sqrt(variances) * 0.5 / d**0.25
    found = [
        bias_check(full + shift + rng.standard_normal((50, d)) * variances**0.5, full)
        for _ in range(200)
    ]
    assert np.mean([c.p_value < 0.05 for c in found]) > 0.8
    values = np.array([c.square_bias.value for c in found])
    assert abs(values.mean() - shift @ shift) < 4 * values.std() / 200**0.5


def test_bias_check_of_one_parameter_is_the_t_test():
    rows = np.random.default_rng(0).standard_normal((20, 1))
    truth = stats.ttest_1samp(rows[:, 0], 0.1).pvalue
    assert bias_check(rows, np.array([0.1])).p_value == pytest.approx(truth, rel=1e-9)
    assert bias_check(np.ones((9, 2)), np.zeros(2)).p_value is None
    with pytest.raises(UsageError, match="full_gradient"):
        bias_check(rows, np.zeros(2))
