"""Steps at a saddle against walks, quadrature and closed forms.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest
from scipy import integrate

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.escape import noise_free_steps, saddle_escape


def steps(curvature, noise, distance, rate):
    return saddle_escape(
        -curvature, noise, learning_rate=rate, batch_size=1, distance=distance
    ).steps.value


# catches: sd for variance, gamma lost, 2 lambda for lambda
def test_mean_steps_of_walks():
    rng = np.random.default_rng(0)
    eta, c, y = 0.01, 0.04, np.zeros(4000)  # 2 lambda rho^2 / D = 10^4
    left = np.zeros(4000)
    for k in range(1, 2500):
        y = np.where(left == 0, y * (1 + eta) - eta * math.sqrt(c) * rng.normal(size=4000), y)
        left[(left == 0) & (np.abs(y) > 1)] = k
        if (left > 0).all():
            break
    assert (left > 0).all()
    assert steps(1.0, c, 1.0, eta) == pytest.approx(left.mean(), rel=0.02)
    assert steps(1.0, c / 1e4, 1.0, eta) == pytest.approx(950, abs=1)


# catches: a double integral with the exponents' signs swapped, a jump between its two branches
@pytest.mark.parametrize("noise", [0.04, 0.5, 1.7, 50.0])
def test_integral_by_quadrature(noise):
    eta, curvature, distance = 0.02, 1.5, 0.7
    spread = eta * noise / 2

    def density(z, y):
        return math.exp(curvature * (z * z - y * y) / (2 * spread)) / spread

    area = integrate.dblquad(density, 0, distance, 0, lambda y: y)[0]
    assert steps(curvature, noise, distance, eta) == pytest.approx(area / eta, rel=1e-6)


@pytest.mark.parametrize("noise", [1e-8, 1e-3])
def test_integral_far_from_the_noise(noise):
    eta, curvature, distance = 0.02, 1.5, 0.7
    reach = 2 * curvature * distance**2 / (eta * noise / 2)
    law = (math.log(reach) + 0.5772156649) / (2 * eta * curvature)
    assert steps(curvature, noise, distance, eta) == pytest.approx(law, rel=1e-4)


# catches: G^k for e^k, a negative time from beyond the distance
def test_noise_free_saddle():
    y, count = 1e-5, 0
    while y < 1:
        y, count = y * 1.03, count + 1
    assert count - 1 < noise_free_steps(0.3, 1e-5, 1.0, learning_rate=0.1) <= count
    assert noise_free_steps(0.3, 0.0, 1.0, learning_rate=0.1) == math.inf
    assert noise_free_steps(0.3, 2.0, 1.0, learning_rate=0.1) == 0


# catches: no noise taken for little noise, lambda_min > 0 called a saddle, ends swapped, phi lost
def test_verdicts():
    settings = {"learning_rate": 0.01, "batch_size": 10, "distance": 1.0}
    strict = saddle_escape(-1.0, 0.4, **settings)
    assert strict.steps.value == pytest.approx(489.4, rel=1e-3)
    assert strict.verdict.startswith("strict")
    half = saddle_escape(-1.0, 0.4, num_rows=19, sampling="reshuffled", **settings)
    assert half.steps.value == pytest.approx(489.4 + 50 * math.log(2), rel=1e-3)
    noisy = saddle_escape(
        Estimate(value=-1.0, lo=-1.2, hi=-0.8, unit=""),
        Estimate(value=0.4, lo=0.2, hi=0.8, unit=""), **settings,
    )  # fmt: skip
    low = saddle_escape(-1.2, 0.8, **settings).steps.value
    high = saddle_escape(-0.8, 0.2, **settings).steps.value
    assert (noisy.steps.lo, noisy.steps.hi) == pytest.approx((low, high))
    stuck = saddle_escape(-1.0, 0.0, **settings)
    assert stuck.verdict.startswith("stuck") and not stuck.steps.is_measured
    whole = saddle_escape(-1.0, 0.4, learning_rate=0.01, batch_size=30, distance=1.0, num_rows=30,
                          sampling="reshuffled")  # fmt: skip
    assert whole.verdict.startswith("stuck")
    assert saddle_escape(0.5, 0.4, **settings).verdict.startswith("no saddle")
    unclear = saddle_escape(Estimate(value=-0.1, lo=-0.3, hi=0.1, unit=""), 0.4, **settings)
    assert unclear.verdict.startswith("undecided") and not unclear.steps.is_measured
    assert not saddle_escape(not_estimable("x", unit=""), 0.4, **settings).steps.is_measured
    assert not saddle_escape(-1.0, math.nan, **settings).steps.is_measured
    away = saddle_escape(
        -1.0, 0.4, gradient_square=Estimate(value=1, lo=0.5, hi=2, unit=""), **settings
    )
    assert any("not 0" in flag for flag in away.steps.flags)
    with pytest.raises(UsageError, match="noise_variance"):
        saddle_escape(-1.0, -1.0, **settings)
    with pytest.raises(UsageError, match="learning_rate"):
        saddle_escape(-1.0, 1.0, learning_rate=0.0, batch_size=1, distance=1.0)
