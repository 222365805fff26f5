"""Escape times against walks that are run, closed forms and quadrature of another kind.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest
from scipy import integrate

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.escape import (
    escape_time,
    kramers_time,
    mean_first_passage,
    noise_free_steps,
    path_diffusion,
    saddle_escape,
    saddle_steps,
    saddle_steps_exact,
    saddle_steps_sd,
    saddle_variance,
)


def well(x):
    return x**4 / 4 - x**2 / 2


# catches: sd for variance, continuous time for steps, gamma lost, 2 lambda for lambda
def test_saddle_against_walks():
    rng = np.random.default_rng(0)
    eta, c, y = 0.01, 0.04, np.zeros(4000)  # 2 lambda rho^2 / D = 10^4
    left = np.zeros(4000)
    for k in range(1, 2500):
        y = np.where(left == 0, y * (1 + eta) - eta * math.sqrt(c) * rng.normal(size=4000), y)
        if k == 80:
            variance = saddle_variance(1.0, c, 80, learning_rate=eta)
            assert np.var(y) == pytest.approx(variance, rel=0.08)
        left[(left == 0) & (np.abs(y) > 1)] = k
        if (left > 0).all():
            break
    assert (left > 0).all()
    assert saddle_steps(1.0, c, 1.0, learning_rate=eta) == pytest.approx(489.4, rel=1e-4)
    assert left.mean() == pytest.approx(489.4, rel=0.02)
    assert left.std() == pytest.approx(saddle_steps_sd(1.0, learning_rate=eta), rel=0.06)
    assert saddle_steps_sd(1.0, learning_rate=eta) == pytest.approx(111.07207, rel=1e-7)
    weaker = saddle_steps(1.0, c / 1e4, 1.0, learning_rate=eta)
    assert weaker == pytest.approx(950, abs=1)


# catches: a double integral with the exponents' signs swapped, a jump between its two branches
@pytest.mark.parametrize("noise", [1e-8, 0.04, 0.5, 1.7, 50.0])
def test_saddle_integral_by_first_passage_and_quadrature(noise):
    eta, curvature, distance = 0.02, 1.5, 0.7
    spread = eta * noise / 2
    found = saddle_steps_exact(curvature, noise, distance, learning_rate=eta)
    x = np.linspace(0, distance, 401)
    passage = mean_first_passage(x, -curvature * x**2 / 2, spread)
    assert found == pytest.approx(passage / eta, rel=1e-6 if noise > 1e-6 else 1e-4)
    if noise >= 0.04:

        def density(z, y):
            return math.exp(curvature * (z * z - y * y) / (2 * spread)) / spread

        area = integrate.dblquad(density, 0, distance, 0, lambda y: y)[0]
        assert found == pytest.approx(area / eta, rel=1e-6)


# catches: G^k for e^k, a negative time from beyond the distance
def test_noise_free_saddle():
    y, steps = 1e-5, 0
    while y < 1:
        y, steps = y * 1.03, steps + 1
    found = noise_free_steps(0.3, 1e-5, 1.0, learning_rate=0.1)
    assert steps - 1 < found <= steps
    assert noise_free_steps(0.3, 0.0, 1.0, learning_rate=0.1) == math.inf
    assert noise_free_steps(0.3, 2.0, 1.0, learning_rate=0.1) == 0


# catches: no noise taken for little noise, lambda_min > 0 called a saddle, ends swapped, phi lost
def test_saddle_verdicts():
    settings = {"learning_rate": 0.01, "batch_size": 10, "distance": 1.0}
    told = saddle_escape(-1.0, 0.4, **settings)
    assert told.steps.value == pytest.approx(489.4, rel=1e-3) and told.verdict.startswith("strict")
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
    assert stuck.verdict.startswith("stuck exactly") and not stuck.steps.is_measured
    full = saddle_escape(-1.0, 0.4, **{**settings, "batch_size": 30}, num_rows=30,
                         sampling="reshuffled", offset=0.1)  # fmt: skip
    assert full.verdict.startswith("stuck exactly")
    assert full.noise_free_steps == pytest.approx(math.log(10) / math.log(1.01))
    assert saddle_escape(0.5, 0.4, **settings).verdict.startswith("no saddle")
    open_ = saddle_escape(Estimate(value=-0.1, lo=-0.3, hi=0.1, unit=""), 0.4, **settings)
    assert open_.verdict.startswith("open") and not open_.steps.is_measured
    assert not saddle_escape(not_estimable("x", unit=""), 0.4, **settings).steps.is_measured
    assert not saddle_escape(-1.0, math.nan, **settings).steps.is_measured
    away = saddle_escape(
        -1.0, 0.4, gradient_square=Estimate(value=1, lo=0.5, hi=2, unit=""), **settings
    )
    assert any("not 0" in flag for flag in away.steps.flags)


def test_known_first_passage():
    x = np.linspace(-3, 3, 401)
    for temperature, truth in ((0.07, 183.67994), (0.04, 2483), (0.05, 730), (0.1, 66)):
        found = mean_first_passage(x, well(x), temperature, start=-1, target=1)
        assert found == pytest.approx(truth, rel=1e-4 if temperature == 0.07 else 5e-3)
        back = mean_first_passage(x, well(x), temperature, start=1, target=-1)
        assert back == pytest.approx(found, rel=1e-6)
    assert kramers_time(0.25, 2, 1, 0.07) == pytest.approx(158, abs=0.5)
    assert mean_first_passage(x, well(x), 1e-4, start=-1, target=1) == math.inf


# catches: a mirror that forgets the losses or the diffusion
def test_either_direction():
    x = np.linspace(-2.5, 3, 301)
    losses, diffusion = well(x) + 0.1 * x, 0.1 + 0.02 * x
    there = mean_first_passage(x, losses, diffusion, start=-1, target=1)
    back = mean_first_passage(-x[::-1], losses[::-1], diffusion[::-1], start=1, target=-1)
    assert back == pytest.approx(there, rel=1e-9)
    assert mean_first_passage(x, losses, diffusion, start=1, target=-1) < 0.9 * there


# catches: D for 2D, a wall that absorbs, drift with the wrong sign
def test_first_passage_closed_forms():
    x = [0.0, 1.0, 2.0]
    assert mean_first_passage(x, [0, 0, 0], 0.3) == pytest.approx(4 / 0.6)
    assert mean_first_passage(x, [0, 0, 0], 0.3, start=2, target=0) == pytest.approx(4 / 0.6)
    assert mean_first_passage(x, [0, 0, 0], 0.3, start=1) == pytest.approx((4 - 1) / 0.6)
    for slope in (-2.0, 2.0):  # loss = slope x: downhill, uphill
        d, s = 0.3, slope
        truth = d / s**2 * (math.exp(2 * s / d) - 1) - 2 / s
        found = mean_first_passage([0, 1, 2], [0, s, 2 * s], d)
        assert found == pytest.approx(truth, rel=1e-7)
        assert mean_first_passage([0, 2], [0, 2 * s], d) == pytest.approx(truth, rel=1e-7)


def loss_noise_time(a, floor):
    """-1 -> +1 with D = a (V + 1/4 + floor): there exp(psi) is a power of the loss."""

    def loss(x):
        return well(x) + 0.25 + floor

    def inner(y):
        points = [p for p in (-1.0, 0.0, 1.0) if p < y]
        return integrate.quad(lambda z: loss(z) ** (-1 / a - 1) / a, -4, y, points=points,
                              epsrel=1e-10, limit=400)[0]  # fmt: skip

    return integrate.quad(lambda y: loss(y) ** (1 / a) * inner(y), -1, 1, epsrel=1e-8)[0]


# catches: Stratonovich for Ito, D outside the inner integral, psi = V/D for varying D
@pytest.mark.parametrize(("a", "floor"), [(0.5, 0.1), (0.25, 0.05), (1.0, 0.02)])
def test_noise_in_proportion_to_the_loss(a, floor):
    x = np.linspace(-4, 4, 801)
    losses = well(x) + 0.25 + floor
    truth = loss_noise_time(a, floor)
    found = mean_first_passage(x, losses, a * losses, start=-1, target=1)
    assert found == pytest.approx(truth, rel=1e-4)
    settings = {"learning_rate": 0.1, "start": -1, "target": 1}
    for diffusion, model in (
        (a * losses, "measured"),
        (a * losses, "proportional to loss"),
        (a * floor, "proportional to loss"),
    ):
        told = escape_time(x, losses, diffusion, noise_model=model, **settings)
        assert told.time.value == pytest.approx(truth, rel=1e-4)
        assert told.steps.value == pytest.approx(truth / 0.1, rel=1e-4)
        assert told.noise_model == model and not told.kramers_steps.is_measured


# catches: e^(dV/T) where the law is a power of the loss at the minimum
def test_power_law_in_the_loss_ratio():
    x, a = np.linspace(-3, 3, 2401), 0.2
    floors = np.array([1e-3, 1.1e-3])
    times = []
    for floor in floors:
        losses = well(x) + 0.25 + floor
        times.append(mean_first_passage(x, losses, a * losses, start=-1, target=1))
    slope = np.diff(np.log(times))[0] / np.diff(np.log(floors))[0]
    middle = floors.mean()
    assert slope == pytest.approx(-(1 / a + 0.5) + middle / (0.25 + middle) / a, rel=0.02)


# catches: the simulated walk not the one described (time for steps, D for 2 D)
def test_first_passage_against_walks():
    rng = np.random.default_rng(0)
    eta, temperature, y = 0.02, 0.1, np.full(3000, -1.0)
    left = np.zeros(3000)
    for k in range(1, 60_000):
        y = y - eta * (y**3 - y) + math.sqrt(2 * eta * temperature) * rng.normal(size=len(y))
        out = y >= 1
        if out.any():
            left[np.flatnonzero(left == 0)[out]] = k
            y = y[~out]
        if not len(y):
            break
    assert (left > 0).all()
    x = np.linspace(-3, 3, 201)
    told = escape_time(x, well(x), temperature, noise_model="constant", learning_rate=eta,
                       start=-1, target=1)  # fmt: skip
    # the walk is seen at whole steps only: it reaches the target some 4 % later
    assert told.steps.value == pytest.approx(left.mean(), rel=0.08)
    assert told.barrier == pytest.approx(0.25, abs=1e-4)
    assert told.barrier_over_temperature == pytest.approx(2.5, abs=1e-3)
    assert any("low barrier" in flag for flag in told.time.flags)
    assert told.kramers_steps.value == pytest.approx(kramers_time(0.25, 2, 1, 0.1) / eta, rel=1e-3)


# catches: a coarse path, a halved well or a vanishing noise passed over in silence
def test_escape_flags_and_refusals():
    settings = {"learning_rate": 0.1, "noise_model": "constant", "start": -1, "target": 1}
    x = np.linspace(-2, 2, 9)
    coarse = escape_time(x, well(x), 0.03, **settings)
    assert any("coarse" in flag for flag in coarse.steps.flags)
    x = np.linspace(-1, 1, 81)
    halved = escape_time(x, well(x), 0.03, **settings)
    assert any("2 times too short" in flag for flag in halved.steps.flags)
    x = np.linspace(-2.5, 2.5, 101)
    fine = escape_time(x, well(x), 0.03, **settings)
    assert not any("coarse" in f or "too short" in f for f in fine.steps.flags)
    assert halved.steps.value == pytest.approx(
        fine.steps.value / 2, rel=0.15
    )  # wells are not symmetric
    never = escape_time(x, well(x), 1e-4, **settings)
    assert not never.steps.is_measured and never.steps.lo and "never" in str(never.steps.reason)
    d = np.where(np.abs(x) < 0.1, 0.0, 0.1)
    dead = escape_time(x, well(x), d, learning_rate=0.1)
    assert not dead.steps.is_measured and "vanishes" in str(dead.steps.reason)
    for losses in (well(x) * np.nan, np.full(101, np.inf)):
        assert not escape_time(x, losses, d, learning_rate=0.1).steps.is_measured
    negative = escape_time(x, well(x), 0.1, learning_rate=0.1, noise_model="proportional to loss")
    assert not negative.steps.is_measured and "above 0" in str(negative.steps.reason)
    for wrong, match in (
        ({"diffusion": 0.1}, "one number"),
        ({"diffusion": -d}, "0 or more"),
        ({"losses": well(x)[1:]}, "one shape"),
        ({"start": -9.0}, "start"),
        ({"noise_model": "white"}, "noise_model"),
        ({"positions": x[::-1]}, "increasing"),
    ):
        good = {"positions": x, "losses": well(x), "diffusion": d + 1, "learning_rate": 0.1}
        with pytest.raises(UsageError, match=match):
            escape_time(**{**good, **wrong})
    found = path_diffusion(
        [4.0], learning_rate=0.1, batch_size=5, num_rows=9, sampling="reshuffled"
    )
    assert found == pytest.approx(0.1 * 4 / 10 * (4 / 8))
