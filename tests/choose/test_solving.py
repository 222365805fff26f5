"""Solve or train, from counts alone."""

from __future__ import annotations

import pytest

from downslope.choose.solving import solve_or_search


@pytest.mark.parametrize(
    ("changed", "solves"),
    [
        ({}, True),
        ({"num_rows": 20}, True),
        ({"num_rows": 19}, False),
        ({"num_rows": 10**9}, True),
        ({"most_dim": 10}, True),
        ({"most_dim": 9}, False),
        ({"is_convex": False}, False),
    ],
)
def test_it_is_solved_only_where_it_can_and_should_be(changed, solves):
    """Catches fewer than two rows a parameter, a Hessian too large, and a saddle."""
    asked = {"num_rows": 442, "dim": 10, "most_dim": 2000, "is_convex": True} | changed
    found = solve_or_search(**asked)
    assert (found is not None) is solves
    if solves:
        assert (found.knob, found.old, found.new) == ("optimizer", "auto", "solve")
        assert "10 parameters" in found.because and f"{asked['num_rows']:,} rows" in found.because
