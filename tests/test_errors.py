"""Tests of `downslope.errors`: exit codes, places and advice."""

from __future__ import annotations

import pickle

import pytest

from downslope import errors
from downslope.errors import (
    CapacityError,
    DataError,
    DownslopeError,
    MismatchError,
    StopReason,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DownslopeError, 1),
        (UsageError, 2),
        (DataError, 3),
        (CapacityError, 5),
        (MismatchError, 6),
    ],
)
def test_exit_codes_of_errors(kind, code):
    """Catches two errors of one code; scripts tell them apart by it."""
    assert kind.exit_code == code
    assert issubclass(kind, DownslopeError)


def test_the_tree_is_whole():
    """Catches an error added without a place in the documented tree."""
    kinds = {k.__name__ for k in vars(errors).values() if isinstance(k, type)} - {"StopReason"}
    assert all(errors.__doc__ and f"{name} " in errors.__doc__ for name in kinds)
    assert issubclass(UsageError, ValueError) and issubclass(DataError, ValueError)


@pytest.mark.parametrize(
    ("reason", "word", "code"),
    [
        (StopReason.FINISHED, "finished", 0),
        (StopReason.TIME_UP, "time up", 0),
        (StopReason.CONVERGED, "converged", 0),
        (StopReason.DIVERGED, "diverged", 4),
        (StopReason.INTERRUPTED, "interrupted", 130),
    ],
)
def test_stop_reasons(reason, word, code):
    """Catches a run that diverged and tells the shell that all is well."""
    assert (str(reason), reason.exit_code) == (word, code)


def test_every_reason_has_advice():
    """Catches a reason added without saying what to do next."""
    assert len({reason.advice for reason in StopReason}) == len(StopReason)
    assert all(len(reason.advice) > 20 for reason in StopReason)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "infinite value"),
        ({"path": "t.csv"}, "t.csv: infinite value"),
        ({"column": "x"}, "column 'x': infinite value"),
        (
            {"path": "t.csv", "column": "x", "row": 12345, "remedy": "mend it"},
            "t.csv, column 'x', row 12,345: infinite value; mend it",
        ),
        ({"remedy": "mend it"}, "infinite value; mend it"),
    ],
)
def test_a_data_error_says_where_what_and_the_remedy(place, text):
    """Catches places left out, or a dangling colon where there is none."""
    error = DataError("infinite value", **place)
    assert str(error) == text
    assert (error.rule, error.column, error.row) == (
        "infinite value",
        place.get("column"),
        place.get("row"),
    )


def test_errors_survive_another_process():
    """Catches an error of a worker process that arrives as a TypeError."""
    error = DataError("infinite value", path="t.csv", row=3, remedy="mend it")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.row, again.remedy) == (str(error), 3, "mend it")
