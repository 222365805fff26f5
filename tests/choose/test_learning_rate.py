"""The search for a learning rate, on losses that are known functions of the rate."""

from __future__ import annotations

import itertools
import math

import pytest

from downslope.choose.learning_rate import (
    MAX_TRIALS,
    RATE_STRIDE,
    first_rate,
    next_trial,
    settle_rate,
    trial_steps,
)
from downslope.errors import UsageError


def search(first, loss):
    """The rates tried, in their order, and the losses found there."""
    losses: dict[float, float] = {}
    while (rate := next_trial(first, losses)) is not None:
        assert rate not in losses
        losses[rate] = loss(rate)
    return losses


def valley(best):
    """Falls to `best`, rises above it, and is lost ten times above it."""
    return lambda rate: math.inf if rate > 10 * best else abs(math.log(rate / best))


def test_the_first_rate_is_where_a_quadratic_is_stable():
    """Descent on lambda x^2/2 shrinks x by 1 - rate lambda, so twice the edge 2/lambda blows up.

    Catches 1/lambda, momentum that is left out or turned round, and noise that raises the rate.
    """
    rate = first_rate(largest_eigenvalue=5.0, momentum=0.0, noise_scale=0.0, batch_size=1.0)
    assert abs(1 - rate * 5.0) == pytest.approx(1.0)
    slow = first_rate(largest_eigenvalue=5.0, momentum=0.75, noise_scale=0.0, batch_size=1.0)
    assert slow / (1 - 0.75) == pytest.approx(rate)
    for batch, factor in ((10.0, 1 / 4), (30.0, 1 / 2), (90.0, 3 / 4)):
        noisy = first_rate(largest_eigenvalue=5.0, momentum=0.0, noise_scale=30.0, batch_size=batch)
        assert noisy == pytest.approx(rate * factor)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"largest_eigenvalue": 0.0}, "largest_eigenvalue"),
        ({"largest_eigenvalue": -1.0}, "largest_eigenvalue"),
        ({"largest_eigenvalue": math.inf}, "largest_eigenvalue"),
        ({"largest_eigenvalue": math.nan}, "largest_eigenvalue"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"momentum": math.nan}, "momentum"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"noise_scale": math.nan}, "noise_scale"),
        ({"batch_size": 0.0}, "batch_size"),
    ],
)
def test_a_first_rate_out_of_nothing_is_refused(changed, words):
    """Catches a rate that is infinite, negative or not a number."""
    given = {"largest_eigenvalue": 1.0, "momentum": 0.0, "noise_scale": 0.0, "batch_size": 1.0}
    with pytest.raises(UsageError, match=words):
        first_rate(**given | changed)


@pytest.mark.parametrize(
    ("epoch", "run", "expected"),
    [
        (None, None, 64),
        (1e9, None, 64),
        (800, None, 50),
        (320, None, 20),
        (3, None, 20),
        (None, 40 * 50, 50),
        (1e9, 40 * 1000, 512),
        (25, 40 * 1000, 25),  # rows of one epoch
        (None, 40 * 20 - 1, 20),
        (None, 24 * 16, 16),
        (None, 24 * 16 - 1, 0),
        (1, 1, 0),
        (1600, 24 * 18, 18),
    ],
)
def test_a_trial_takes_a_small_part_of_the_run(epoch, run, expected):
    """Catches a search that is longer than the run, and trials too short to compare."""
    assert trial_steps(epoch_steps=epoch, run_steps=run) == expected
    if run is not None:
        assert MAX_TRIALS * expected < run / 3


@pytest.mark.parametrize("decades", [-2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0])
def test_a_valley_is_found_from_both_sides(decades):
    """Catches a search that goes one way only, leaves gaps, or stops beside the best rate."""
    best = 0.01 * 10**decades
    losses = search(0.01, valley(best))
    found = min(losses, key=losses.__getitem__)
    assert abs(math.log10(found / best)) <= 0.25 + 1e-9  # half of half a decade
    assert len(losses) <= MAX_TRIALS
    rates = sorted(losses)
    for low, high in itertools.pairwise(rates):
        assert high / low == pytest.approx(RATE_STRIDE)
    assert rates[0] < found < rates[-1]  # both neighbours were seen to do worse


