"""Critical batch size from runs at several batch sizes.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.noise.scale import fit_critical_batch

SIZES = np.array([16.0, 64, 256, 1024, 8192])


# catches: axes swapped; absolute residuals, which the smallest batch dominates
def test_exact_law():
    found = fit_critical_batch(SIZES, 300 * (1 + 2000 / SIZES))
    assert found.min_steps.value == pytest.approx(300, rel=1e-9)
    assert found.min_examples.value == pytest.approx(600_000, rel=1e-9)
    assert found.batch_size.value == pytest.approx(2000, rel=1e-9)
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
    with pytest.raises(UsageError, match="one shape"):
        fit_critical_batch([16, 64], [3])
