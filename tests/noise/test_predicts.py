"""That the measured noise scale predicts the critical batch size, on real data.

The runs are those of the benchmark `critical`, with fewer batch sizes, seeds and gradients. The
critical batch size comes from counted steps alone and shares no formula with the noise scale.
Plain SGD, which the law is derived for; where momentum fails is told in
docs/decisions/2026-11-22-how-well-the-noise-scale-predicts-the-critical-batch.md.
"""

import dataclasses
import math

import pytest
from benchmarks.critical import PLAIN, compare

SMALL = dataclasses.replace(
    PLAIN, batch_sizes=(8, 16, 32, 64, 256), targets=(0.5, 0.2), num_seeds=2, num_examples=500
)


# catches: a scale per half batch or per batch instead of per example (32 or 64 times too small),
# the trace of the mean gradient, |G| for |G|^2; by the mean over targets a factor of 2.2 too
@pytest.mark.slow
def test_noise_scale_predicts_the_critical_batch_size_of_digits():
    compared, _ = compare(SMALL)
    ratios = {one.way: one.ratio for one in compared}
    at_best_rate = [one for one in compared if not one.way.endswith("a quarter of the rate")]
    assert all(one.met for one in at_best_rate), ratios
    for figure in ("on the way", "by `fit` at its end"):
        logs = [math.log(r or math.nan) for way, r in ratios.items() if way.endswith(figure)]
        assert 1 / 1.8 < math.exp(sum(logs) / len(logs)) < 1.8, (figure, ratios)
