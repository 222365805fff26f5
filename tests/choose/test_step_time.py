"""Step times by batch size.

Each test's comment names the wrong implementation that it catches.
"""

import random

import pytest

from downslope.choose import fit_step_times, line_times
from downslope.errors import UsageError

POWERS = [2**i for i in range(13)]
# microseconds, a small net on a laptop's cores: no line
RAGGED = [75, 89, 83, 107, 158, 265, 546, 935, 2085, 4799, 42463, 38101, 97901]


def straight(b):
    return 5e-3 + 2e-5 * b


def test_line_is_found_exactly():
    for sizes in (POWERS, [1, 4096], [100, 300, 17]):  # catches: an order that is relied on
        times = fit_step_times(sizes, [straight(b) for b in sizes])
        assert times.fixed_seconds == pytest.approx(5e-3, rel=1e-9)
        assert times.seconds_per_example == pytest.approx(2e-5, rel=1e-9)
        assert times.half_size.value == pytest.approx(250, rel=1e-9)
        assert times.line_residual < 1e-9


# catches: interpolation that bends between sizes far apart; a clamp beyond the last size
def test_line_is_predicted_everywhere():
    times = fit_step_times([4, 64, 4096], [straight(b) for b in (4, 64, 4096)])
    for b in (1, 16, 30.5, 700, 1e5):
        assert times.predict(b) == pytest.approx(straight(b), rel=1e-9)
    assert times.is_measured_at(4) and times.is_measured_at(4096)
    assert not times.is_measured_at(3) and not times.is_measured_at(5000)


def test_curve_passes_through_what_was_measured():
    times = fit_step_times(POWERS, [t * 1e-6 for t in RAGGED])
    assert times.predict_many(POWERS) == pytest.approx([t * 1e-6 for t in RAGGED], rel=1e-9)
    assert times.line_residual > 0.5  # catches: a residual as a mean, or of logarithms
    assert times.slowdowns == ((512, 1024), (2048, 4096))


# catches: plain least squares, in which the largest size alone decides
def test_noise_of_timing():
    draw = random.Random(3)
    repeats = [[straight(b) * (1 + 0.05 * draw.expovariate(1)) for _ in range(20)] for b in POWERS]
    times = fit_step_times(POWERS, repeats)
    assert times.half_size.value == pytest.approx(250, rel=0.05)
    assert times.half_size.lo < times.half_size.value < times.half_size.hi
    assert times.half_size.hi / times.half_size.lo < 1.2


# catches: an interval from repeats that were pooled, or a mean in place of the median
@pytest.mark.slow
def test_interval_covers():
    draw, covered = random.Random(0), 0
    for _ in range(40):
        repeats = [[straight(b) * (1 + 0.1 * draw.gauss(0, 1)) for _ in range(15)] for b in POWERS]
        half_size = fit_step_times(POWERS, repeats).half_size
        covered += half_size.lo <= 250 <= half_size.hi
    assert covered >= 34


# catches: an interval from a spread that two times cannot show, or where one size has enough
@pytest.mark.parametrize(("num", "known"), [(1, False), (2, False), (3, True)])
def test_an_interval_takes_three_repeats_of_every_size(num, known):
    repeats = [[straight(b) * (1 + 0.01 * i) for i in range(num)] for b in (16, 64)]
    repeats.append([straight(256) * (1 + 0.01 * i) for i in range(9)])
    found = fit_step_times([16, 64, 256], repeats).half_size
    assert found.value is not None
    assert (found.lo is not None) is (found.hi is not None) is known


def test_one_slow_repeat_does_not_count():
    repeats = [[straight(b)] * 8 + [50 * straight(b)] for b in (16, 64, 256)]
    assert fit_step_times([16, 64, 256], repeats).predict(64) == pytest.approx(straight(64))


def test_planted_cliff_is_seen():
    def cliff(b):
        return 5e-4 + 2e-5 * b * (1 if b <= 512 else 3)

    times = fit_step_times(POWERS, [cliff(b) for b in POWERS])
    assert times.slowdowns == ((512, 1024),)
    assert times.line_residual > 0.15
    assert any("512 to 1,024" in flag for flag in times.flags)
    assert fit_step_times(POWERS, [straight(b) for b in POWERS]).slowdowns == ()


# catches: negative costs, a division by 0 where nothing of one kind is there
def test_no_fixed_cost_and_no_cost_of_an_example():
    only = fit_step_times([8, 64, 512], [8e-6 * 0.9, 64e-6, 512e-6 * 1.1])
    assert only.fixed_seconds == 0 and only.half_size.value == 0
    flat = fit_step_times([8, 64, 512], [1.1e-3, 1.0e-3, 0.9e-3])
    assert flat.seconds_per_example == 0 and flat.half_size.value is None
    assert flat.predict(1e6) == pytest.approx(0.9e-3)
    with_fixed = only.with_overhead(5e-3)
    assert with_fixed.fixed_seconds == pytest.approx(5e-3, rel=0.1)


def test_overhead_is_added_to_every_size():
    for times in (
        fit_step_times(POWERS, [t * 1e-6 for t in RAGGED]),
        line_times(fixed_seconds=5e-3, seconds_per_example=2e-5),
    ):
        more = times.with_overhead(0.01)
        for b in (1, 64, 1024):
            assert more.predict(b) == pytest.approx(times.predict(b) + 0.01, rel=1e-9)
    with pytest.raises(UsageError, match="seconds"):
        line_times(fixed_seconds=1, seconds_per_example=1).with_overhead(-1)


@pytest.mark.parametrize(
    ("sizes", "seconds", "words"),
    [
        ([1], [1.0], "two or more"),
        ([4, 4], [1.0, 2.0], "two or more"),
        ([], [], "two or more"),
        ([4, 8], [[1.0], []], "two or more"),
        ([1, 2], [1.0], "same length"),
        ([0, 2], [1.0, 1.0], "batch_sizes"),
        ([1, 2], [0.0, 1.0], "seconds"),
        ([1, 2], [float("nan"), 1.0], "seconds"),
        ([1, float("inf")], [1.0, 1.0], "batch_sizes"),
    ],
)
def test_refuses(sizes, seconds, words):
    with pytest.raises(UsageError, match=words):
        fit_step_times(sizes, seconds)


def test_refuses_a_line_outside_its_range():
    with pytest.raises(UsageError, match="fixed_seconds"):
        line_times(fixed_seconds=-1, seconds_per_example=1)
    with pytest.raises(UsageError, match="seconds_per_example"):
        line_times(fixed_seconds=1, seconds_per_example=0)
    with pytest.raises(UsageError, match="batch_size"):
        line_times(fixed_seconds=1, seconds_per_example=1).predict(0)
