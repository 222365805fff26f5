"""Tests of `downslope.train.calls`: how blocks are divided into calls."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.data.stream import Block, Position
from downslope.data.windows import split_buffer
from downslope.train.calls import (
    MAX_CALL_SECONDS,
    MIN_CALL_SECONDS,
    CallLength,
    calls,
)


def blocks(num_rows, batch_rows, step_rows, steps_per_buffer, num_epochs=2):
    size = step_rows * steps_per_buffer
    for epoch in range(num_epochs):
        for first in range(0, num_rows, size):
            length = min(size, num_rows - first)
            sizes = {"batch_rows": batch_rows, "step_rows": step_rows, "buffer_rows": size}
            windows = split_buffer(first, length, num_rows, **sizes)
            yield Block(
                rows=None, windows=windows, epoch=epoch, rows_after=first + windows.highs,
                ends_epoch=first + length == num_rows, slot=None,
            )  # fmt: skip


@st.composite
def cases(draw):
    num_rows = draw(st.integers(1, 200))
    batch_rows = draw(st.integers(1, num_rows))
    step_rows = draw(st.one_of(st.just(batch_rows), st.integers(1, batch_rows)))
    return num_rows, batch_rows, step_rows, draw(st.integers(1, 9))


def paced(windows):
    length = CallLength()
    length.windows = windows
    return length


@given(cases(), st.integers(1, 20))
def test_calls_cover_all_windows_in_order(case, windows):
    """Catches windows run twice or never, calls longer than the length allows, and examples
    counted by batch size, where the last batch is short.
    """
    made = list(calls(blocks(*case), paced(windows), None))
    assert all(1 <= c.windows.count <= windows for c in made)
    assert sum(c.num_examples for c in made) == 2 * case[0]
    assert sum(c.num_steps for c in made) == 2 * -(-case[0] // case[1])
    positions = [c.position for c in made]
    assert positions == sorted(set(positions)) and positions[-1] == Position(2, 0)
    assert sum(c.ends_epoch for c in made) == 2
    assert sum(c.ends_block for c in made) == len(list(blocks(*case)))
    for before, after in itertools.pairwise(made):
        if not before.ends_block:
            assert after.windows.first == before.windows.first + before.windows.count


@given(cases(), st.integers(1, 20), st.data())
def test_exactly_the_asked_steps_and_no_part_of_another(case, windows, data):
    """Catches a run of N steps that also begins the next one, when gradients are accumulated: its
    rows would be counted, and its checkpoint would lie in the middle of an update.
    """
    total = 2 * -(-case[0] // case[1])
    num_steps = data.draw(st.integers(0, total))
    made = list(calls(blocks(*case), paced(windows), num_steps))
    assert sum(c.num_steps for c in made) == num_steps
    per_epoch = total // 2
    epochs, rest = divmod(num_steps, per_epoch)
    assert sum(c.num_examples for c in made) == epochs * case[0] + min(rest * case[1], case[0])
    if made:
        last = made[-1]
        assert last.block.windows.ends[last.windows.first + last.windows.count - 1]


@pytest.mark.parametrize("seconds_each", [1e-6, 1e-4, 0.003, 0.05, 1.0])
def test_calls_become_neither_short_nor_long(seconds_each):
    """Catches a length that never grows, or that swings for ever."""
    length = CallLength()
    taken = []
    for _ in range(40):
        taken.append(length.windows * seconds_each)
        length.saw(length.windows, taken[-1])
    settled = taken[25:]
    assert min(settled) >= min(MIN_CALL_SECONDS, seconds_each)
    assert max(settled) <= max(MAX_CALL_SECONDS, seconds_each)
    assert len(set(settled)) == 1


def test_a_short_call_says_nothing_about_the_length():
    """Catches a length that doubles at each block's short last call, without a bound, and one that
    is fixed when the block arrives: a slow first call must shorten the next.
    """
    length = CallLength()
    length.windows = 64
    for _ in range(100):
        length.saw(3, 0.001)
    assert length.windows == 64
    length = paced(4)
    made = calls(blocks(100, 10, 10, 10, num_epochs=1), length, None)
    assert next(made).windows.count == 4
    length.saw(4, 1.0)
    assert [c.windows.count for c in made] == [2, 2, 2]
