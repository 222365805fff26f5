"""Batch sizes for a given distance: each rule against simulated batch means.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.noise import required as rules
from downslope.noise.required import required_batch, trace_cube
from downslope.noise.statistics.sample import read_sample

AIM = dict(error=0.5, miss_probability=0.1)
VARIANCES = np.array([1.0, 0.5, 0.3] + [0.1] * 17 + [0.05] * 20)


def quantile_batch(variances, error, miss, rng, num=400_000):
    """The B at which a Gaussian mean misses with this chance, by drawing."""
    lengths = np.zeros(num)
    for v in variances:
        lengths += v * rng.standard_normal(num) ** 2
    return np.quantile(lengths, 1 - miss) / error**2


def test_appendix_cases():
    assert rules.chebyshev_batch(4.5, **AIM) == pytest.approx(180, rel=1e-12)
    found = rules.hilbert_bernstein_batch(4.5, math.sqrt(4.5), **AIM)
    assert found == pytest.approx(154.50347, rel=1e-9, abs=5e-6)
    assert rules.without_replacement(500, 800) == pytest.approx(500 * 800 / 1299, rel=1e-12)
    assert rules.without_replacement(500, 800) == pytest.approx(307.92918, abs=5e-6)


# catches: a wrong cumulant, 1 - miss for miss, the two-moment rule in place of the three
@pytest.mark.parametrize("miss", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("variances", [VARIANCES, np.r_[3.0, np.full(50, 0.03)], np.array([1.0])])
def test_three_moments_are_within_three_per_cent(variances, miss):
    truth = quantile_batch(variances, 0.5, miss, np.random.default_rng(0))
    moments = [float((variances**k).sum()) for k in (1, 2, 3)]
    found = rules.three_moment_batch(*moments, error=0.5, miss_probability=miss)
    assert found == pytest.approx(truth, rel=0.03 if miss > 0.001 else 0.05)


# catches: a rigorous rule that misses more than it allows (a root or a factor forgotten)
@pytest.mark.parametrize("miss", [0.1, 0.01])
def test_rigorous_rules_hold_on_bounded_data(miss):
    rng = np.random.default_rng(2)
    signs = rng.choice([-1.0, 1.0], size=(1500, 12)) * np.linspace(0.2, 1, 12)
    signs -= signs.mean(0)
    variance, bound = float((signs**2).sum(1).mean()), float(np.linalg.norm(signs, axis=1).max())
    found = {
        "chebyshev": rules.chebyshev_batch(variance, error=0.6, miss_probability=miss),
        "hilbert": rules.hilbert_bernstein_batch(variance, bound, error=0.6, miss_probability=miss),
    }
    for name, batch in found.items():
        size = math.ceil(batch)
        means = [signs[rng.integers(0, 1500, size)].mean(0) for _ in range(400)]
        misses = np.mean(np.linalg.norm(means, axis=1) > 0.6)
        assert misses <= miss, name
        assert size > quantile_batch(np.linspace(0.2, 1, 12) ** 2, 0.6, miss, rng, 20000), name


# catches: tr S^3 as it stands (biased by half at n near r)
def test_trace_cube_is_unbiased():
    rng = np.random.default_rng(4)
    variances = np.array([3.0, 2.0, 1.0, 0.5, 0.5])
    found = [
        trace_cube(read_sample(rng.standard_normal((8, 5)) * variances**0.5)) for _ in range(5000)
    ]
    error = np.std(found) / 5000**0.5
    assert abs(np.mean(found) - (variances**3).sum()) < 4 * error


# catches: moments of the sample not corrected; error for error^2; intervals left behind
@pytest.mark.slow
def test_from_gradients():
    rng = np.random.default_rng(5)
    truth = quantile_batch(VARIANCES, 0.4, 0.05, rng)
    held, values = [], []
    for _ in range(200):
        g = 0.2 + rng.standard_normal((300, len(VARIANCES))) * VARIANCES**0.5
        found = required_batch(g, error=0.4, miss_probability=0.05)
        values.append(found.needed.value)
        held.append(found.needed.lo <= truth <= found.needed.hi)
    assert np.mean(values) == pytest.approx(truth, rel=0.03)
    assert 0.88 <= np.mean(held) <= 0.99
    trace = found.guaranteed.value * 0.4**2 * 0.05
    assert trace == pytest.approx(np.trace(np.cov(g.T)), rel=1e-9)
    assert len(found.rules) == 3 and found.rules["chebyshev"] == found.guaranteed


def test_relative_error_and_rows():
    rng = np.random.default_rng(6)
    g = 1.0 + rng.standard_normal((400, 20))
    absolute = required_batch(g, error=0.5 * math.sqrt(20))
    relative = required_batch(g, relative_error=0.5)
    assert relative.needed.value == pytest.approx(absolute.needed.value, rel=0.1)
    assert relative.error.lo < 0.5 * math.sqrt(20) < relative.error.hi
    # the norm test: tr Sigma/(kappa^2 |G|^2) = 1/0.25 on average
    assert relative.guaranteed.value * 0.1 == pytest.approx(4, rel=0.1)
    few = required_batch(g, error=0.5 * math.sqrt(20), num_rows=30)
    b = absolute.needed.value
    assert few.needed.value == pytest.approx(b * 30 / (29 + b), rel=1e-12)
    assert few.guaranteed.value < 30
    pure = required_batch(rng.standard_normal((50, 20)), relative_error=0.5)
    assert not pure.needed.is_measured and "|G|^2" in pure.needed.reason


# catches: a guarantee built on the largest norm seen
def test_a_bound_that_was_only_seen_is_heuristic():
    g = np.random.default_rng(7).uniform(-1, 1, size=(100, 4))
    seen, given = required_batch(g, error=0.3), required_batch(g, error=0.3, bound=4.0)
    seen_rule, given_rule = (found.rules["hilbert bernstein"] for found in (seen, given))
    flags = " ".join(seen_rule.flags)
    assert "heuristic_bound" in flags and "guarantee" not in flags
    assert "heuristic_bound" not in " ".join(given_rule.flags)
    assert given_rule.value > seen_rule.value
    with pytest.raises(UsageError, match="bound"):
        required_batch(g, error=0.3, bound=0.1)


def test_few_examples_for_the_rank_are_flagged():
    g = np.random.default_rng(8).standard_normal((40, 100))
    assert "few" in required_batch(g, error=1.0).needed.flags[-1]


@pytest.mark.parametrize(
    "g", [np.zeros((9, 2)), np.ones((9, 2)), np.eye(3), np.full((9, 2), np.nan), np.zeros((0, 2))]
)
def test_degenerate(g):
    found = required_batch(g, error=1.0)
    assert not found.needed.is_measured and not found.guaranteed.is_measured


@pytest.mark.parametrize(
    "named, words",
    [
        ({}, "exactly one"),
        ({"error": 1.0, "relative_error": 0.1}, "exactly one"),
        ({"error": 0.0}, "error"),
        ({"error": 1.0, "miss_probability": 1.0}, "miss_probability"),
        ({"error": 1.0, "num_rows": 0}, "num_rows"),
        ({"error": 1.0, "bound": -1}, "bound"),
    ],
)
def test_wrong_usage(named, words):
    with pytest.raises(UsageError, match=words):
        required_batch(np.random.default_rng(0).standard_normal((9, 2)), **named)
