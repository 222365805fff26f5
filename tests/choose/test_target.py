"""Targets that end a run: direction, several at once, and which evaluations see them."""

from __future__ import annotations

import math

import pytest

from choose.test_controllers import FREE, Simulated
from downslope.choose import replay
from downslope.choose.target import is_reached, target_reached
from downslope.config import Training
from downslope.estimate import Estimate

UP = frozenset({"accuracy"})


def measured(**values):
    return {n: Estimate(value=v, lo=v - 0.01, hi=v + 0.01, unit="") for n, v in values.items()}


@pytest.mark.parametrize(
    ("until", "values", "is_at"),
    [
        ({"loss": 0.3}, {"loss": 0.3}, True),
        ({"loss": 0.3}, {"loss": 0.31}, False),
        ({"loss": -5.0}, {"loss": -5.5}, True),
        ({"accuracy": 0.9}, {"accuracy": 0.9}, True),
        ({"accuracy": 0.9}, {"accuracy": 0.89}, False),
        ({"loss": 0.3, "accuracy": 0.9}, {"loss": 0.2, "accuracy": 0.8}, False),
        ({"loss": 0.3, "accuracy": 0.9}, {"loss": 0.4, "accuracy": 0.95}, False),
        ({"loss": 0.3, "accuracy": 0.9}, {"loss": 0.2, "accuracy": 0.95}, True),
        ({"accuracy": 0.9}, {"loss": 0.2}, False),
        ({"loss": 0.3}, {"loss": math.nan}, False),
    ],
)
def test_all_targets_in_their_own_direction(until, values, is_at):
    """Catches a low accuracy that passes for a low loss, any one of several, and a missing one."""
    assert is_reached(until, values, UP) is is_at


def test_the_sentence_has_value_interval_and_direction():
    """Catches a reason without what was measured, and ends that trade places."""
    found = target_reached(
        until={"loss": 0.3, "accuracy": 0.9}, values={"loss": 0.25, "accuracy": 0.93},
        lo={"loss": 0.24, "accuracy": None}, hi={"loss": 0.26, "accuracy": None},
        higher_is_better=("accuracy",), is_held_out=False,
    )  # fmt: skip
    assert found.because == (
        "training loss 0.250 (0.240 to 0.260) is at most 0.3 and accuracy 0.93 is at least 0.9, "
        "the targets"
    )
    assert replay([{"event": "decided", **found.to_json()}]) == [found]


def run(free=FREE, **options):
    return Simulated(free=free, training=Training(until={"loss": 0.5}, **options))


def test_a_run_stops_at_its_target_once():
    """Catches two stops of one evaluation, of which the last names the reason."""
    fast = run(FREE - {"patience"}, patience=1)
    orders = [
        fast.see("evaluated", loss=loss, held_out_loss=loss, gained=True, reference_loss=loss,
                 metrics=measured(loss=loss))
        for loss in (0.6, 0.7, 0.7)
    ]  # fmt: skip
    assert [o.new for o in orders[1] + orders[2]] == ["converged", "converged"]
    reached = fast.see("evaluated", loss=0.49, held_out_loss=9.0, gained=False,
                       reference_loss=0.5, metrics=measured(loss=0.49))  # fmt: skip
    assert [o.new for o in reached] == ["target reached"]


def test_only_measured_metrics_count():
    """Catches a target on the loss of a sample that all rows refuted, and one inside a trial."""
    simulated = run()
    for moment in ("collected", "evaluated", "in_trial"):
        seen = {"loss": 0.4, "held_out_loss": 0.4, "reference_loss": 0.4}
        assert simulated.see(moment, **seen if moment == "evaluated" else {}) == ()
    (stop,) = simulated.see("collected", metrics=measured(loss=0.4))
    assert stop.new == "target reached"


def test_a_given_patience_counts_ends_of_epochs():
    """Catches a patience that is used up by evaluations inside one epoch."""
    simulated = run(FREE - {"patience", "schedule"}, patience=2)
    for ends, count in ((True, 0), (False, 0), (False, 0), (True, 1), (False, 1)):
        assert simulated.see(
            "evaluated", loss=1.0, held_out_loss=1.0, reference_loss=1.0, ends_epoch=ends
        ) == ()  # fmt: skip
        assert simulated.states["patience"].evaluations_without_gain == count
