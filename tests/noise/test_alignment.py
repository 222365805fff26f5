"""Noise against curvature, on problems whose Sigma and H are known in closed form.

Each comment names the wrong implementation that the test catches.
"""

import warnings

import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.covariance import (
    in_words,
    input_alignment,
    noise_profile,
    sharpness_ratio,
)

CURVATURES = np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])


def regression(rng, n, curvatures=CURVATURES, noise=None):
    """Gradients of linear regression at its optimum: x * residual; Sigma = sigma^2 H."""
    x = rng.normal(size=(n, len(curvatures))) * np.sqrt(curvatures)
    return x * rng.normal(size=(n, 1)) if noise is None else x * noise


def counterexample(rng, n):
    """Two disjoint groups: a sharp feature fitted well, a flat one with noisy targets.

    Half of the examples have x = (3, 0), half (0, 1/2): H = diag(4.5, .125). Residuals of sd .05
    and 3 give Sigma = diag(.01125, 1.125).
    """
    sharp = np.arange(n) % 2 == 0
    x = np.where(sharp[:, None], [3.0, 0.0], [0.0, 0.5])
    return x * np.where(sharp, 0.05, 3.0)[:, None] * rng.normal(size=(n, 1))


def matrix_form(sigma, h):
    return len(h) * np.trace(sigma @ h) / (np.trace(sigma) * np.trace(h))


# catches: errors of the matrix-free form; the interval's width (tr H's error left out)
def test_ratio_without_matrices():
    rng, hits, truth = np.random.default_rng(0), [], 6 * (CURVATURES**2).sum()
    truth /= CURVATURES.sum() ** 2
    for _ in range(400):
        seen = CURVATURES.sum() * np.exp(0.05 * rng.normal())
        trace = Estimate(value=seen, lo=seen / 1.103, hi=seen * 1.103, unit="loss/param^2")
        found = sharpness_ratio(regression(rng, 100), lambda v: CURVATURES * v, trace)
        hits.append(found.lo <= truth <= found.hi)
    assert 0.91 < np.mean(hits) < 0.98


# catches: uncentred gradients; divisors other than n - 1 that differ between the traces
def test_ratio_equals_matrix_form():
    rng = np.random.default_rng(1)
    gradients = regression(rng, 40) + 3.0
    root = rng.normal(size=(6, 6))
    h = root @ root.T
    free = sharpness_ratio(gradients, lambda v: h @ v, float(np.trace(h)))
    assert free.value == pytest.approx(matrix_form(np.cov(gradients.T), h), rel=1e-10)
    tiny = sharpness_ratio(gradients * 1e-180, lambda v: h @ v, float(np.trace(h)))
    assert tiny.value == pytest.approx(free.value, rel=1e-9)


# catches: the seed's claim built in: the outcome must follow the data both ways
def test_counterexample_reads_the_other_way():
    rng = np.random.default_rng(2)
    h = np.array([4.5, 0.125])
    found = sharpness_ratio(counterexample(rng, 4000), lambda v: h * v, 4.625)
    assert found.value == pytest.approx(0.0726, rel=0.05)
    assert "stronger in the flat directions" in in_words(found)
    sharp = sharpness_ratio(regression(rng, 400), lambda v: CURVATURES * v, CURVATURES.sum())
    assert "stronger in the sharp directions" in in_words(sharp)


# catches: a verdict from the value alone
def test_isotropic_noise_cannot_be_told():
    rng, told = np.random.default_rng(3), 0
    for _ in range(200):
        found = sharpness_ratio(rng.normal(size=(60, 6)), lambda v: CURVATURES * v, 15.75)
        told += "undecided" not in in_words(found)
    assert told / 200 < 0.09
    assert "undecided" in in_words(not_estimable("no examples", unit=""))
    assert "undecided" in in_words(Estimate(value=3.0, unit=""))


# catches: a number where the trace of H may be 0
def test_unresolved_trace():
    rng = np.random.default_rng(4)
    trace = Estimate(value=1.0, lo=-1.0, hi=20.0, unit="")
    found = sharpness_ratio(regression(rng, 300), lambda v: CURVATURES * v, trace)
    assert found.value is None and 0 < found.lo < 6 * (CURVATURES**2).sum() / 15.75 / 20
    gone = Estimate(value=-5.0, lo=-9.0, hi=-1.0, unit="")
    assert sharpness_ratio(regression(rng, 9), lambda v: v, gone).lo is None
    assert sharpness_ratio(np.ones((9, 2)), lambda v: v, 1.0).value is None
    assert sharpness_ratio(np.eye(4), lambda v: v * np.nan, 1.0).value is None
    with pytest.raises(UsageError, match="hessian_product"):
        sharpness_ratio(np.eye(4), lambda v: v[:2], 1.0)


# catches: directions as columns; curvatures not sorted
def test_profile_of_regression():
    rng, hits = np.random.default_rng(5), []
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    shuffle = rng.permutation(6)
    for _ in range(60):
        gradients = regression(rng, 150) @ turn.T
        profile = noise_profile(gradients, CURVATURES[shuffle], turn.T[shuffle], num_sharp=2)
        found = profile.sharp_over_flat
        hits.append(found.lo <= 6.0 / ((1 + 0.5 + 0.25) / 3) <= found.hi)
    assert np.mean(hits) > 0.85
    assert np.allclose(profile.curvatures, CURVATURES)
    assert np.allclose(profile.variances, np.diag(turn.T @ np.cov(gradients.T) @ turn))


# catches: the flat half of the few given taken for the flat half of all
def test_profile_of_some_directions():
    rng = np.random.default_rng(6)
    gradients = rng.normal(size=(3000, 50)) * np.r_[3.0, 3.0, 3.0, 3.0, np.full(46, 0.5)]
    some = noise_profile(gradients, [9.0, 8, 7, 6], np.eye(50)[:4], num_sharp=2)
    assert some.sharp_over_flat.value == pytest.approx(36, rel=0.08)
    assert "46" in some.sharp_over_flat.flags[0]


# catches: gradients summed over outputs before the covariance: here they cancel exactly
def test_input_directions():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2000, 4)) * [4.0, 2.0, 1.0, 0.5]
    error = rng.normal(size=(2000, 1))
    found = input_alignment(x[:, :, None] * np.stack([error, -error], -1), x, 2)
    assert np.diag(found).min() > 0.99
    assert found[0, 1] < 0.1
    assert np.isnan(input_alignment(np.full((5, 2), np.nan), np.ones((5, 2)))).all()
    with pytest.raises(UsageError, match="weight_gradients"):
        input_alignment(np.ones((5, 3)), np.ones((5, 2)))


@pytest.mark.parametrize(
    "gradients", [np.zeros((0, 3)), np.ones((20, 3)), np.full((20, 3), np.nan)]
)
def test_degenerate(gradients):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = noise_profile(gradients, [3.0, 2, 1], np.eye(3))
        assert profile.sharp_over_flat.value is None
        assert sharpness_ratio(gradients, lambda v: v, 3.0).value is None
    with pytest.raises(UsageError, match="orthonormal"):
        noise_profile(np.eye(12, 3), [3.0, 2, 1], 2 * np.eye(3))
