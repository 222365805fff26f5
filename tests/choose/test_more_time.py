"""Held-out loss of a run twice as long."""

from __future__ import annotations

import json

import numpy as np
import pytest

import loops
import plain
from downslope.choose import twice_as_long
from downslope.estimate import Estimate
from loops import X, Y

STEPS = [100, 200, 300, 400]


def said(losses, steps=STEPS, **loss):
    return twice_as_long(
        steps, losses, Estimate(**{"value": losses[-1] if losses else None, "unit": "nats"} | loss)
    )


def test_the_second_half_tells_the_next_doubling():
    """Catches a gain over the whole run, and one that is taken off instead of multiplied."""
    found = said([t**-0.5 for t in STEPS], num_examples=70, hi=1.1 * 400**-0.5)
    gain = np.log(200**-0.5 / 400**-0.5)
    assert found.value == pytest.approx(400**-0.5 * np.exp(-1.2 * gain))
    half_width = np.log(found.hi / found.value)
    assert half_width == pytest.approx(np.sqrt((2 * gain) ** 2 + 0.15**2 + 0.03**2))
    assert np.log(found.value / found.lo) == pytest.approx(half_width)
    assert found.lo < 800**-0.5 < found.hi
    assert (found.unit, found.num_steps, found.num_examples) == ("nats", 400, 70)


def test_the_lowest_loss_counts_and_the_loss_of_all_rows_is_scaled():
    """Catches the last loss of a run that overfits, and a sample's loss in place of all rows'."""
    still = said([0.9, 0.5, 0.6, 0.7], value=0.45)
    assert (still.value, still.hi) == pytest.approx((0.45, 0.45 * np.exp(0.15)))
    early = said([0.5, 0.9, 0.6, 0.4], steps=[100, 150, 200, 400])
    assert early.value == pytest.approx(0.4 * (0.4 / 0.5) ** 1.2)
    later = said([0.9, 0.6, 0.4, 0.7], value=0.45)
    assert later.value == pytest.approx(0.45 * (0.4 / 0.6) ** 1.2)


def test_the_loss_at_half_lies_between_evaluations():
    """Catches the nearest evaluation, whose place depends on when one was made."""
    found = said([1.0, 0.8, 0.6, 0.4], steps=[100, 150, 250, 400])
    assert found.value == pytest.approx(0.4 * (0.4 / 0.7) ** 1.2)
    at_half = said([1.0, 0.7, 0.6, 0.4], steps=[100, 200, 250, 400])
    assert at_half.value == pytest.approx(found.value)


@pytest.mark.parametrize(
    ("losses", "steps", "more", "reason"),
    [
        ([0.6, 0.5, 0.4], STEPS[1:], {}, "3 evaluations, of 4"),
        ([], [], {"value": 0.4}, "0 evaluations"),
        ([0.6, 0.5, 0.4, 0.3], [250, 300, 350, 400], {}, "first half"),
        ([0.6, 0.1, -0.4, -0.8], STEPS, {}, "0 or below"),
        ([0.6, 0.1, 0.4, 0.3], STEPS, {"value": 0.0}, "0 or below"),
        ([0.6, 0.1, 0.4, 0.3], STEPS, {"value": None, "reason": "not finite"}, "not finite"),
    ],
)
def test_what_the_run_does_not_show_is_not_estimated(losses, steps, more, reason):
    found = said(losses, steps, **more)
    assert not found.is_bounded and reason in found.reason


def run(**options):
    """A run with a search, that ends after 120 updates."""
    return plain.fit(loops.line, loops.model(), (X, Y), **{
        "batch_size": 20, "validation": (X, Y), "patience": "auto", "schedule": "auto",
        "learning_rate": 1e-4, "optimizer": "sgd", "epochs": 24,
    } | options)  # fmt: skip


def test_a_run_that_a_limit_ends_says_what_more_would_give(tmp_path):
    """Catches a statement that reaches only one of its readers, and one on another curve."""
    result = run(out=tmp_path / "run")
    found = result.twice_as_long
    evaluated = [r for r in result.history if r["event"] == "evaluated"]
    losses = [r["metrics"]["loss"]["value"] for r in evaluated]
    kept = result.validation["loss"]
    assert found == twice_as_long([r["step"] for r in evaluated], losses, kept)
    assert found.value < kept.value
    assert f"run twice as long: {found}" in str(result)
    stopped = json.loads((tmp_path / "run" / "journal.jsonl").read_text().splitlines()[-1])
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert Estimate.from_json(stopped["twice_as_long"]) == found
    assert Estimate.from_json(summary["twice_as_long"]) == found


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"validation": None}, "no held-out loss"),
        ({"schedule": "cosine"}, "schedule"),
        ({"patience": None}, "patience"),
        ({"epochs": 2}, "2 evaluations"),
    ],
)
def test_a_run_of_which_nothing_was_measured_says_so(options, reason):
    result = run(**options)
    assert reason in result.twice_as_long.reason
    assert "twice as long" not in str(result)


def test_a_run_that_converged_says_nothing():
    """Catches a statement on a run that more time would not change."""
    assert run(learning_rate=0.1, epochs=None).twice_as_long is None
