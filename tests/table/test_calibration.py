"""Probabilities from outputs, and the calibration of margins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import _sigmoid_calibration

from downslope.table.calibration import calibrate, probabilities

RNG = np.random.default_rng(0)


def test_probabilities_of_log_odds_and_logits():
    """Catches swapped columns and an overflow. Oracle: SciPy."""
    z = np.array([-800.0, -2, 0, 0.3, 800])
    p = probabilities(z)
    np.testing.assert_allclose(p[:, 1], expit(z), rtol=1e-12)
    logits = np.concatenate([RNG.normal(size=(50, 4)), [[1e4, -1e4, 0, 0]]])
    np.testing.assert_allclose(probabilities(logits), softmax(logits, axis=1), atol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_calibration_against_scikit_learn(weighted):
    """Catches a wrong target, sign or weight. Oracle: scikit-learn's own Platt scaling."""
    margins = 5 * RNG.normal(size=400)
    classes = (RNG.random(400) < expit(0.7 * margins - 1)).astype(int)
    weight = RNG.exponential(size=400) if weighted else np.ones(400)
    ((slope, shift),) = calibrate(margins, classes, weight)
    a, b = _sigmoid_calibration(margins, classes, weight)
    assert (slope, shift) == pytest.approx((-a, -b), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_calibration_finds_the_curve_that_drew_the_classes(scale):
    """Catches a search that depends on the unit of the margins. Truth: the curve itself."""
    z = RNG.normal(size=200_000)
    classes = RNG.random(len(z)) < expit(1.5 * z + 0.5)
    ((slope, shift),) = calibrate(z * scale, classes, np.ones(len(z)))
    assert slope * scale == pytest.approx(1.5, abs=0.03)
    assert shift == pytest.approx(0.5, abs=0.03)


def test_margins_of_several_classes():
    """Catches probabilities that do not add up, and curves given to the wrong class."""
    classes = RNG.integers(0, 3, 3000)
    margins = 2.0 * (classes[:, None] == np.arange(3)) + RNG.normal(size=(3000, 3))
    maps = calibrate(margins, classes, np.ones(3000))
    assert len(maps) == 3
    p = probabilities(margins, maps)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p.argmax(1) == classes).mean() > 0.75
    far = probabilities(np.full((1, 3), -1e9), maps)
    assert np.isfinite(far).all()


@pytest.mark.parametrize(
    "margins",
    [np.array([-1.0, -2, 3, 4]), np.zeros(4), np.array([-1e300, 1e300, -1e300, 1e300])],
    ids=["separable", "all alike", "huge"],
)
def test_calibration_stays_finite(margins):
    """Catches an infinite slope, a singular step and a search that never ends."""
    maps = calibrate(margins, np.array([0, 0, 1, 1]), np.ones(4))
    p = probabilities(margins, maps)
    assert np.isfinite(maps).all()
    assert np.isfinite(p).all()
    assert ((p > 0) & (p < 1)).all()


def test_calibration_with_one_class_only():
    """Catches a logarithm of zero: a sample of rows may hold a single class."""
    maps = calibrate(np.array([1.0, 2, 3]), np.ones(3, int), np.ones(3))
    assert (probabilities(np.array([1.0, 2, 3]), maps)[:, 1] > 0.5).all()
