"""Held-out losses: the lowest one, and gains that exceed their noise."""

from __future__ import annotations

import numpy as np
import pytest

from downslope.train.held_out import HeldOut

ROWS = 400


def losses(mean, scatter=0.0, seed=0):
    noise = scatter * np.random.default_rng(seed).normal(size=ROWS)
    return mean + noise - noise.mean()


def gains(*evaluations, tolerance=1e-3, first_loss=10.0):
    """Whether each of the evaluations gained on the reference."""
    record, found = HeldOut(), []
    for each in evaluations:
        loss = float(np.mean(each))
        record, gained = record.compared(
            loss, each if np.ndim(each) else None, first_loss=first_loss, tolerance=tolerance
        )
        found.append(gained)
    return found


def test_a_gain_within_the_noise_of_paired_rows_is_none():
    """Catches a comparison by means alone, and one by unpaired errors."""
    means = [1.0, 0.99, 0.98]
    assert gains(*(losses(m) for m in means)) == [True] * 3
    assert gains(*(losses(m, 0.5, seed) for seed, m in enumerate(means))) == [True, False, False]
    same_rows = [losses(m, 0.5, seed=1) for m in means]  # they differ by the mean alone
    assert gains(*same_rows) == [True] * 3


def test_a_rise_exceeds_twice_the_noise_of_paired_rows():
    """Catches a rise of the mean alone, and one that as little noise as a gain's would make."""

    def rises(now):
        scatter = losses(0.0, 0.5, seed=1)  # of the difference: an error of 0.025
        first, later = losses(1.0), losses(now) + scatter
        record = HeldOut()
        for each in (first, later):
            mean = float(np.mean(each))
            record, _ = record.compared(mean, each, first_loss=10.0, tolerance=1e-3)
        return record.rose

    assert [rises(now) for now in (0.5, 1.02, 1.04, 1.06)] == [False, False, False, True]


def test_small_gains_add_up_to_one():
    """Catches a reference that follows losses which do not count."""
    assert gains(1.0, 0.9995, 0.9991, 0.9988) == [True, False, False, True]


def test_the_scale_of_a_gain_is_not_a_loss_near_zero():
    """Catches relative gains of a loss of next to nothing, which never cease."""
    assert gains(1e-4, 0.5e-4, first_loss=10.0) == [True, False]
    assert gains(1e-4, 0.5e-4, first_loss=1e-3) == [True, True]


def test_rows_of_another_number_are_compared_without_an_error():
    """Catches a paired difference of rows that are not the same."""
    assert gains(losses(1.0, 0.5), losses(0.5, 0.5)[:100]) == [True, True]


def test_the_lowest_loss_needs_no_tolerance_and_outlives_a_restart():
    """Catches best parameters that miss small gains, or are lost at a new start."""
    record = HeldOut()
    found = []
    for step, loss in enumerate((1.0, 0.9999, None, float("nan"), 0.9998, 2.0), start=1):
        record, is_lowest = record.evaluated(step, loss)
        found.append(is_lowest)
    assert found == [True, True, False, False, True, False]
    assert (record.lowest_loss, record.lowest_step, record.evaluated_step) == (0.9998, 5, 6)
    record, _ = record.compared(0.9, np.ones(3), first_loss=1.0, tolerance=0.0)
    again = record.restarted(6)
    assert again.reference_loss is again.reference_losses is None
    assert again.lowest_loss == pytest.approx(0.9998)
