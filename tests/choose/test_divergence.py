"""Divergence and early stopping, from losses seen so far."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.choose.divergence import EXPLOSION, EXPLOSION_STEPS, has_exploded
from downslope.choose.patience import is_better, out_of_patience

N = EXPLOSION_STEPS


@pytest.mark.parametrize(
    ("first", "last", "exploded"),
    [
        ([1.0] * N, [99.0] * N, False),
        ([1.0] * N, [101.0] * N, True),
        ([1e-9] * N, [1e-6] * N, True),  # relative to the run's own scale
        ([-5.0] * N, [499.0] * N, False),  # losses may be negative
        ([-5.0] * N, [501.0] * N, True),
        ([-5.0] * N, [-5000.0] * N, False),  # lower is no explosion
        ([1.0] * (N - 1), [1e9] * N, False),  # not estimable
        ([1.0] * N, [1e9] * (N - 1), False),
        ([], [], False),
    ],
)
def test_explosions(first, last, exploded):
    """Catches an absolute threshold, a sign mistaken, and a verdict from a handful of losses."""
    assert has_exploded(first, last) is exploded


def test_single_losses_of_a_heavy_tail_are_no_explosion():
    """Catches a mean, or a maximum, in place of the recent median."""
    last = [1.0] * N
    last[3] = last[7] = 1e12
    assert not has_exploded([1.0] * N, last)


@pytest.mark.parametrize("first", [[0.0] * N, [0.0] * (N - 3) + [8.0] * 3])
def test_early_losses_of_zero_set_no_scale(first):
    """Catches a scale of 1e-30: a rare target, at batch size 1, begins with losses of zero."""
    assert not has_exploded(first, [0.01] * N)


def test_losses_around_zero_set_a_scale_by_their_size():
    """Catches the size of the median (here 0) in place of the median of sizes."""
    assert not has_exploded([1.0, -1.0] * (N // 2), [50.0] * N)
    assert has_exploded([1.0, -1.0] * (N // 2), [150.0] * N)


@given(st.integers(0, 2**32 - 1))
def test_no_false_alarm_on_noise(seed):
    """Catches a threshold that noise alone crosses; the tail has no variance here."""
    rng = np.random.default_rng(seed)
    first, last = np.abs(rng.standard_t(2, size=(2, N)))
    assert EXPLOSION >= 100 and not has_exploded(first.tolist(), last.tolist())


@pytest.mark.parametrize(
    ("loss", "best", "tolerance", "better"),
    [
        (0.98, 1.0, 0.01, True),
        (0.995, 1.0, 0.01, False),
        (1.0, 1.0, 0.0, False),
        (math.nextafter(1.0, 0.0), 1.0, 0.0, True),
        (-1.005, -1.0, 0.01, False),  # of a negative best, better is further below
        (-1.02, -1.0, 0.01, True),
        (-0.995, -1.0, 0.01, False),
        (5.0, None, 0.5, True),
        (float("nan"), 1.0, 0.0, False),
        (float("inf"), 1.0, 0.0, False),
    ],
)
def test_better(loss, best, tolerance, better):
    """Catches best * (1 - tolerance), which for negative losses calls worse ones better."""
    assert is_better(loss, best, tolerance) is better


def test_converged():
    """Catches patience one off, and a run without patience that stops."""
    stops = [out_of_patience(evaluations_without_gain=n, patience=2) is not None for n in range(4)]
    assert stops == [False, False, True, True]
    assert out_of_patience(evaluations_without_gain=10**9, patience=None) is None
