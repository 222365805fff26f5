"""Counts and losses of a run, which must not depend on where calls begin."""

from __future__ import annotations

import json

import numpy as np
import pytest

from downslope.data.stream import Position
from downslope.train.progress import SMOOTHING, TrainingProgress


def _progress(means, cuts):
    progress = TrainingProgress()
    for part in np.split(np.asarray(means, np.float32), cuts):
        sizes = np.full(len(part), 8)
        progress.add(part * 8, sizes, len(part), Position(0, progress.num_examples + 8 * len(part)))
    return progress


@pytest.mark.parametrize("num", [7, 300, 6000])
def test_the_smoothed_loss_is_one_mean_however_calls_divide_it(num):
    """Catches a mean that begins from the first call's, and then falls too slowly."""
    means = np.random.default_rng(num).gamma(2.0, size=num) + np.linspace(50, 0, num)
    expected = np.average(means, weights=(1 - 1 / SMOOTHING) ** np.arange(num)[::-1])
    for cuts in ([], [1, 2, 3], [num // 2], range(1, num, max(1, num // 50))):
        progress = _progress(means, cuts)
        assert progress.smoothed_loss == pytest.approx(expected, rel=1e-6)
        assert progress.num_steps == num
        assert progress.train_loss == pytest.approx(means.mean(), rel=1e-5)


def test_progress_survives_its_document():
    """Catches a field that is not saved, or comes back as another type."""
    progress = _progress(np.arange(40.0), [13])
    back = TrainingProgress.from_json(json.loads(json.dumps(progress.to_json())))
    assert back == progress
    more = np.arange(5.0)
    for one in (progress, back):
        one.add(more, np.ones(5), 5, Position(1, 0))
    assert back == progress
    assert back.last_losses.maxlen == progress.last_losses.maxlen
