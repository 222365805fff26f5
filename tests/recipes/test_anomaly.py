"""Parts of the anomaly detector against truths in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from downslope import DataError, UsageError
from downslope.recipes.anomaly import find_period, model
from downslope.recipes.anomaly.simulate import KINDS, LASTING, beam, plant
from downslope.recipes.anomaly.spectral import spectrum_of
from downslope.recipes.anomaly.threshold import calibrate, clopper_pearson, windows_needed
from downslope.recipes.anomaly.windows import layout_for

SIZES = {
    "encode": (64, 1),
    "decode": (1, 64),
    "bend_in": (1, 32),
    "bend_bias": 32,
    "bend_out": (32, 64),
    "bias": 64,
}


def rings(draw, count):
    """Windows [count, 64] of a tone and an overtone that follows it: a circle in two numbers."""
    angle = draw.uniform(0, 2 * np.pi, size=(count, 1)) + 2 * np.pi * np.arange(64) / 16
    return np.cos(angle) + 0.5 * np.cos(2 * angle) + 0.05 * draw.normal(size=(count, 64))


@pytest.mark.parametrize("period", [2.7, 1 / 0.31, 12.5, 101.3])
def test_the_interval_holds_the_period(period):
    """Catches a period rounded to samples, and an interval of the wrong width."""
    held = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        turns = np.arange(8000)
        x = np.cos(2 * np.pi * (turns / period + draw.uniform())) + 0.5 * draw.normal(size=8000)
        found = find_period(x)
        assert found.value == pytest.approx(period, rel=2e-3)
        held += found.lo <= period <= found.hi
    assert held >= 17  # of 20 at 95 %; fewer than 17 has a chance of 1.6 %


def test_the_fundamental_is_found_under_a_stronger_overtone():
    """Catches the period of the strongest line, a third of the beat's."""
    turns = np.arange(9000)
    x = 0.5 * np.cos(2 * np.pi * turns / 60) + np.cos(2 * np.pi * turns / 20 + 1)
    x += 0.1 * np.random.default_rng(0).normal(size=9000)
    assert find_period(x).value == pytest.approx(60, rel=1e-3)


@pytest.mark.parametrize(
    ("signal", "why"),
    [
        (np.ones(1000), "constant"),
        (np.arange(10.0), "samples"),
        (np.random.default_rng(0).normal(size=5000), "no line"),
        (np.cumsum(np.random.default_rng(0).normal(size=5000)), ""),
        (np.cos(1e-3 * np.arange(20000.0) ** 1.5), ""),
    ],
)
def test_no_period_has_a_reason(signal, why):
    """Catches a period read from noise, a random walk, a chirp."""
    found = find_period(signal)
    assert found.value is None and why in found.reason


@pytest.mark.parametrize("period", [2.0, 3.2258, 12.5, 70.0, 90.9])
def test_windows_do_not_walk_away_from_the_period(period):
    """Catches a hop rounded to samples, whose error would grow with the signal."""
    layout = layout_for(period)
    starts = layout.starts(1_000_000)
    places = (starts / period + 0.5) % 1 - 0.5
    assert np.abs(places).max() * period <= 0.5 + 1e-6
    assert layout.length >= 2 * period - 1 and layout.length >= 62
    assert starts[-1] + layout.length <= 1_000_000 < layout.start(len(starts)) + layout.length
    begun = np.histogram((layout.swept(1_000_000) / period) % 1, bins=2)[0]
    assert begun.min() > 0.4 * begun.sum()


@pytest.mark.parametrize("period", [1.9, 0, -3, math.nan, math.inf])
def test_a_period_out_of_range(period):
    with pytest.raises(UsageError, match="period must be a finite number of at least 2"):
        layout_for(period)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 50), (50, 50), (1, 999)])
def test_clopper_pearson_by_its_definition(hits, trials):
    """Its ends are the shares at which the tails of the binomial are 2.5 %."""
    low, high = clopper_pearson(hits, trials)
    if hits > 0:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.025)


@pytest.mark.slow
def test_the_threshold_keeps_its_rate():
    """Uniform scores: the rate beyond a threshold t is 1 - t. Catches an index one off."""
    draw = np.random.default_rng(0)
    rates = [1 - calibrate(draw.uniform(size=199), 0.01).value for _ in range(4000)]
    # k = 2 of 199: the rate is a Beta(2, 198), mean 0.01, standard deviation 0.007
    assert np.mean(rates) == pytest.approx(0.01, abs=4 * 0.007 / math.sqrt(4000))


def test_what_cannot_be_counted_is_not_stated():
    """Catches a rate of 0.1 % said of 998 windows, and overlapping windows counted as many."""
    scores = np.random.default_rng(0).exponential(size=4995)
    assert windows_needed(1e-3) == 999
    assert calibrate(scores[:999], 1e-3).rate.value == pytest.approx(1e-3)
    short = calibrate(scores[:998], 1e-3)
    assert short.rate.value is None and "needs 999" in short.rate.reason
    assert short.rate.hi == pytest.approx(1 - 0.025 ** (1 / 998))
    assert short.value >= scores[:998].max()
    assert calibrate(scores, 1e-3, overlap=5).rate.is_measured
    assert not calibrate(scores, 1e-3, overlap=6).rate.is_measured
    wide, narrow = calibrate(scores, 0.01, overlap=5).rate, calibrate(scores, 0.01).rate
    assert wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)


