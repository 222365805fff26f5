"""The account of a run: what it says must not depend on where calls begin."""

from __future__ import annotations

import json

import numpy as np
import pytest

from downslope.data.stream import Position
from downslope.train.tally import SMOOTHING, Tally


def _tally(means, cuts):
    tally = Tally()
    for part in np.split(np.asarray(means, np.float32), cuts):
        sizes = np.full(len(part), 8)
        tally.add(part * 8, sizes, len(part), Position(0, tally.num_examples + 8 * len(part)))
    return tally


@pytest.mark.parametrize("num", [7, 300, 6000])
def test_the_smoothed_loss_is_one_mean_however_calls_divide_it(num):
    """Catches a mean that begins from the first call's, and then falls too slowly."""
    means = np.random.default_rng(num).gamma(2.0, size=num) + np.linspace(50, 0, num)
    expected = np.average(means, weights=(1 - 1 / SMOOTHING) ** np.arange(num)[::-1])
    for cuts in ([], [1, 2, 3], [num // 2], range(1, num, max(1, num // 50))):
        tally = _tally(means, cuts)
        assert tally.smoothed_loss == pytest.approx(expected, rel=1e-6)
        assert tally.num_steps == num
        assert tally.train_loss == pytest.approx(means.mean(), rel=1e-5)


def test_a_tally_survives_its_document():
    """Catches a field that is not saved, or comes back as another type."""
    tally = _tally(np.arange(40.0), [13])
    tally.evaluated(2.0, 0.0)
    tally.evaluated(3.0, 0.0)
    back = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    assert back == tally
    more = np.arange(5.0)
    for one in (tally, back):
        one.add(more, np.ones(5), 5, Position(1, 0))
    assert back == tally
    assert back.last_losses.maxlen == tally.last_losses.maxlen


def test_the_lowest_and_the_gained_loss_are_told_apart():
    """Catches a patience that small gains reset for ever, or best parameters that miss them."""
    tally = Tally()
    found = [tally.evaluated(loss, 0.1) for loss in (1.0, 0.95, None, 0.96, 0.8)]
    assert found == [True, True, False, False, True]
    assert (tally.best_loss, tally.evaluations_since_gain) == (0.8, 0)
    tally.evaluated(0.79, 0.1)
    assert (tally.best_loss, tally.gained_loss, tally.evaluations_since_gain) == (0.79, 0.8, 1)
