"""Critical batch size, sign updates and the smoothed noise scale.

Each test's comment names the wrong implementation that it catches.
"""

import json
import math

import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.noise.scale import Smoother, fit_critical_batch, sign_update_rate

SIZES = np.array([16.0, 64, 256, 1024, 8192])


# catches: axes swapped; absolute residuals, which the smallest batch dominates
def test_exact_law():
    found = fit_critical_batch(SIZES, 300 * (1 + 2000 / SIZES))
    assert found.min_steps.value == pytest.approx(300, rel=1e-9)
    assert found.min_examples.value == pytest.approx(600_000, rel=1e-9)
    assert found.batch_size.value == pytest.approx(2000, rel=1e-9)
    assert found.product == pytest.approx(1, rel=1e-9)
    assert found.largest_residual < 1e-9
    assert not any("bend" in flag for flag in found.batch_size.flags)


# catches: weights from the noisy steps themselves (2 % low), an interval without the covariance
@pytest.mark.parametrize("repeats", [1, 3])
def test_noisy_runs_are_covered(repeats):
    rng = np.random.default_rng(repeats)
    b = np.repeat(SIZES, repeats)
    held, values, bends = [], [], 0
    for _ in range(1000):
        steps = 300 * (1 + 2000 / b) * (1 + 0.1 * rng.standard_normal(len(b)))
        found = fit_critical_batch(b, steps)
        held.append(found.batch_size.lo <= 2000 <= (found.batch_size.hi or math.inf))
        values.append(found.min_examples.value)
        bends += any("bend" in flag for flag in found.batch_size.flags)
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.mean(values) == pytest.approx(600_000, rel=0.01)
    assert bends < 30


def test_a_bend_is_seen():
    flags = fit_critical_batch(SIZES, [20000, 9000, 4000, 1900, 700]).batch_size.flags
    assert any("bend" in flag for flag in flags)
    assert any("retuned" in flag for flag in flags)


def test_few_sizes():
    two = fit_critical_batch([16, 256], [1000, 100])
    assert two.min_steps.is_measured and two.min_steps.lo is None
    assert not two.batch_size.is_measured and "at least 3" in two.min_steps.flags[1]
    for sizes in ([], [16], [16, 16, 16]):
        assert not fit_critical_batch(sizes, [10.0] * len(sizes)).batch_size.is_measured
    # steps that fall faster than 1/B have no S_min
    rising = fit_critical_batch([16, 64, 256], [1600, 300, 60])
    assert not rising.batch_size.is_measured
    with pytest.raises(UsageError, match="num_steps"):
        fit_critical_batch([16, 64], [0, 3])
    with pytest.raises(UsageError, match="same shape"):
        fit_critical_batch([16, 64], [3])


# catches: erf at the wrong argument; diagonal counted twice; a rate that is not the best
@pytest.mark.parametrize("batch", [1, 16, 400])
def test_sign_rate_is_the_best_rate(batch):
    rng = np.random.default_rng(batch)
    mean, deviation = np.array([0.3, -0.1, 0.05]), np.array([1.0, 2.0, 0.5])
    h = np.array([[1.0, 0.3, 0.1], [0.3, 0.8, 0.2], [0.1, 0.2, 0.5]])
    signs = np.sign(mean + rng.standard_normal((400_000, 3)) * deviation / batch**0.5)
    slope, bend = (signs @ mean).mean(), np.einsum("ij,jk,ik->i", signs, h, signs).mean()
    found = sign_update_rate(mean, deviation, h, batch)
    assert found.rate == pytest.approx(slope / bend, rel=0.02)


def test_closed_form_and_its_regime():
    h = np.full((5, 5), 0.4) + 0.6 * np.eye(5)
    mean, deviation = np.full(5, 0.01), np.ones(5)
    small = sign_update_rate(mean, deviation, h, 9)
    assert small.rate == pytest.approx(small.small_signal_rate, rel=0.01)
    assert "holds" in small.regime
    peak = small.peak_batch
    near = [sign_update_rate(mean, deviation, h, peak * f).small_signal_rate for f in (0.8, 1, 1.2)]
    assert near[1] == max(near)
    large = sign_update_rate(mean, deviation, h, 1e6)
    assert "no longer" in large.regime
    assert large.rate == pytest.approx(5 * 0.01 / h.sum(), rel=1e-6)
    assert large.small_signal_rate < large.rate / 2
    assert "does not hold" in sign_update_rate(mean, deviation, h, 10_000).regime
    diagonal = sign_update_rate(mean, deviation, np.eye(5), 9)
    assert diagonal.peak_batch is None and diagonal.rate > 0
    assert sign_update_rate(mean, deviation, -np.eye(5), 9).rate is None
    with pytest.raises(UsageError, match="deviation"):
        sign_update_rate(mean, np.zeros(5), h, 9)
    with pytest.raises(UsageError, match="hessian"):
        sign_update_rate(mean, deviation, np.eye(4), 9)


# catches: no debiasing; unequal memories; clamped signals
def test_smoother_is_a_weighted_mean():
    rng = np.random.default_rng(0)
    signal, trace, weight = rng.normal(0.2, 1, 30), rng.normal(9, 1, 30), rng.uniform(1, 2, 30)
    smoother = Smoother(0.9)
    assert smoother.signal is smoother.trace is smoother.scale is None
    for s, t, w in zip(signal, trace, weight, strict=True):
        smoother.update(signal=s, trace=t, weight=w)
    w = weight * 0.9 ** np.arange(29, -1, -1)
    assert smoother.signal == pytest.approx(np.average(signal, weights=w), rel=1e-12)
    assert smoother.trace == pytest.approx(np.average(trace, weights=w), rel=1e-12)
    constant = Smoother(0.99)
    constant.update(signal=2.0, trace=8.0)
    assert (constant.signal, constant.trace, constant.scale) == (2.0, 8.0, 4.0)
    constant.update(signal=math.nan, trace=8.0)
    assert constant.num_updates == 1
    negative = Smoother(0.5)
    negative.update(signal=-1.0, trace=8.0)
    assert negative.signal == -1.0 and negative.scale is None


# catches: state that forgets the recent averages or the weights
def test_smoother_goes_on_from_json():
    rng = np.random.default_rng(1)
    one = Smoother(0.8)
    for x in rng.normal(1, 0.1, 20):
        one.update(signal=x, trace=10 * x)
    two = Smoother.from_json(json.loads(json.dumps(one.to_json())))
    for x in rng.normal(5, 0.1, 4):
        one.update(signal=x, trace=10 * x)
        two.update(signal=x, trace=10 * x)
    assert one.to_json() == two.to_json()
    assert one.is_lagging and two.is_lagging
    with pytest.raises(UsageError, match="missing recent"):
        Smoother.from_json({k: v for k, v in one.to_json().items() if k != "recent"})


@pytest.mark.parametrize("factor, lags", [(1.5, False), (4.0, True), (0.2, True), (0.7, False)])
def test_lag(factor, lags):
    smoother = Smoother(0.9)
    for k in range(60):
        smoother.update(signal=1.0 if k < 30 else factor, trace=1.0)
        if k == 39:
            assert smoother.is_lagging == lags
    assert not smoother.is_lagging
    for bad in (1.0, -0.1, math.nan):
        with pytest.raises(UsageError, match="rho"):
            Smoother(bad)
    with pytest.raises(UsageError, match="weight"):
        smoother.update(signal=1, trace=1, weight=0)
