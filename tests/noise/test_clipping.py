"""Clipping: how often it acts, and the bias it brings, against exact means.

Each comment names the wrong implementation that the test catches.
"""

import warnings

import numpy as np
import pytest
from scipy import optimize, stats

from downslope.errors import UsageError
from downslope.noise.tails import clip_fraction, clipped_mean, clipping_bias


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


# catches: gradients scaled where they need not be, or left long
def test_a_threshold_beyond_all_norms_changes_nothing():
    g = gradients_in(np.random.default_rng(2), 200, 1.0)
    found = clipping_bias(g, 1e9)
    assert found.cosine.value == pytest.approx(1) and found.norm_ratio.value == pytest.approx(1)


# catches: Wald's interval (0 to 0 when nothing is clipped)
def test_fraction():
    found = clip_fraction(np.r_[np.ones(95), np.full(5, 9.0)], 2.0)
    assert (found.value, round(found.lo, 4), round(found.hi, 4)) == (0.05, 0.0215, 0.1118)
    assert clip_fraction(np.ones(10), 2.0).hi == pytest.approx(0.2775, abs=1e-4)
    assert clip_fraction([], 1.0).value is None
    assert clip_fraction([1.0, np.nan], 1.0).value is None


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