def test_a_rate_out_of_range():
    with pytest.raises(UsageError, match="false_alarm_rate must be a number above 0"):
        calibrate(np.ones(5), 1.0)
    with pytest.raises(DataError, match="no normal windows"):
        calibrate(np.ones(0), 0.1)


def test_training_begins_at_the_principal_components():
    """Catches components in the wrong order, and a bend that is not zero at first."""
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.normal(size=(64, 3)))[0]
    x = draw.normal(size=(2000, 3)) * [9, 6, 3] @ basis.T + 0.1 * draw.normal(size=(2000, 64))
    begun = model.straight(x, code=None, seed=0)
    assert begun["encode"].shape == (64, 3)
    left = x - model.rebuild(begun, x)
    assert left.var() == pytest.approx(0.01 * 61 / 64, rel=0.02)


def test_fewer_windows_than_samples_have_the_same_components():
    """Catches the smaller square's vectors left unscaled, or in its own order."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 3)) * [9, 6, 3] @ draw.normal(size=(3, 90))
    found = model.straight(x, code=3, seed=0)
    np.testing.assert_allclose(found["encode"].T @ found["encode"], np.eye(3), atol=1e-5)
    np.testing.assert_allclose(model.rebuild(found, x), x, atol=1e-3)


def test_a_component_has_sixteen_windows_or_more():
    """Catches a code of a quarter of the samples, which so few windows cannot teach."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(160, 40)) @ draw.normal(size=(40, 200))
    assert model.straight(x, code=None, seed=0)["encode"].shape[1] == 10
    assert model.straight(x[:5], code=None, seed=0)["encode"].shape[1] == 1


def test_a_solved_bend_sees_what_follows_from_the_code():
    """The overtone of a circle: an eighth of the power is left by two straight numbers."""
    x = rings(np.random.default_rng(0), 4000)
    line = model.straight(x, code=2, seed=0)
    curve = model.bent(line, x)
    before, after = (((x - model.rebuild(m, x)) ** 2).mean() for m in (line, curve))
    assert before == pytest.approx(0.125 + 0.05**2, rel=0.02)
    assert after < 0.1 * before
    found = model.gain(line, curve, rings(np.random.default_rng(1), 400), overlap=1)
    assert found.lo < 1 - after / before < found.hi


def test_the_gain_is_the_share_of_error_that_is_gone():
    """Noise about a constant: telling the constant removes c^2 of c^2 + s^2."""
    nothing = {name: np.zeros(size) for name, size in SIZES.items()}
    told = nothing | {"bias": np.ones(64)}
    held = 0
    for seed in range(60):
        x = 1 + 2 * np.random.default_rng(seed).normal(size=(120, 64))
        found = model.gain(nothing, told, x, overlap=1)
        held += found.lo <= 1 / 5 <= found.hi
    assert held >= 52  # of 60 at 95 %; fewer has a chance of 1 %
    half = nothing | {"encode": np.eye(64)[:, :1], "decode": 0.5 * np.eye(64)[:1]}
    sure = model.gain(nothing, half, x * np.eye(64)[0], overlap=1)  # a quarter is left of each
    assert sure.value == pytest.approx(0.75) and sure.hi - sure.lo < 1e-9
    few = model.gain(nothing, told, x[:116], overlap=4)
    assert few.value is None and "29 held-out windows" in few.reason
    wide = model.gain(nothing, told, x, overlap=4)
    once = model.gain(nothing, told, x, overlap=1)
    assert wide.hi - wide.lo > 1.9 * (once.hi - once.lo)


def test_merged_spectra_are_those_of_all_windows():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 64)) * np.linspace(1, 3, 300)[:, None]
    whole, merged = spectrum_of(x), spectrum_of(x[:37]).merged(spectrum_of(x[37:]))
    np.testing.assert_allclose(merged.mean, whole.mean)
    np.testing.assert_allclose(merged.spread, whole.spread)


def test_the_beam_decoheres_as_many_particles_do():
    """The Gaussian factor against particles summed one by one."""
    tunes = 0.31 + 2e-3 * np.random.default_rng(0).normal(size=20_000)
    n = np.arange(200)
    alone = beam(
        200, amplitude=0, kick=1, kick_every=1, tune_spread=2e-3, harmonics=(), noise=0, seed=0
    )
    assert np.ptp(np.abs(np.diff(alone))) > 0  # a kick each turn: random phases
    x = beam(9000, amplitude=0, kick=1, kick_every=3000, tune_spread=2e-3, harmonics=(), noise=0)
    quiet = np.abs(x) < 1e-9  # long after a kick nothing is left
    begin = int(np.flatnonzero(quiet[:-1] & ~quiet[1:])[0]) + 1
    powers = [(x[begin + k : begin + k + 30] ** 2).mean() for k in (0, 80, 160)]
    many = np.array([np.exp(2j * np.pi * tunes * m).mean() for m in n])
    known = [(np.abs(many[k : k + 30]) ** 2).mean() / 2 for k in (0, 80, 160)]
    np.testing.assert_allclose(powers, known, rtol=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_an_anomaly_stays_where_it_is_planted(kind):
    x = beam(4000)
    changed = np.flatnonzero(plant(x, kind, at=1500) != x)
    assert changed.min() >= 1500 and changed.max() < 1500 + LASTING[kind]
    assert len(changed) >= 0.9 * LASTING[kind]
    with pytest.raises(UsageError, match="leave room"):
        plant(x, kind, at=4000)
