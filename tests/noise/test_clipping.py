"""Clipping: its threshold, how often it acts, and the bias it brings, against exact means.

Each comment names the wrong implementation that the test catches.
"""

import json
import warnings

import numpy as np
import pytest
from scipy import optimize, stats

from downslope.errors import UsageError
from downslope.noise.tails import (
    NormQuantile,
    NormWindow,
    clip_factors,
    clip_fraction,
    clipped_mean,
    clipping_bias,
)


# catches: the tail left out of the integral; the density for the distribution function
@pytest.mark.parametrize(
    ("threshold", "bias"), [(1, -0.137), (3, -0.040), (10, -0.0071), (30, -0.0014), (100, -0.0002)]
)
def test_bias_in_one_dimension(threshold, bias):
    law = stats.t(1.5, loc=0.3)
    assert clipped_mean(law.cdf, threshold) - 0.3 == pytest.approx(bias, rel=0.03, abs=6e-5)
    x = law.rvs(2_000_000, random_state=0)
    drawn = np.clip(x, -threshold, threshold)
    exact = clipped_mean(law.cdf, threshold)
    assert drawn.mean() == pytest.approx(exact, abs=4 * drawn.std() / len(x) ** 0.5)


# catches: clipping about the median or mean in place of 0
@pytest.mark.parametrize(("threshold", "moved"), [(0.5, 0.267), (1, 0.160), (2, 0.053), (4, 0.008)])
def test_stationary_point_of_skewed_noise(threshold, moved):
    def mean_clipped(shift):
        return clipped_mean(lambda x: stats.expon.cdf(x + 1 - shift), threshold)

    at = optimize.brentq(mean_clipped, -1, 1)
    assert at == pytest.approx(moved, abs=2e-3)  # by simulation; exact where only the top is cut:
    if threshold >= 1:
        assert at == pytest.approx(np.exp(-(1 + threshold - at)), rel=1e-6)


# catches: a narrow law missed by the quadrature
def test_narrow_law():
    assert clipped_mean(stats.norm(1, 1e-3).cdf, 100) == pytest.approx(1, rel=1e-6)


def gradients_in(rng, n, lopsided):
    """Mean (1, 0.5): a small symmetric noise, and now and then a long pull sideways."""
    base = rng.normal(size=(n, 2)) * 0.4 + [1.0, 0.5]
    pull = (rng.random(n) < 0.1)[:, None] * np.array([0.0, 8.0])
    return base + lopsided * (pull - [0.0, 0.8])


def truth_of(lopsided, threshold):
    g = gradients_in(np.random.default_rng(99), 1_000_000, lopsided)
    c = g * np.minimum(1, threshold / np.linalg.norm(g, axis=1))[:, None]
    c, g = c.mean(0), g.mean(0)
    return c @ g / np.linalg.norm(c) / np.linalg.norm(g), np.linalg.norm(c) / np.linalg.norm(g)


# catches: plain means, whose shared noise makes them alike; ratio upside down; linear for log
def test_bias_against_many_draws():
    cosine, ratio = truth_of(1.0, 1.5)
    rng, hits, seen = np.random.default_rng(0), [], []
    for _ in range(300):
        found = clipping_bias(gradients_in(rng, 400, 1.0), 1.5)
        hits.append([found.cosine.lo <= cosine <= found.cosine.hi,
                     found.norm_ratio.lo <= ratio <= found.norm_ratio.hi])  # fmt: skip
        seen.append(found.cosine.value)
    share = np.mean(hits, axis=0)
    assert (share > 0.90).all() and (share < 0.985).all()
    assert np.mean(seen) == pytest.approx(cosine, abs=0.01)
    assert cosine < 0.98 and ratio < 0.9


# catches: slips in the delete-one sums, which would only widen or narrow the interval
def test_delete_one_values():
    from downslope.noise.tails.clipping import _pairs

    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(6, 3)) + 1, rng.normal(size=(6, 3))
    value, without = _pairs(a, b)
    products = (a @ b.T)[~np.eye(6, dtype=bool)]
    assert value == pytest.approx(products.mean(), rel=1e-12)
    for i in range(6):
        rest = _pairs(np.delete(a, i, 0), np.delete(b, i, 0))[0]
        assert without[i] == pytest.approx(rest, rel=1e-9)


# catches: an angle read out of pure noise
def test_noise_alone_has_no_direction():
    rng = np.random.default_rng(1)
    found = [clipping_bias(rng.normal(size=(30, 50)), 5.0) for _ in range(100)]
    assert np.mean([f.cosine.value is None for f in found]) > 0.93
    assert all(f.clip_fraction.value > 0.5 for f in found)


