"""Changes of the batch size during training.

Each test's comment names the wrong implementation that it catches.
"""

import math
import random

import pytest

from downslope.choose import next_batch_size
from downslope.errors import UsageError

SIZES = [2**i for i in range(12)]
TIMED = dict(timed_sizes=SIZES, timed_seconds=[5e-3 + 2e-5 * b for b in SIZES])  # n_half 250


def ask(batch_size, lo, hi, **named):
    middle = None if lo is None or hi is None or math.isinf(hi) else math.sqrt(lo * hi)
    return next_batch_size(
        batch_size=batch_size, noise_scale=middle, noise_lo=lo, noise_hi=hi,
        **{**TIMED, **named},
    )  # fmt: skip


# sqrt(200 * 250) = 224: 256 is the rung
def test_goes_to_the_sweet_spot_from_both_sides():
    assert ask(16, 190, 210).new == 256
    assert ask(2048, 190, 210).new == 256
    assert ask(256, 190, 210) is None
    for neighbour in (160, 320):  # 2 and 3 % from the best rung: not worth it
        assert ask(neighbour, 190, 210) is None


# catches: the middle of the interval, or its favourable end, decides
def test_the_unfavourable_end_decides():
    assert ask(64, 1000, 1000).new > 64
    assert ask(64, 5, 200_000) is None
    assert ask(64, 5, 20_000, gain=0.0) is None
    up, sure = ask(64, 300, 20_000), ask(64, 300, 300)
    assert up.new == sure.new  # not where 20,000 would lead
    down = ask(2048, 5, 50)
    assert down.new == ask(2048, 50, 50).new


def test_a_batch_of_the_largest_size_stays():
    """Catches a batch that has to shrink although it fits."""
    assert ask(64, 2000, None, most=64) is None
    assert ask(128, 2000, None, most=64).new == 64


def test_open_ends():
    assert ask(64, 2000, None).new >= 256
    assert ask(64, 2000, math.inf).new == ask(64, 2000, None).new
    assert ask(2048, None, 20).new < 512
    assert ask(64, None, None) is None
    assert ask(64, None, 1e9) is None


# catches: compiling that is not paid for, or paid for programs that are there
def test_compiling_must_pay():
    assert ask(64, 900, 1100, compile_seconds=1.0, seconds_left=30.0).new == 512
    assert ask(64, 900, 1100, compile_seconds=1.0, seconds_left=1.5) is None
    assert ask(64, 900, 1100, compile_seconds=1.0, seconds_left=0.0) is None
    there = ask(64, 900, 1100, compile_seconds=1.0, seconds_left=1.5, compiled=(256,))
    assert there.new == 256
    assert ask(64, 900, 1100, compile_seconds=1e6).new == 512  # no end in sight


def test_savings_are_those_told():
    found = ask(64, 1000, 1000, compile_seconds=0.5, seconds_left=100.0)

    def time(b):
        return (1 + 1000 / b) * (5e-3 + 2e-5 * b)

    ratio = time(found.new) / time(64)
    assert f"{ratio:.2f} of its time" in found.because
    assert f"at least {100 * (1 - ratio):.3g} s of 100 s" in found.because
    assert "1,000" in found.because and "500 ms of compiling" in found.because
    wide = ask(64, 500, 5000, seconds_left=100.0)  # catches: the favourable end's saving told
    worst = (1 + 500 / wide.new) / (1 + 500 / 64) * (5e-3 + 2e-5 * wide.new) / 6.28e-3
    assert f"at least {100 * (1 - worst):.3g} s of" in wide.because


# catches: sizes that were never timed; a cap that only holds for growing
def test_memory_and_range():
    assert ask(64, 9e5, 1e6).new == 2048  # the largest timed
    assert ask(64, 9e5, 1e6, most=700).new == 512
    found = ask(1024, 9e5, 1e6, most=700)
    assert found.new == 512 and "memory" in found.because
    assert ask(1024, None, None, most=700).new == 512
    assert ask(64, 900, 1100, ladder=[64, 300]).new == 300
    assert ask(64, 900, 1100, ladder=[64]) is None
    with pytest.raises(UsageError, match="most"):
        ask(1024, 1, 2, most=100, ladder=[512, 1024])


def test_sees_a_cliff():
    seconds = [5e-3 + 2e-5 * b + (0.1 if b > 256 else 0) for b in SIZES]
    assert ask(64, 1900, 2100, timed_seconds=seconds).new == 256


def test_one_timed_size_moves_nothing():
    assert ask(64, 900, 1100, timed_sizes=[64], timed_seconds=[1.0]) is None


# 60 runs of 100 readings that scatter by a third; intervals are 95 %
@pytest.mark.slow
def test_noisy_readings_do_not_drive_it_to_and_fro():
    reversals = moves = 0
    for seed in range(60):
        draw, size, direction = random.Random(seed), 32, 0
        scale = 200 * 2 ** draw.uniform(0, 2)
        for _ in range(100):
            reading = scale * math.exp(0.33 * draw.gauss(0, 1))
            spread = math.exp(1.96 * 0.33)
            found = ask(size, reading / spread, reading * spread)
            if found is None:
                continue
            sign = 1 if found.new > size else -1
            reversals += direction * sign < 0
            moves, size, direction = moves + 1, found.new, sign
        best = math.sqrt(scale * 250)
        assert best / 2.9 < size < best * 2.9
    assert moves / 60 < 4
    assert reversals == 0


# the noise scale grows a hundredfold, then falls again: it follows, and may shrink
def test_follows_a_drift():
    size, path = 32, [32]
    for scale in [100 * 1.2**i for i in range(26)] + [10_000 / 1.2**i for i in range(40)]:
        found = ask(size, scale / 1.5, scale * 1.5)
        if found is not None:
            size = found.new
            path.append(size)
    top = path.index(max(path))
    assert max(path) >= 1024 and path[-1] <= 128
    assert path[:top] == sorted(path[:top]) and path[top:] == sorted(path[top:], reverse=True)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"noise_lo": -1.0}, "noise_lo"),
        ({"noise_lo": 5.0, "noise_hi": 1.0}, "noise_lo"),
        ({"noise_hi": math.nan}, "noise_hi"),
        ({"compile_seconds": -1.0}, "compile_seconds"),
        ({"seconds_left": math.nan}, "seconds_left"),
        ({"gain": 1.0}, "gain"),
    ],
)
def test_refuses(named, words):
    given = dict(batch_size=64, noise_scale=None, noise_lo=1.0, noise_hi=2.0, **TIMED)
    with pytest.raises(UsageError, match=words):
        next_batch_size(**{**given, **named})
