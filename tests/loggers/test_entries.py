"""What a record says, whatever it lacks."""

from __future__ import annotations

import math

import pytest

from downslope.loggers.entries import scalars, sentences


def test_an_interval_has_its_ends():
    """Catches values without their uncertainty, and a metric under another's name."""
    metrics = {
        "loss": {"value": 0.5, "lo": 0.4, "hi": 0.6, "unit": "nats"},
        "auc": {"value": 0.9, "lo": None, "hi": None, "unit": "share"},
    }
    assert scalars({"event": "evaluated", "step": 1, "metrics": metrics, "missing": {}}) == {
        "held_out/loss": 0.5,
        "held_out/loss_lo": 0.4,
        "held_out/loss_hi": 0.6,
        "held_out/auc": 0.9,
    }


def test_a_bound_stands_alone():
    """Catches a bound that is shown as a value: the noise scale is at least 310."""
    record = {"event": "measured", "step": 9, "seconds": 1.0, "batch_size": 64, "stability": "?"}
    record["noise_scale"] = {"lo": 310.0, "reason": "signal lost in noise", "unit": "examples"}
    record["temperature"] = {"reason": "not estimable", "unit": ""}
    assert scalars(record) == {"noise/noise_scale_lo": 310.0}


def test_progress():
    record = {"event": "progress", "step": 7, "epoch": 1, "fraction": None, "loss": None}
    record |= {"batch_size": 64, "examples_per_second": 1e6, "waiting_share": 0.0, "seconds": 2.0}
    assert scalars(record) == {
        "train/epoch": 1.0,
        "knobs/batch_size": 64.0,
        "speed/examples_per_second": 1e6,
        "speed/waiting_share": 0.0,
    }


@pytest.mark.parametrize("new", ["adam", None, True, {"not finite": "inf"}, math.nan, [1, 2]])
def test_a_knob_that_is_no_number(new):
    """Catches a word or a truth value that is logged as a number."""
    record = {"event": "decided", "step": 0, "knob": "optimizer", "old": None, "new": new}
    assert not scalars({**record, "because": "so"})
    assert "optimizer None -> " in sentences({**record, "because": "so"})["decisions/optimizer"]


@pytest.mark.parametrize("event", ["saved", "timed", "checks", "importance", "a new one"])
def test_other_events_say_nothing(event):
    record = {"event": event, "step": 3, "seconds": 1.0}
    assert not scalars(record) and not sentences(record)


def test_what_went_wrong_and_the_end():
    undone = {"event": "undone", "step": 1200, "what": "exploded"}
    assert sentences(undone) == {"trouble": "exploded; back to step 1,200"}
    diverged = {"event": "diverged", "step": 10, "bad_step": 1234}
    assert sentences(diverged) == {"trouble": "diverged at step 1,234; back to step 10"}
    stopped = {"event": "stopped", "step": 9, "reason": "finished", "advice": "all is done"}
    assert sentences(stopped) == {"stopped": "finished: all is done"}
