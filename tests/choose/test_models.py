"""The choice between two models by their held-out losses."""

from __future__ import annotations

import pytest

from downslope.choose import choose_between, replay


@pytest.mark.parametrize(("gain", "error", "new"), [
    (0.02, 0.009, "net"), (-0.02, 0.009, "linear"), (0.02, 0.011, "linear and net"),
    (-0.02, 0.011, "linear and net"), (0.0, 0.0, "linear and net"), (1e-9, 0.0, "net"),
    (None, None, "linear"),
])  # fmt: skip
def test_the_better_one_is_taken_beyond_noise_only(gain, error, new) -> None:
    """Catches a sign, and a choice by noise."""
    found = choose_between(simple="linear", larger="net", gain=gain, error=error, num_rows=99)
    assert (found.knob, found.new) == ("model", new)
    assert replay([{"event": "decided", **found.to_json()}]) == [found]
