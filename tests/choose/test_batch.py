"""Batch size with the least time to a target.

Each test's comment names the wrong implementation that it catches.
"""

import math
import random

import pytest

from downslope.choose import fit_step_times, line_times, sweet_spot
from downslope.errors import UsageError

POWERS = [2**i for i in range(13)]
LINE = line_times(fixed_seconds=5e-3, seconds_per_example=2e-5)


def straight(b):
    return 5e-3 + 2e-5 * b


def seen(b, steps=1000, examples=2e5, seconds=straight):
    """Time to the target, written out."""
    return (steps + examples / b) * seconds(b)


# catches: tau_f and tau_d swapped, a missing root
def test_the_closed_form():
    found = sweet_spot(noise_scale=200, times=LINE)
    assert found.optimum.value == pytest.approx(223.60679775, rel=1e-9)
    assert found.closed_form == pytest.approx(223.60679775, rel=1e-9)
    assert found.batch_size == 220  # two digits
    assert found.noise_scale == 200


# catches: the nearest size of the grid in place of the least between
def test_measured_line_gives_the_closed_form():
    times = fit_step_times(POWERS, [straight(b) for b in POWERS])
    found = sweet_spot(noise_scale=200, times=times)
    assert found.optimum.value == pytest.approx(223.60679775, rel=1e-3)
    assert found.closed_form == pytest.approx(223.60679775, rel=1e-6)


# T(2 b)/T(b) = 1.125 where n_half = B_crit, less elsewhere
def test_a_factor_of_two_costs_an_eighth():
    for scale in (10, 250, 4000):
        best = sweet_spot(noise_scale=scale, times=LINE).optimum.value
        for factor in (0.5, 2):
            ratio = seen(best * factor, 1, scale) / seen(best, 1, scale)
            assert 1 < ratio <= 1.125 + 1e-9
    found = sweet_spot(noise_scale=250, times=LINE)
    lo, hi = found.near
    assert (lo, hi) == pytest.approx((250 / 1.8633, 250 * 1.8633), rel=1e-3)
    for edge in (lo, hi):  # catches: a range in batch size, not in time
        assert seen(edge, 1, 250) / seen(250, 1, 250) == pytest.approx(1.1, rel=1e-3)


def cliff(b):
    """A cache that 300 examples fill: each further one costs six times as much."""
    return 5e-3 + 2e-5 * min(b, 300) + 1.2e-4 * max(0, b - 300)


# catches: the straight line trusted where it bends
def test_planted_cliff():
    sizes = sorted({*POWERS, 300, 360, 420})
    times = fit_step_times(sizes, [cliff(b) for b in sizes])
    found = sweet_spot(noise_scale=2000, times=times)
    truth = min(range(1, 4097), key=lambda b: seen(b, 1000, 2e6, cliff))
    assert truth == 300
    assert found.closed_form is None
    assert any("no closed form" in flag for flag in found.flags)
    assert seen(found.batch_size, 1000, 2e6, cliff) <= 1.01 * seen(truth, 1000, 2e6, cliff)
    blind = math.sqrt(2000 * times.fixed_seconds / times.seconds_per_example)
    assert seen(blind, 1000, 2e6, cliff) > 1.05 * seen(truth, 1000, 2e6, cliff)


# seen from powers of two, the cliff is somewhere between 256 and 512
def test_cliff_between_sizes():
    times = fit_step_times(POWERS, [cliff(b) for b in POWERS])
    found = sweet_spot(noise_scale=2000, times=times)
    assert seen(found.batch_size, 1000, 2e6, cliff) <= 1.08 * seen(300, 1000, 2e6, cliff)


def test_edges_are_told():
    times = fit_step_times([64, 128], [straight(64), straight(128)])
    above = sweet_spot(noise_scale=5000, times=times)
    assert above.optimum.value == 128 and "edge" in " ".join(above.flags)
    assert above.batch_size <= 128
    below = sweet_spot(noise_scale=0.1, times=times)
    assert below.optimum.value == 64 and "edge" in " ".join(below.flags)
    inside = sweet_spot(noise_scale=30, times=times)
    assert "edge" not in " ".join(inside.flags)
    from_one = fit_step_times([1, 128], [straight(1), straight(128)])
    assert "edge" not in " ".join(sweet_spot(noise_scale=1e-9, times=from_one).flags)


# catches: a cap applied after rounding up; a cap said where it does not bind
def test_memory():
    for times in (LINE, fit_step_times(POWERS, [straight(b) for b in POWERS])):
        found = sweet_spot(noise_scale=200, times=times, most=97)
        assert found.batch_size == 97 and "capped by memory" in " ".join(found.flags)
        assert sweet_spot(noise_scale=200, times=times, most=199).batch_size <= 199
        assert "capped" not in " ".join(sweet_spot(noise_scale=200, times=times, most=999).flags)
    small = fit_step_times([64, 128], [straight(64), straight(128)])
    assert sweet_spot(noise_scale=200, times=small, most=10).batch_size == 10


# catches: an interval of the noise scale in place of that of its root
def test_interval_from_the_noise_scale():
    found = sweet_spot(noise_scale=200, noise_lo=50, noise_hi=800, times=LINE)
    assert found.optimum.lo == pytest.approx(111.8, rel=0.1)
    assert found.optimum.hi == pytest.approx(447.2, rel=0.1)
    open_above = sweet_spot(noise_scale=200, noise_lo=50, times=LINE)
    assert open_above.optimum.lo is not None and open_above.optimum.hi is None
    assert sweet_spot(noise_scale=200, times=LINE).optimum.lo is None


@pytest.mark.slow
def test_interval_from_the_timings_covers():
    draw, covered, width = random.Random(0), 0, 0.0
    sizes = [16, 64, 256, 1024]
    for _ in range(12):
        repeats = [[straight(b) * (1 + 0.1 * draw.gauss(0, 1)) for _ in range(15)] for b in sizes]
        optimum = sweet_spot(noise_scale=200, times=fit_step_times(sizes, repeats)).optimum
        covered += optimum.lo <= 223.607 <= optimum.hi
        width += optimum.hi / optimum.lo / 12
    assert covered >= 10
    assert width < 3


def test_no_fixed_cost_asks_for_single_examples():
    free = line_times(fixed_seconds=0, seconds_per_example=1e-5)
    assert sweet_spot(noise_scale=200, times=free).batch_size == 1
    flat = fit_step_times([1, 64, 512], [1e-3, 1e-3, 1e-3])
    found = sweet_spot(noise_scale=200, times=flat)
    assert found.optimum.value == 512 and found.closed_form is None


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"noise_scale": 0}, "noise_scale"),
        ({"noise_scale": math.inf}, "noise_scale"),
        ({"noise_scale": 10, "noise_lo": 11}, "noise_lo"),
        ({"noise_scale": 10, "noise_hi": 9}, "noise_hi"),
        ({"noise_scale": 10, "most": 0.5}, "most"),
    ],
)
def test_refuses(named, words):
    with pytest.raises(UsageError, match=words):
        sweet_spot(times=LINE, **named)
