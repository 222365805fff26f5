"""A number with its interval: printing, writing to JSON and reading back."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from downslope.estimate import Estimate, not_estimable


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"value": 0.97213, "lo": 0.9612, "hi": 0.98131}, "0.972 (0.961 to 0.981)"),
        ({"value": 0.8, "lo": 0.79999, "hi": 0.80001}, "0.800000 (0.799990 to 0.800010)"),
        ({"value": 12345.678, "lo": 12000.1, "hi": 12700.2}, "12,346 (12,000 to 12,700)"),
        ({"value": 2e-11, "lo": 1e-11, "hi": 3e-11}, "2.0e-11 (1.0e-11 to 3.0e-11)"),
        ({"value": 0.0, "lo": -1e-12, "hi": 1e-12}, "0 (-1.0e-12 to 1.0e-12)"),
        ({"value": 3e9, "lo": 1e9, "hi": 4e9}, "3.0e+09 (1.0e+09 to 4.0e+09)"),
        ({"value": -0.0004, "lo": -0.06, "hi": 0.07}, "0.000 (-0.060 to 0.070)"),
        ({"value": 0.25, "lo": 0.25, "hi": 0.25}, "0.25"),
        ({"value": -3.14159}, "-3.14"),
        ({"value": 5.0, "lo": 4.0}, "5 (at least 4)"),
        ({"value": 5.0, "hi": 6.0}, "5 (at most 6)"),
        ({"value": 0.0185, "lo": 0.017, "unit": "s"}, "18.5 (at least 17) ms"),
        ({"value": None, "hi": 4.0, "unit": "m", "reason": "why"}, "at most 4 m (why)"),
        ({"value": None, "lo": 90.0, "unit": "s", "reason": "why"}, "at least 90 s (why)"),
        ({"value": None, "unit": "m", "reason": "why"}, "not estimable: why"),
    ],
)
def test_the_digits_shown(fields, shown):
    """Catches digits that claim more than the interval, or hide it."""
    assert str(Estimate(**{"unit": ""} | fields)) == shown


finite = st.floats(allow_nan=False, allow_infinity=False)


@example(1.0, -1.7e308, 1.7e308, "")
@example(0.0, 0.0, 5e-324, "m")
@example(1e300, 0.0, 5e-324, "s")
@given(finite, st.none() | finite, st.none() | finite, st.sampled_from(["", "s", "m"]))
def test_every_estimate_prints_and_survives_json(value, lo, hi, unit):
    """Catches logarithms of zero, overflow of differences, and fields that get lost."""
    found = Estimate(value=value, lo=lo, hi=hi, unit=unit, num_examples=3, flags=("a", "b"))
    assert str(found)
    assert Estimate.from_json(found.to_json()) == found
    assert float(found) == value


def test_files_of_older_versions_and_damaged_ones_are_read():
    """Catches a reader that raises on what it does not know."""
    old = {"value": 0.9, "lo": None, "hi": None, "num_examples": 4, "note": "few rows", "x": 1}
    assert Estimate.from_json(old).flags == ("few rows",)
    for odd in (None, [], "3", {"value": "3"}, {"value": math.nan}, {"value": True}):
        found = Estimate.from_json(odd)
        assert found.reason == "not measured" and not found.is_bounded
    assert Estimate.from_json({"lo": 10**400, "hi": 3, "reason": "why"}).hi == 3.0
    with pytest.raises(ValueError, match="not estimable: no rows"):
        float(not_estimable("no rows", unit="m"))
    with pytest.raises(ValueError, match="finite"):
        Estimate(value=math.inf, unit="")
    with pytest.raises(ValueError, match="either a value or a reason"):
        Estimate(value=None, unit="")
