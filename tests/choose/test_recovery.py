"""After a diverged step: cut the rate, name the rows, or stop."""

from __future__ import annotations

import pytest

from downslope.choose.recovery import MAX_CUTS, MAX_ROWS_NAMED, after_trouble

WRONG = {
    "learning_rate": 1.0,
    "repeats": 0,
    "step": 1234,
    "what": "exploded",
    "rows": (),
    "given": False,
}


def ask(**changed):
    return after_trouble(**WRONG | changed)


def test_a_rate_a_hundred_times_too_high_is_mended_in_two_cuts():
    """Catches a halving, which would take seven times, and a cut that is not told."""
    rate = 100.0
    for repeats in range(2):
        found = ask(learning_rate=rate, repeats=repeats)
        assert (found.knob, found.old) == ("learning_rate", rate)
        rate = found.new
    assert rate == pytest.approx(1.0)
    assert "exploded at update 1,234; it was undone" in found.because


def test_a_rate_that_was_given_is_named_as_such():
    """Catches a user's rate that is changed without a word."""
    assert "the rate given is too high" in ask(given=True).because
    assert "given" not in ask(given=False).because


@pytest.mark.parametrize("what", ["exploded", "not finite", "worse than at the start"])
def test_what_happened_is_a_sentence(what):
    """Catches "the loss was exploded"."""
    verb = "exploded" if what == "exploded" else f"was {what}"
    assert ask(what=what).because.startswith(f"the loss {verb} at update")


@pytest.mark.parametrize(
    "changed",
    [
        {"repeats": MAX_CUTS},
        {"repeats": MAX_CUTS + 9},
        {"learning_rate": None},
        {"rows": (5,)},
        {"rows": (0,), "given": True},
    ],
)
def test_where_no_rate_helps_it_ends(changed):
    """Catches cuts without end, a tenth of None, and a rate cut for a row that is broken."""
    found = ask(**changed)
    assert (found.knob, found.old, found.new) == ("stop", None, "diverged")


def test_the_last_cut_is_made():
    """Catches one cut too few."""
    assert ask(repeats=MAX_CUTS - 1).knob == "learning_rate"


def test_rows_are_named_and_the_rest_counted():
    """Catches a row left out, one counted twice, and a sentence as long as the table."""
    assert "the loss of row 1,007 is" in ask(rows=(1007,)).because
    assert "the loss of rows 3, 9 is" in ask(rows=(3, 9)).because
    many = ask(rows=tuple(range(100, 100 + MAX_ROWS_NAMED + 3))).because
    assert f"{99 + MAX_ROWS_NAMED} and 3 more" in many and f"{100 + MAX_ROWS_NAMED}," not in many
    assert "more" not in ask(rows=tuple(range(MAX_ROWS_NAMED))).because