# catches: an interval, or a correction, where nothing was sampled
def test_whole_data_set_is_exact():
    g = gradients_in(np.random.default_rng(2), 200, 1.0)
    found = clipping_bias(g, 1.0, num_rows=200)
    c = np.array([row * min(1, 1 / np.linalg.norm(row)) for row in g])
    expected = c.mean(0) @ g.mean(0) / np.linalg.norm(c.mean(0)) / np.linalg.norm(g.mean(0))
    assert found.cosine.value == pytest.approx(expected, rel=1e-12)
    assert found.cosine.lo is None
    nothing = clipping_bias(g, 1e9, num_rows=200)
    assert nothing.cosine.value == pytest.approx(1) and nothing.norm_ratio.value == pytest.approx(1)
    assert nothing.clip_fraction.value == 0


# catches: Wald's interval (0 to 0 when nothing is clipped)
def test_fraction():
    found = clip_fraction(np.r_[np.ones(95), np.full(5, 9.0)], 2.0)
    assert (found.value, round(found.lo, 4), round(found.hi, 4)) == (0.05, 0.0215, 0.1118)
    assert clip_fraction(np.ones(10), 2.0).hi == pytest.approx(0.2775, abs=1e-4)
    assert clip_fraction([], 1.0).value is None
    assert clip_fraction([1.0, np.nan], 1.0).value is None


# catches: growing norms, and a factor at |g| = 0
def test_factors():
    assert clip_factors([0.0, 1.0, 4.0], 2.0).tolist() == [1.0, 1.0, 0.5]
    assert np.isnan(clip_factors([np.inf, np.nan], 2.0)).all()


# catches: a window that never forgets; state that loses the order of the norms
def test_window():
    history = NormWindow(50, window=3)
    assert history.threshold() is None
    for norm in (100, 1, 2, 3, np.nan, np.inf):
        history.add(norm)
    assert (history.threshold(), history.num_bad) == (2.0, 2)
    again = NormWindow.from_json(json.loads(json.dumps(history.to_json())))
    for each in (history, again):
        each.add(10)
    assert history.threshold() == again.threshold() == 3.0


# catches: markers that drift, or stand still; the wrong desired places
@pytest.mark.parametrize("percentile", [10, 50, 90, 95])
@pytest.mark.parametrize("law", [stats.norm(5, 1), stats.lognorm(1), stats.expon()])
def test_five_markers(percentile, law):
    x, history = law.rvs(4000, random_state=3), NormQuantile(percentile)
    for norm in x:
        history.add(norm)
    assert law.cdf(history.threshold()) == pytest.approx(percentile / 100, abs=0.02)


# catches: any slip in the markers: the worked example of Jain and Chlamtac, table I
def test_five_markers_as_published():
    history = NormQuantile(50)
    for x in (0.02, 0.15, 0.74, 3.39, 0.83, 22.37, 10.15, 15.43, 38.62, 15.92, 34.60, 10.28,
              1.47, 0.40, 0.05, 11.39, 0.27, 0.42, 0.09, 11.37):  # fmt: skip
        history.add(x)
    heights = history.to_json()["heights"]
    assert heights == pytest.approx([0.02, 0.49, 4.44, 17.20, 38.62], abs=0.006)


# catches: state that is not all of the state
def test_five_markers_resume():
    x = np.random.default_rng(4).random(300)
    whole, first = NormQuantile(75), NormQuantile(75)
    for norm in x[:3]:
        first.add(norm)
    assert first.threshold() == pytest.approx(np.percentile(x[:3], 75))
    for norm in x[3:120]:
        first.add(norm)
    second = NormQuantile.from_json(json.loads(json.dumps(first.to_json())))
    for norm in x[120:]:
        second.add(norm)
    for norm in x:
        whole.add(norm)
    assert whole.threshold() == second.threshold()
    assert len(json.dumps(whole.to_json())) < 300
    same = NormQuantile(50)
    for _ in range(50):
        same.add(2.0)
    assert same.threshold() == 2.0


@pytest.mark.parametrize(
    "g",
    [np.zeros((0, 2)), np.zeros((5, 2)), np.ones((2, 2)), np.full((5, 2), np.nan),
     np.full((4, 2), 1e300)],
)  # fmt: skip
def test_degenerate(g):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clipping_bias(g, 1.0)
        assert found.cosine.value is None or found.cosine.value == pytest.approx(1)
    for threshold in (0.0, -1.0, np.nan):
        with pytest.raises(UsageError):
            clipping_bias(g, threshold)
    with pytest.raises(UsageError):
        NormWindow(101)
