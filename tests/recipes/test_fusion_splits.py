"""Held-out rows: nothing from the future among the training rows, no group on both sides."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.errors import DataError, UsageError
from downslope.recipes.fusion import split

MOMENTS = st.lists(st.integers(0, 9), min_size=2, max_size=60).filter(lambda t: len(set(t)) > 1)


def sides(found, values):
    values = np.asarray(values)
    return values[found.train], values[found.held_out]


def is_partition(found, num_rows):
    every = np.concatenate([found.train, found.held_out, found.left_out])
    return sorted(every.tolist()) == list(range(num_rows))


@given(MOMENTS, st.floats(0.05, 0.95))
def test_every_held_out_row_is_later(times, share):
    """Catches a cut by row number, and rows of one moment that are on both sides."""
    found = split(len(times), times=times, share=share)
    early, late = sides(found, times)
    assert early.max() < late.min()
    assert is_partition(found, len(times)) and not len(found.left_out)


@given(MOMENTS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_no_group_is_on_both_sides(groups, share, seed):
    """Catches a split by rows, and one that holds out every group."""
    found = split(len(groups), groups=groups, share=share, seed=seed)
    known, new = sides(found, groups)
    assert len(known) and len(new) and not set(known) & set(new)
    assert is_partition(found, len(groups))


def test_both_leave_out_what_would_leak():
    """Catches late rows of known groups among the held-out, and early rows of new ones."""
    draw = np.random.default_rng(0)
    times, groups = draw.integers(0, 20, 500), draw.integers(0, 25, 500)
    found = split(500, times=times, groups=groups, share=0.3)
    early, late = sides(found, times)
    known, new = sides(found, groups)
    assert early.max() < late.min() and not set(known) & set(new)
    assert len(found.left_out) > 100 and is_partition(found, 500)


def test_the_share_is_met_as_nearly_as_groups_allow():
    """Catches a share of groups in place of a share of rows: every second group is tiny."""
    groups = np.repeat(np.arange(40), [49, 1] * 20)
    shares = [len(split(1000, groups=groups, share=0.2, seed=s).held_out) / 1000 for s in range(40)]
    assert np.allclose(shares, 0.2, atol=0.025)  # half a large group to either side


def test_a_gap_is_left_between():
    """Catches a gap counted in rows, or taken from the held-out side."""
    times = np.array(["2001", "2002", "2003", "2004", "2005"], "datetime64[Y]")
    found = split(5, times=times, share=0.4, gap=np.timedelta64(2, "Y"))
    assert found.train.tolist() == [0]
    assert found.held_out.tolist() == [3, 4] and found.left_out.tolist() == [1, 2]


def test_rows_alone_are_drawn_by_the_seed():
    first, again, other = (split(100, seed=s).held_out for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and len(first) == 20


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"times": [1, 1, 1, 1]}, DataError, "two moments"),
        ({"groups": list("aaaa")}, DataError, "two labels"),
        ({"groups": ["a", None, "b", "b"]}, DataError, "'groups', row 2: missing label"),
        ({"groups": pd.array(["a", pd.NA, "b", "b"], "string")}, DataError, "row 2: missing"),
        ({"groups": np.array([1, "a", 2, "b"], dtype=object)}, UsageError, "int and str"),
        ({"groups": ["a", "b"]}, UsageError, "groups must be one label for each of 4 rows"),
        ({"times": ["8", "9", "10", "11"]}, UsageError, "numbers or dates.*got text, '8'"),
        ({"times": pd.Series(["31.12.2019", *["01.01.2020"] * 3])}, UsageError, "got text"),
        ({"times": [1, "9", 2, 3]}, UsageError, "got text"),
        ({"times": pd.array([1, pd.NA, 2, 3], "Int64")}, DataError, "row 2: times has a missing"),
        ({"times": [dt.date(2020, 1, 1), 2, 3, 4]}, UsageError, "times must have an order"),
        ({"times": [1.0, np.nan, 2, 3]}, DataError, "missing"),
        ({"times": [1, 2]}, UsageError, r"shape \(4,\)"),
        ({"share": 1.0}, UsageError, "share"),
        ({"gap": 2}, UsageError, "gap needs times"),
        ({"times": [1, 2, 3, 4], "gap": 9}, DataError, "no training row"),
        ({"times": np.array([1, 2, 3, 4], "datetime64[D]"), "gap": "x"}, UsageError, "unit"),
        ({"times": [1, 1, 2, 2], "groups": list("aabb")}, DataError, "row is left"),
    ],
)
def test_what_cannot_be_split_says_so(given, kind, words):
    """The last: the late group is new only in one of two draws; the other leaves nothing."""
    with pytest.raises(kind, match=words):
        for seed in range(20):
            split(4, seed=seed, **given)
