"""Plain numbers out of records, also out of damaged ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.report.drawing import plain_ticks, tick_label
from downslope.report.reading import (
    Clock,
    Course,
    estimate,
    number,
    numbers,
    without_undone,
)
from downslope.report.words import cut, label


@pytest.mark.parametrize("odd", [None, "3", True, math.nan, math.inf, 10**400, 1e200, [1], {}])
def test_what_is_no_number_is_missing(odd) -> None:
    """Catches NaN and infinities, which would reach the page, and strings, which would raise."""
    assert number(odd) is None
    assert estimate({"value": odd, "lo": odd}).value is None
    assert not estimate(odd).is_bounded and estimate(odd).reason
    assert numbers([odd, 2]) == [None, 2.0]


def test_examples_follow_the_batch_size() -> None:
    """Catches one batch size taken for the whole run. Truth: 100 x 32, then 50 x 256."""
    course = Course([
        {"event": "progress", "step": 60, "batch_size": 32},
        {"event": "progress", "step": 100, "batch_size": 32},
        {"event": "measured", "step": 150, "batch_size": 256},
        {"event": "evaluated", "step": 150},
    ])  # fmt: skip
    assert [course.examples(s) for s in (0, 30, 100, 101, 150)] == [0, 960, 3200, 3456, 16000]
    assert [course.batch_size(s) for s in (1, 100, 101, 900)] == [32, 32, 256, 256]
    assert course.examples(152) == 16000 + 512


def test_without_records_the_batch_size_asked_for_counts() -> None:
    assert Course([], 64).examples(10) == 640
    assert Course([]).examples(10) is None
    assert Course([{"event": "progress", "step": "x", "batch_size": -1}]).examples(3) is None


def test_the_clock_runs_between_records() -> None:
    clock = Clock([{"step": 10, "seconds": 2.0}, {"step": 30, "seconds": 4.0}, {"step": 3}])
    assert [clock.seconds(s) for s in (0, 5, 10, 20, 30)] == [0, 1, 2, 3, 4]
    assert clock.seconds(31) is None


def test_a_divergence_takes_back_what_came_after() -> None:
    """Catches losses of a path that was left, drawn as a line that runs backwards."""
    records = [
        {"event": "progress", "step": 10}, {"event": "progress", "step": 20},
        {"event": "decided", "step": 20}, {"event": "diverged", "step": 10, "bad_step": 25},
        {"event": "progress", "step": 15},
    ]  # fmt: skip
    kept = [(r["event"], r["step"]) for r in without_undone(records)]
    assert kept == [("progress", 10), ("decided", 20), ("diverged", 10), ("progress", 15)]


@given(st.text(max_size=200), st.integers(2, 40))
def test_a_cut_name_shows_nothing_hidden(name, width) -> None:
    """Catches controls, surrogates and marks that turn the text around."""
    shown = cut(name, width)
    shown.encode("utf-8")
    assert not any(c in shown for c in "\n\r\0\u202e\u2066\u2028")
    if len(name) > width:
        assert shown.endswith(f"({len(name):,} characters)")
    assert len(label(name)) <= 18


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e7), st.booleans())
def test_ticks_are_few_and_stand_where_they_say(lo, width, is_log) -> None:
    """Catches labels rounded until two are alike, and ticks beside their place."""
    from matplotlib.figure import Figure

    hi = lo + width
    if is_log:
        lo, hi = 10 ** (lo / 1e5), 10 ** (lo / 1e5 + 0.05 + width / 1e6)
    elif width < 1e-3 * abs(lo):
        return
    axes = Figure().add_subplot()
    axes.set(ylim=(lo, hi), yscale="log" if is_log else "linear")
    plain_ticks(axes)
    ticks = [t for t in axes.get_yticks() if lo <= t <= hi]
    labels = [tick_label(tick) for tick in ticks]
    assert 1 <= len(ticks) <= 8
    assert len(set(labels)) == len(labels)
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    for tick, words in zip(ticks, labels, strict=True):
        size = units.get(words[-1], 1.0)
        said = float(words.rstrip("kMG").replace("\N{MINUS SIGN}", "-")) * size
        assert said == pytest.approx(tick, rel=1e-5, abs=1e-3 * (hi - lo))
