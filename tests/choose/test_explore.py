"""Whether another batch size is looked at."""

from __future__ import annotations

import pytest

from downslope.choose.explore import look_at_batch, may_pay

ASKED = {"batch_size": 128, "candidate": 512, "noise_hi": None, "seconds": 100.0, "cost": 1.0}


@pytest.mark.parametrize(
    ("changed", "pays"),
    [
        ({}, True),
        ({"cost": 10.0}, True),
        ({"cost": 10.1}, False),
        ({"noise_hi": 1e9}, True),  # at most a quarter of the updates
        ({"noise_hi": 0.0}, False),  # updates of any size gain the same
        ({"noise_hi": 17.0}, False),  # 1 - (1 + 17/512)/(1 + 17/128) = 0.088
        ({"noise_hi": 20.0}, True),  # 1 - (1 + 20/512)/(1 + 20/128) = 0.101
        ({"noise_hi": 20.0, "seconds": 1e4, "cost": 1e3}, True),
    ],
)
def test_a_larger_batch_must_be_able_to_pay(changed, pays):
    """Catches the two sizes exchanged, the cost forgotten, and a gain of a few percent."""
    assert may_pay(**ASKED | changed) is pays
    assert (look_at_batch(**ASKED | changed) is not None) is pays


def test_the_decision_tells_what_it_rests_on():
    """Catches the sizes exchanged, and a bound that is told without being known."""
    found = look_at_batch(**ASKED)
    assert (found.knob, found.old, found.new) == ("batch_size", 128, 512)
    assert "noise" not in found.because and "1 s of 100 s" in found.because.replace("1.00", "1")
    assert "at most 300 examples" in look_at_batch(**ASKED | {"noise_hi": 300.0}).because
