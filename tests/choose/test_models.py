"""The choice between two models by their held-out losses."""

from __future__ import annotations

import pytest

from downslope.choose import choose_between, replay


@pytest.mark.parametrize(("gain", "error", "mean_gain", "new"), [
    (0.02, 0.009, 0.5, "net"), (-0.02, 0.009, 0.5, "linear"), (1e-9, 0.0, None, "net"),
    (0.02, 0.011, 0.03, "linear and net"), (0.02, 0.011, 0.01, "net"),
    (-0.02, 0.011, 0.01, "linear and net"), (-0.02, 0.011, -0.01, "linear"),
    (0.02, 0.011, None, "net"), (0.0, 0.0, 0.0, "linear and net"), (None, None, None, "linear"),
])  # fmt: skip
def test_beyond_noise_the_better_one_else_the_lowest_of_three(gain, error, mean_gain, new) -> None:
    """Catches a sign, a mean of two that differ clearly, and a mean that is worse than one."""
    found = choose_between(simple="linear", larger="net", gain=gain, error=error, num_rows=99,
                           mean_gain=mean_gain)  # fmt: skip
    assert (found.knob, found.new) == ("model", new)
    assert replay([{"event": "decided", **found.to_json()}]) == [found]
    if gain is None:
        assert "cannot be compared" in found.because
        none = choose_between(simple="linear", larger="net", gain=None, error=None, num_rows=0)
        assert "no rows are held out" in none.because
