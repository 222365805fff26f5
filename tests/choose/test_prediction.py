"""Prediction of a run at another batch size.

Each test's comment names the wrong implementation that it catches.
"""

import math

import pytest

from downslope.choose import RunLaw, equivalent_steps, line_times, predict
from downslope.errors import UsageError

TIMES = line_times(fixed_seconds=5e-3, seconds_per_example=2e-5)


# catches: E_min without its B_noise, or in steps
def test_its_own_batch_size_gives_its_own_steps():
    law = equivalent_steps([50, 400, 3000], [64, 64, 64], [100, 700, 200])
    assert law.steps(64).value == pytest.approx(1000, rel=1e-12)


def test_constant_noise_scale_gives_the_law_back():
    for size in (8, 100, 5000):
        steps = 300 * (1 + 120 / size)
        law = equivalent_steps([120], [size], [steps])
        assert (law.min_steps, law.min_examples) == pytest.approx((300, 36_000), rel=1e-12)
        assert law.noise_scale == pytest.approx(120)


# one course through two stretches, run at three plans of batch sizes: one law
def test_the_law_does_not_depend_on_the_batch_sizes_it_was_seen_at():
    useful, scales = [40, 160], [30, 900]
    for sizes in ([16, 16], [16, 512], [1024, 8]):
        steps = [u * (1 + n / b) for u, n, b in zip(useful, scales, sizes, strict=True)]
        law = equivalent_steps(scales, sizes, steps)
        assert law.min_steps == pytest.approx(200)
        assert law.min_examples == pytest.approx(40 * 30 + 160 * 900)


def test_descent_on_a_noisy_quadratic():
    """Greedy steps under noise: a loss eta that falls by eta/(1 + c/b) each obeys the law."""

    def steps_at(b, c=50.0, rate=1e-3):
        loss, count = 1.0, 0
        while loss > 0.1:
            loss, count = loss * (1 - rate / (1 + c / b)), count + 1
        return count

    law = equivalent_steps([50], [20], [steps_at(20)])
    for b in (5, 100, 1000):
        assert law.steps(b).value == pytest.approx(steps_at(b), rel=2e-3)


# the ends with all noise scales at one side; at its own batch size there is no doubt
def test_ends():
    law = equivalent_steps([100], [100], [1000], noise_los=[50], noise_his=[200])
    assert law.steps(100).lo == pytest.approx(1000) == law.steps(100).hi
    larger = law.steps(400)
    assert larger.value == pytest.approx(625)
    assert (larger.lo, larger.hi) == pytest.approx((500, 750))
    smaller = law.steps(50)
    assert smaller.lo == pytest.approx(1333.33, rel=1e-5)
    assert smaller.hi == pytest.approx(1666.67, rel=1e-5)
    assert (law.noise_lo, law.noise_hi) == pytest.approx((50, 200))


# catches: NaN from infinity; a missing value read as 0
def test_known_from_below_only():
    law = equivalent_steps([None], [32], [5000], noise_los=[700.0], noise_his=[None])
    assert law.min_steps == pytest.approx(5000 / (1 + 700 / 32))
    assert law.steps(64).lo == pytest.approx(2500)  # all noise: examples alone count
    assert law.steps(64).value > 2500
    assert law.noise_hi is None and law.noise_lo == pytest.approx(700)
    assert all(math.isfinite(end) for end in (law.steps(1e9).lo, law.steps(1e9).hi))
    open_below = equivalent_steps([50], [32], [10], noise_los=[None], noise_his=[80])
    assert open_below.noise_lo == 0 or open_below.noise_lo is None


def test_prediction():
    law = RunLaw(min_steps=1000, min_examples=2e5)
    found = predict(law, TIMES, 200)
    assert found.num_steps.value == 2000
    assert found.num_examples.value == 400_000
    assert found.seconds.value == pytest.approx(2000 * 9e-3)
    assert found.seconds.lo is None and not found.flags


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (([], [], []), "stretches"),
        (([1.0], [1.0, 2.0], [1.0]), "stretches"),
        (([None], [1.0], [1.0]), "lower end"),
        (([0.0], [1.0], [1.0]), "noise_scales"),
        (([math.inf], [1.0], [1.0]), "noise_scales"),
        (([1.0], [0.0], [1.0]), "batch_sizes"),
        (([1.0], [1.0], [0.0]), "num_steps"),
    ],
)
def test_refuses(given, words):
    with pytest.raises(UsageError, match=words):
        equivalent_steps(*given)


def test_refuses_a_batch_of_nothing():
    with pytest.raises(UsageError, match="batch_size"):
        predict(RunLaw(min_steps=1, min_examples=1), TIMES, 0)
