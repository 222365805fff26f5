"""Branches before a change of batch size: when, and what their arms decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from downslope.choose import branched_critical_batch, settle_batch_size
from downslope.choose.branch import ARM_SHARE, BRANCH_SHARE, MIN_ARM, arm_seconds

ASKED = {
    "batch_size": 64, "candidate": 256, "step_seconds": 1e-3, "seconds": 100.0, "done": 0.2,
    "spent_seconds": 0.0,
}  # fmt: skip
ENDED = {
    "batch_size": 64, "candidate": 256, "num_steps": 1600, "candidate_steps": 800,
    "arm_seconds": 1.6, "difference": 0.0, "error": 0.01, "num_rows": 2048, "loss": 1.0,
    "tolerance": 1e-3, "noise_scale": 900.0, "noise_lo": 700.0, "noise_hi": 1200.0,
    "step_seconds": 1e-3, "candidate_seconds": 2e-3,
}  # fmt: skip


def settled(**changed):
    return settle_batch_size(**ENDED | changed)


def test_an_arm_takes_its_share_of_the_time_left():
    """Catches a share of the time that has passed, and a run without an end taken for over."""
    assert arm_seconds(**ASKED) == pytest.approx(400 * ARM_SHARE)
    assert arm_seconds(**ASKED | {"done": None}) == pytest.approx(100 * ARM_SHARE)


def test_a_run_too_short_for_arms_that_say_something_has_none():
    """Catches updates counted at the present size for an arm of the larger one, and the other way
    round for a smaller candidate.
    """
    least = MIN_ARM / ARM_SHARE  # updates left
    for candidate, factor in ((256, 4), (16, 1)):
        for margin, has_arm in ((1.01, True), (0.99, False)):
            each = 400 / (least * factor * margin)
            found = arm_seconds(**ASKED | {"candidate": candidate, "step_seconds": each})
            assert (found is not None) is has_arm


def test_all_arms_keep_to_their_share_of_the_run():
    """Catches a share for each branch, of which there may be any number, and one arm counted."""
    room = BRANCH_SHARE * 500 - 2 * 400 * ARM_SHARE
    assert arm_seconds(**ASKED | {"spent_seconds": room - 0.01}) is not None
    assert arm_seconds(**ASKED | {"spent_seconds": room + 0.01}) is None


@pytest.mark.parametrize(
    ("changed", "new", "end"),
    [
        ({"difference": -0.03}, 256, "confirmed"),
        ({"difference": 0.03}, 64, "refused"),
        ({"difference": 0.019}, 256, "as predicted"),  # below two standard errors
        ({"difference": -0.019, "candidate_seconds": 8e-3}, 64, "as predicted"),
        ({"difference": 0.03, "tolerance": 0.04}, 256, "as predicted"),
        ({"difference": 0.03, "error": None}, 256, "as predicted"),  # one row
        ({"noise_scale": None, "noise_lo": None, "noise_hi": None}, 64, "no change"),
        ({"noise_scale": None, "noise_hi": None}, 256, "as predicted"),
        ({"was_refused": True}, 64, "256 stays refused"),
        ({"was_refused": True, "difference": -0.03}, 256, "confirmed"),
        ({"difference": math.inf, "error": None}, 64, "256 diverged"),
        ({"difference": -math.inf, "error": None}, 256, "64 diverged"),
        ({"difference": None, "error": None, "loss": None}, 64, "both diverged"),
    ],
)
def test_held_out_rows_decide_and_the_prediction_where_they_cannot(changed, new, end):
    """Catches a sign exchanged, one standard error taken for noise, a prediction that overrules
    rows that differ or was refuted before, and a change that nothing speaks for.
    """
    found = settled(**changed)
    assert (found.knob, found.old, found.new) == ("batch_size", 64, new)
    assert end in found.because and "branched: after 1.6 s each" in found.because


def test_the_sentence_holds_the_prediction_against_the_branch():
    """Catches a ratio upside down, another noise scale's name, and a ratio that is told though no
    critical batch is known.
    """
    ratio = (1 + 900 / 256) / (1 + 900 / 64) * 2
    for metric in ("Euclidean", "preconditioned"):
        found = settled(difference=0.03, is_preconditioned=metric == "preconditioned")
        assert f"critical batch 900 (700 to 1,200) by the {metric} noise scale" in found.because
        assert f", so the rest takes {ratio:.3g} of its time with 256; branched:" in found.because
    assert "not told apart by 2,048 held-out rows" in settled(difference=0.01).because
    nothing = {"noise_scale": None, "noise_lo": None, "noise_hi": None}
    assert "no critical batch was predicted" in settled(**nothing).because


def losses(rng, num_rows, difference):
    """Losses of rows at the ends of two arms: rows scatter by 1, differences by 0.1."""
    rows = rng.exponential(size=num_rows)
    return rows + difference + 0.1 * rng.normal(size=num_rows), rows


@pytest.mark.parametrize(
    ("difference", "end", "lo", "hi"),
    [
        (0.0, "as predicted", 0.93, 0.97),
        (0.02, "refused", 0.99, 1.0),
        (-0.02, "confirmed", 0.99, 1),
    ],
)
def test_its_error_rates_are_those_of_a_paired_test(difference, end, lo, hi):
    """Catches an unpaired standard error, 14 times as large, by which nothing is told apart; and
    one that forgets the number of rows.
    """
    from downslope.train.held_out import error_of_difference

    rng, count, num_runs = np.random.default_rng(0), 0, 2000
    for _ in range(num_runs):
        candidate, present = losses(rng, 512, difference)
        mean, error = np.mean(candidate - present), error_of_difference(candidate, present)
        count += end in settled(difference=mean, error=error, tolerance=0.0).because
    assert lo <= count / num_runs <= hi


@pytest.mark.parametrize("truth", [30.0, 200.0, 2000.0])
def test_the_branched_critical_batch_is_that_of_the_gains(truth):
    """Catches gains per second in place of per update, sizes exchanged, and intervals that leave
    out that the arms share their rows.
    """
    rng, held, num_runs, bounded = np.random.default_rng(1), 0, 1000, 0
    sizes, steps = (256, 64), (500, 2000)
    means = [n * 1e-4 / (1 + truth / b) for b, n in zip(sizes, steps, strict=True)]
    own, common = 0.01 * min(means), 0.05 * min(means)
    for _ in range(num_runs):
        shared = common * rng.normal()
        gains = tuple(m + shared + own * rng.normal() for m in means)
        found = branched_critical_batch(
            batch_sizes=sizes, num_steps=steps, gains=gains, errors=(math.hypot(own, common),) * 2,
            difference_error=math.sqrt(2) * own,
        )  # fmt: skip
        bounded += found.is_bounded
        held += (found.lo or 0.0) <= truth <= (math.inf if found.hi is None else found.hi)
    assert 0.92 <= held / num_runs <= 0.98 and bounded > 0.9 * num_runs
    exact = branched_critical_batch(
        batch_sizes=sizes, num_steps=steps, gains=tuple(means), errors=(1e-9, 1e-9)
    )
    assert exact.value == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize(
    ("gains", "is_known"),
    [
        ((0.1, 0.0999), (False, False, True)),  # four times the examples gained nothing more
        ((0.1, 0.05), (False, False, False)),
        ((0.1, 0.401), (False, True, False)),
        ((0.1, 0.5), (False, False, False)),
        ((0.1, 0.398), (True, True, False)),
        ((0.1, 0.2), (True, True, True)),
        ((0.1, -0.1), (False, False, False)),
        ((0.001, 0.1), (False, False, False)),
        ((None, 0.1), (False, False, False)),
    ],
)
def test_gains_beyond_the_law_give_bounds_or_nothing(gains, is_known):
    """Catches a negative critical batch or one of 0, an infinite one, and a value from noise."""
    found = branched_critical_batch(
        batch_sizes=(64, 256), num_steps=(100, 100), gains=gains, errors=(0.001, 0.001)
    )
    assert tuple(end is not None for end in (found.value, found.lo, found.hi)) == is_known


def test_the_sentence_holds_the_branched_critical_batch_too():
    """Catches a policy that is not told what the arms gained, and a value told out of nothing."""
    gains = {
        "gain": 0.2,
        "gain_error": 0.002,
        "candidate_gain": 0.25,
        "candidate_gain_error": 0.002,
    }
    found = settled(**gains)
    ratio = (0.25 / 800) / (0.2 / 1600)
    critical = (ratio - 1) * 64 * 256 / (256 - 64 * ratio)
    assert f"the critical batch is {critical:.3g} (" in found.because
    assert "by what their updates gained" not in settled().because
