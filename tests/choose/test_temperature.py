"""Holding, lowering, stopping and restarting, on numbers that a run could have measured."""

from __future__ import annotations

import math

import pytest

from downslope.choose.restart import MAX_STARTS, start_again, start_hotter
from downslope.choose.temperature import (
    GIVE_UP,
    MAX_ANNEALS,
    MIN_UPDATES,
    next_temperature,
    stands_out,
)

STUCK = {
    "learning_rate": 0.08,
    "batch_size": 128,
    "may_lower": True,
    "may_stop": True,
    "evaluations_without_gain": 3,
    "updates_without_gain": 900,
    "share_without_gain": 0.3,
    "recent_gain": None,
    "anneals_without_gain": 0,
    "fitted_share": None,
    "equilibrium_ratio": None,
    "seconds_per_example": 1e-6,
    "larger_batch_size": None,
    "larger_seconds_per_example": None,
}
LARGER = {"larger_batch_size": 512, "larger_seconds_per_example": 0.5e-6}
FITTED = {
    "learning_rate": 0.01,
    "starts": 1,
    "train_loss": 0.1,
    "held_out_loss": 0.5,
    "gain": None,
    "tolerance": 1e-3,
}


def ask(**changed):
    return next_temperature(**STUCK | changed)


@pytest.mark.parametrize(
    ("gain", "error", "expected"),
    [
        (0.011, 0.01, True),
        (0.009, 0.01, False),
        (0.0011, None, True),
        (0.0009, None, False),
        (0.0009, 1e-6, False),
        (-1.0, 0.0, False),
        (0.0, 0.0, False),
    ],
)
def test_a_gain_must_exceed_noise_and_tolerance(gain, error, expected):
    """Catches one of the two bounds left out, or the sign of a loss that rose."""
    assert stands_out(gain, error, loss=1.0, tolerance=1e-3) is expected


def test_a_negative_loss_can_be_improved():
    """Catches a tolerance relative to the signed loss: then any gain would count."""
    assert not stands_out(0.0005, None, loss=-1.0, tolerance=1e-3)
    assert stands_out(0.002, None, loss=-1.0, tolerance=1e-3)


@pytest.mark.parametrize(
    "going_well",
    [
        {"evaluations_without_gain": 0, "share_without_gain": 0.0},
        {"evaluations_without_gain": 1, "share_without_gain": 0.9},
        {"evaluations_without_gain": 50, "share_without_gain": 0.14},
        {"evaluations_without_gain": 50, "updates_without_gain": MIN_UPDATES - 1},
        {"evaluations_without_gain": 0, "share_without_gain": 0.0, "recent_gain": 0.02},
        {"evaluations_without_gain": 0, "share_without_gain": 0.0, "recent_gain": 0.01},
    ],
)
def test_while_there_are_gains_the_temperature_is_held(going_well):
    """Catches a rate lowered by the clock, by one bad evaluation, or by many of a short time."""
    assert ask(**going_well) is None
    assert ask(**going_well, anneals_without_gain=MAX_ANNEALS) is None


def test_at_the_floor_the_rate_is_quartered():
    """Catches another factor, and a floor that is seen by one of its two signs only."""
    for sign in ({}, {"evaluations_without_gain": 0, "recent_gain": 0.004}):
        found = ask(**sign)
        assert (found.knob, found.old, found.new) == ("learning_rate", 0.08, 0.02)
    assert "3 evaluations" in ask().because
    assert "gained 0.4%" in ask(evaluations_without_gain=0, recent_gain=0.004).because
    assert "R_eq 0.93" in ask(equilibrium_ratio=0.93).because


@pytest.mark.parametrize("may_lower", [True, False])
def test_before_the_end_of_a_schedule_only_overfitting_cools_or_ends(may_lower):
    """Catches a run cooled or cut short by a plateau, or by a net's short pause."""
    for sign in ({"evaluations_without_gain": 40}, {"recent_gain": 0.004}):
        spanned = {
            "spans_the_run": True,
            "may_lower": may_lower,
            "evaluations_without_gain": 40,
        } | sign
        assert ask(**spanned, share_without_gain=0.9) is None
        assert ask(**spanned, overfitted=True, share_without_gain=0.4) is None
        found = ask(**spanned, overfitted=True, share_without_gain=0.5)
        wanted = ("learning_rate", 0.02) if may_lower else ("stop", "converged")
        assert (found.knob, found.new) == wanted and "overfitted" in found.because


@pytest.mark.parametrize(("ratio", "knob"), [(0.89, "batch_size"), (0.91, "learning_rate")])
def test_a_larger_batch_is_taken_only_where_its_examples_are_cheaper(ratio, knob):
    """Catches a batch that grows whatever it costs, and one that never does."""
    found = ask(**LARGER | {"larger_seconds_per_example": ratio * 1e-6})
    assert found.knob == knob
    if knob == "batch_size":
        assert (found.old, found.new) == (128, 512)
        assert "512" in found.because and "0.89" in found.because


