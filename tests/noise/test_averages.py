"""Memories of moving averages against averages that are run.

Each test's comment names the wrong implementation that it catches.
"""

import math

import numpy as np
import pytest

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.averages import memory, stall_ratio


# catches: any of the four lengths taken for another
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_memory_against_the_weights(rho):
    age = np.arange(40_000)
    weight = (1 - rho) * rho**age
    told = memory(rho)
    assert told.mean_age == pytest.approx((age * weight).sum(), abs=1e-9)
    assert told.time_constant == pytest.approx(1 + (age * weight).sum())
    assert told.equivalent_samples == pytest.approx(1 / (weight**2).sum())
    if rho:
        assert rho**told.half_life == pytest.approx(0.5)


def test_known_memory():
    told = memory(0.99, steps_per_epoch=10)
    assert told.half_life == pytest.approx(68.967564, rel=1e-7)
    assert told.half_life_epochs == pytest.approx(6.8967564, rel=1e-7)
    with pytest.raises(UsageError, match="decay"):
        memory(1.0)


# catches: the ratio upside down, ends of the interval swapped, a division by 0
def test_stall():
    told = stall_ratio(10_000.0, Estimate(value=0.01, lo=0.005, hi=0.02, unit=""), 1000)
    assert (told.value, told.lo, told.hi) == pytest.approx((1000, 500, 2000))
    assert any("stalled" in flag for flag in told.flags)
    assert not stall_ratio(10.0, 1.0, 1000).flags
    open_ = stall_ratio(10.0, Estimate(value=0.1, lo=-0.1, hi=0.5, unit=""), 10)
    assert not open_.is_measured and open_.lo == pytest.approx(2.0)
    negative = stall_ratio(10.0, Estimate(value=-0.1, lo=-0.4, hi=0.5, unit=""), 10)
    assert not negative.is_measured and negative.lo == pytest.approx(2.0)
    for nothing in (
        stall_ratio(10.0, 0.0, 10),
        stall_ratio(10.0, 1.0, 0),
        stall_ratio(10.0, not_estimable("no", unit=""), 10),
        stall_ratio(10.0, math.nan, 10),
    ):
        assert not nothing.is_measured and nothing.lo is None
    with pytest.raises(UsageError, match="gradient_square"):
        stall_ratio(10.0, -1.0, 10)