def test_a_search_begun_far_too_high_comes_down():
    """Catches a search that is given up, or goes up, where the first rate diverges."""
    losses = search(1.0, lambda rate: math.inf if rate > 0.02 else 1 / rate)
    assert min(losses, key=losses.__getitem__) == pytest.approx(0.01)
    assert sorted(losses.values())[-1] == math.inf


def test_a_search_ends():
    """Catches an endless climb where losses fall for ever, and an endless descent."""
    for loss in (lambda rate: 1 / rate, lambda rate: rate, lambda rate: math.inf):
        losses = search(0.01, loss)
        assert len(losses) == MAX_TRIALS
        assert max(losses) / min(losses) == pytest.approx(RATE_STRIDE ** (MAX_TRIALS - 1))


def test_of_equal_losses_the_lower_rate_is_taken():
    """Catches a flat loss that drives the rate up to where it breaks."""
    losses = search(0.01, lambda rate: 1.0)
    found = settle_rate(first=0.01, rates=tuple(losses), losses=tuple(losses.values()), steps=40)
    assert found.new == min(losses)
    assert max(losses) <= 0.01 * RATE_STRIDE + 1e-9  # one look up, and no climb


def test_the_lowest_loss_settles_it():
    """Catches the last rate tried, the highest that survived, or the order of the rates."""
    found = settle_rate(
        first=0.1, rates=(0.1, 0.3, 0.03, 0.01), losses=(1.0, math.inf, 1.5, 2.0), steps=40
    )
    assert (found.knob, found.old, found.new) == ("learning_rate", 0.1, 0.1)
    assert "2 at 0.01, 1.5 at 0.03, 1 at 0.1 and infinite at 0.3" in found.because
    assert "40 updates" in found.because
    only = settle_rate(first=0.1, rates=(0.1,), losses=(2.0,), steps=16)
    assert only.new == only.old == 0.1 and "2 at 0.1" in only.because


def test_where_every_rate_diverged_none_is_settled_on():
    """Catches a rate that is taken because it comes first."""
    assert settle_rate(first=0.1, rates=(0.1, 0.03), losses=(math.inf, math.inf), steps=9) is None


@pytest.mark.parametrize("decades", [-0.2, -0.1, 0.0, 0.1, 0.2])
def test_the_vertex_of_a_parabola_is_found(decades):
    """Catches a shift of the wrong sign or scale, and neighbours of unequal distance confused."""
    best = 0.01 * 10**decades
    for factors in ((1 / RATE_STRIDE, 1, RATE_STRIDE), (1 / 10, 1, RATE_STRIDE)):
        rates = tuple(0.01 * factor for factor in factors)
        losses = tuple(1 + math.log(rate / best) ** 2 for rate in rates)
        found = settle_rate(first=0.01, rates=rates, losses=losses, steps=40)
        assert found.new == pytest.approx(best) and f"{best:.3g}" in found.because


def test_noise_moves_the_rate_by_half_a_step_at_most():
    """Catches a vertex far outside of what was tried, where the losses are nearly flat."""
    rates = (0.01 / RATE_STRIDE, 0.01, 0.01 * RATE_STRIDE)
    found = settle_rate(first=0.01, rates=rates, losses=(1 + 1e-9, 1.0, 2.0), steps=40)
    assert 0.01 / RATE_STRIDE**0.5 - 1e-9 <= found.new <= 0.01


def test_a_longer_run_gets_a_lower_rate():
    """Catches a rate that is raised with the length, or by a run that is as short as its trials."""
    made = dict(first=0.01, rates=(0.01,), losses=(1.0,), steps=64)
    rates = [settle_rate(**made, run_steps=steps).new for steps in (None, 64, 128, 6400)]
    assert rates[0] == rates[1] == 0.01 > rates[2] > rates[3] > 0.001
