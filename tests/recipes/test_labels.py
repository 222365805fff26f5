"""Labels that recipes share."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from downslope import DataError, UsageError
from downslope.recipes.labels import coded, missing


@pytest.mark.parametrize(
    "values",
    [
        ["a", None, "b"],
        [1.0, float("nan"), 2.0],
        pd.array([1, None, 2], dtype="Int64"),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Categorical(["a", None, "b"]),
        pl.Series(["a", None, "b"]),
        np.array(["2020-01-01", "NaT", "2020-01-02"], "datetime64[D]"),
        [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 2)],
        np.array([1, pd.NaT, 2], object),
    ],
)
def test_what_is_missing(values):
    """Catches `v != v`, which pandas' NA does not answer."""
    assert missing(values).tolist() == [False, True, False]
    with pytest.raises(DataError, match="column 'lab', row 2"):
        coded(values, "lab")


def test_unused_categories_do_not_count():
    """Catches levels taken from the categories: a subset of rows would be refused later."""
    labels = pd.Categorical(["y", "x", "y"], categories=["w", "y", "x"])
    for values in (labels, pd.Series(labels)):
        levels, codes = coded(values, "lab")
        assert levels == ("y", "x") and codes.tolist() == [0, 1, 0]
        assert coded(values, "lab", levels=("x", "y"))[1].tolist() == [1, 0, 1]
    with pytest.raises(UsageError, match="seen in fit; got 'y'"):
        coded(labels, "lab", levels=("x",))


@pytest.mark.parametrize("values", [3, [[1, 2]], np.array([1, "a", None][:2], object)])
def test_what_is_no_list_of_labels(values):
    with pytest.raises(UsageError, match=r"^lab must be"):
        coded(values, "lab")
