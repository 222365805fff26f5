"""Whether another batch size is tried."""

from __future__ import annotations

import pytest

from downslope.choose.explore import may_pay, try_batch

ASKED = {
    "batch_size": 128, "candidate": 512, "noise_lo": 0.0, "noise_hi": None, "seconds": 100.0,
    "cost": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "pays"),
    [
        ({}, True),
        ({"cost": 10.0}, True),
        ({"cost": 10.1}, False),
        ({"noise_lo": None}, False),  # nothing would tell whether to stay there
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
    assert (try_batch(**ASKED | changed) is not None) is pays


@pytest.mark.parametrize(
    ("noise_lo", "pays"),
    [
        (0.0, True),  # a quarter of the time of an update, for the same gain
        (100.0, True),  # (1 + 100/32)/(1 + 100/128)/4 = 0.58
        (700.0, True),  # 0.88
        (900.0, False),  # 0.91
        (1e9, False),  # four times the updates at a quarter of the time
    ],
)
def test_a_smaller_batch_is_looked_at_too(noise_lo, pays):
    """Catches a run that never shrinks its batch, and the unfavourable end of the interval."""
    smaller = ASKED | {"candidate": 32, "noise_lo": noise_lo, "noise_hi": 1e9}
    assert may_pay(**smaller) is pays
    assert (try_batch(**smaller) is not None) is pays


@pytest.mark.parametrize("noise_hi", [0.0, 1.0, 10.0, 19.0, 20.0, 100.0, 1e3, 1e5, None])
def test_one_of_both_neighbours_may_always_pay(noise_hi):
    """Catches a long run in which no size is proposed, so that no branch checks the prediction."""
    for share in (0.0, 0.5, 1.0):
        noise_lo = 0.0 if noise_hi is None else share * noise_hi
        known = {"noise_lo": noise_lo, "noise_hi": noise_hi, "seconds": 1e4}
        assert any(may_pay(**ASKED | known | {"candidate": size}) for size in (32, 512))


def test_the_decision_tells_what_it_rests_on():
    """Catches the sizes exchanged, and a bound that is told without being known."""
    found = try_batch(**ASKED)
    assert (found.knob, found.old, found.new) == ("batch_size", 128, 512)
    assert "noise" not in found.because and "1 s of 100 s" in found.because.replace("1.00", "1")
    assert "at most 300 examples" in try_batch(**ASKED | {"noise_hi": 300.0}).because