@pytest.mark.parametrize(
    "unknown",
    [
        {"seconds_per_example": None},
        {"seconds_per_example": 0.0},
        {"larger_seconds_per_example": None},
        {"larger_seconds_per_example": math.nan},
        {"larger_seconds_per_example": math.inf},
        {"larger_batch_size": None},
    ],
)
def test_a_batch_that_was_not_timed_is_not_taken(unknown):
    """Catches a cost that is taken to be zero where it is not known."""
    assert ask(**LARGER | unknown).knob == "learning_rate"


@pytest.mark.parametrize(
    ("share", "ends"), [(9e-7, True), (2e-6, False), (None, False), (-1, False)]
)
def test_fitted_rows_end_the_run(share, ends):
    """Catches a run that goes on for its last digits, and a negative loss taken for a small one."""
    found = ask(fitted_share=share, evaluations_without_gain=0, recent_gain=0.5)
    assert (found is not None and found.knob == "stop") is ends
    assert ask(fitted_share=share, may_stop=False, evaluations_without_gain=0) is None


def test_two_lower_temperatures_in_vain_end_the_run():
    """Catches a run that goes on for ever, or ends at the first floor."""
    for anneals in range(MAX_ANNEALS):
        assert ask(anneals_without_gain=anneals).knob == "learning_rate"
    found = ask(anneals_without_gain=MAX_ANNEALS, **LARGER)
    assert (found.knob, found.new) == ("stop", "converged")
    assert f"{MAX_ANNEALS} lower temperatures" in found.because


def test_what_is_given_is_neither_lowered_nor_stopped():
    """Catches a given schedule that is annealed, and a given end that is not waited for."""
    assert ask(may_lower=False, may_stop=False, evaluations_without_gain=99) is None
    assert ask(may_stop=False, anneals_without_gain=99) is None
    held = {"may_lower": False, **LARGER}
    assert ask(**held, evaluations_without_gain=GIVE_UP - 1) is None
    found = ask(**held, evaluations_without_gain=GIVE_UP)
    assert found.knob == "stop" and "lower temperatures" not in found.because
    # little gained of late is no reason to end a run that cannot be cooled
    assert ask(**held, evaluations_without_gain=0, recent_gain=0.001) is None


def test_a_rule_that_holds_its_own_rate_is_only_stopped():
    """Catches a quarter of None."""
    assert ask(learning_rate=None, **LARGER).knob == "stop"


def test_an_overfitted_run_starts_again_at_a_lower_rate():
    """Catches another factor than half a decade, and the latest rate in place of the first."""
    found = start_again(**FITTED)
    assert found.knob == "learning_rate"
    assert found.old / found.new == pytest.approx(math.sqrt(10))
    assert "0.1" in found.because and "0.5" in found.because


@pytest.mark.parametrize(
    "changed",
    [
        {"starts": MAX_STARTS},
        {"train_loss": None},
        {"held_out_loss": None},
        {"train_loss": 0.38},
        {"train_loss": 0.6},
        {"train_loss": -0.1},
        {"gain": 0.0},
        {"gain": -0.2},
        {"gain": 0.0004},
        {"train_loss": -1.0, "held_out_loss": -0.5},
        {"train_loss": math.nan},
    ],
)
def test_otherwise_it_does_not(changed):
    """Catches starts without end, after a start in vain, or of a run that is not overfitted."""
    assert start_again(**FITTED | changed) is None


def test_it_starts_again_while_that_gains():
    """Catches a second start that is the last whatever it brought."""
    assert start_again(**FITTED | {"starts": 2, "gain": 0.01}) is not None


INTERPOLATED = {"learning_rate": 0.01, "starts": 1, "train_loss": 0.01, "held_out_loss": 0.2}


def test_an_interpolating_run_starts_again_at_a_higher_rate():
    """Catches a lower rate, and another factor than four."""
    found = start_hotter(**INTERPOLATED)
    assert found.from_start and (found.old, found.new) == (0.01, 0.04)
    assert "0.01" in found.because and "0.2" in found.because


@pytest.mark.parametrize(
    "changed",
    [
        {"starts": 2},
        {"train_loss": None},
        {"held_out_loss": None},
        {"train_loss": 0.021},
        {"train_loss": -0.01},
        {"train_loss": math.nan},
    ],
)
def test_a_run_that_does_not_interpolate_starts_no_hotter(changed):
    """Catches a start of a merely overfitted run, and starts without end."""
    assert start_hotter(**INTERPOLATED | changed) is None
