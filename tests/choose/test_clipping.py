"""Clipping: on for norms with a heavy tail, off for all others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from downslope.choose.clipping import MIN_NORMS, next_clip_norm
from downslope.noise.tails import hill

HEAVY = {
    "clip_norm": None,
    "num_norms": 200,
    "threshold": 2.0,
    "largest": 300.0,
    "tail_index_upper": 1.5,
    "clipped_share": 0.1,
    "length_lost": 0.4,
}


def test_a_heavy_tail_is_clipped_with_its_bias_told():
    """Catches a threshold that is not the quantile, and a bias that is not reported."""
    found = next_clip_norm(**HEAVY)
    assert (found.knob, found.old, found.new) == ("clip_norm", None, 2.0)
    for words in ("200 gradients", "below 1.5", "300", "10%", "40%"):
        assert words in found.because


@pytest.mark.parametrize(
    "changed",
    [
        {"clip_norm": 5.0},
        {"num_norms": MIN_NORMS - 1},
        {"tail_index_upper": None},
        {"tail_index_upper": 2.0},
        {"tail_index_upper": math.inf},
        {"largest": 19.9},
    ],
)
def test_otherwise_gradients_are_left_alone(changed):
    """Catches a given norm that is changed, a tail guessed from few norms, and clipping of norms
    whose variance is finite or whose largest is near.
    """
    assert next_clip_norm(**HEAVY | changed) is None


def of(norms):
    """The decision on these norms, each number from its definition."""
    ordered = np.sort(norms)
    threshold = ordered[int(0.9 * len(norms))]
    return next_clip_norm(
        clip_norm=None,
        num_norms=len(norms),
        threshold=float(threshold),
        largest=float(ordered[-1]),
        tail_index_upper=hill(norms, num_tail=len(norms) // 10).hi,
        clipped_share=0.1,
        length_lost=0.0,
    )


def test_it_tells_cauchy_from_gauss():
    """Catches a rule that clips what it need not in more than a few of 20 draws, or misses a tail
    of index 1: with 256 norms its upper end is under 2 in most.
    """
    rng = np.random.default_rng(0)
    heavy = sum(of(np.abs(rng.standard_cauchy(256))) is not None for _ in range(20))
    light = sum(of(np.abs(rng.normal(size=256))) is not None for _ in range(20))
    chi = sum(of(np.linalg.norm(rng.normal(size=(256, 9)), axis=1)) is not None for _ in range(20))
    assert heavy >= 14
    assert light == chi == 0
