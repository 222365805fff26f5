"""Tests of `downslope.data.windows`, against a loop that cuts one row at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from downslope.data.windows import capacity, split_buffer


@st.composite
def sizes(draw):
    """Rows, rows per update, rows at once, and rows in a buffer."""
    num_rows = draw(st.integers(1, 400))
    batch_rows = draw(st.integers(1, num_rows))
    step_rows = draw(st.one_of(st.just(batch_rows), st.integers(1, batch_rows)))
    buffer_rows = step_rows * draw(st.integers(1, 12))
    return num_rows, batch_rows, step_rows, buffer_rows


def cuts(num_rows, batch_rows, step_rows, buffer_rows):
    """The windows of every buffer of an epoch, with the buffer's first position."""
    for first in range(0, num_rows, buffer_rows):
        length = min(buffer_rows, num_rows - first)
        yield (
            first,
            split_buffer(
                first,
                length,
                num_rows,
                batch_rows=batch_rows,
                step_rows=step_rows,
                buffer_rows=buffer_rows,
            ),
        )


def row_by_row(num_rows, batch_rows, step_rows, buffer_rows):
    """Windows (begin, end, ends a batch) in epoch positions, found one row at a time."""
    found, begin = [], 0
    for row in range(1, num_rows + 1):
        ends_batch = row % batch_rows == 0 or row == num_rows
        ends_part = row % batch_rows % step_rows == 0
        if ends_batch or ends_part or row % buffer_rows == 0:
            found.append((begin, row, ends_batch))
            begin = row
    return found


@given(sizes())
def test_windows_are_those_cut_row_by_row(given_sizes):
    """Catches rows lost or counted twice at the seam of buffers, and a wrong end of an update."""
    found = []
    for first, windows in cuts(*given_sizes):
        assert windows.first == 0
        for i in range(windows.count):
            low, high = first + int(windows.lows[i]), first + int(windows.highs[i])
            assert windows.offsets[i] == low % given_sizes[1]
            found.append((low, high, bool(windows.ends[i])))
    assert found == row_by_row(*given_sizes)


@given(sizes())
def test_what_the_device_reads_covers_what_is_counted(given_sizes):
    """Catches a slice that begins too late, or that reaches past the buffer and is shifted."""
    step_rows, buffer_rows = given_sizes[2:]
    for _, windows in cuts(*given_sizes):
        here = slice(0, windows.count)
        assert (windows.starts >= 0).all()
        assert (windows.starts + step_rows <= buffer_rows).all()
        assert (windows.starts <= windows.lows)[here].all()
        assert (windows.highs <= windows.starts + step_rows)[here].all()
        assert (windows.sizes[here] > 0).all() and (windows.sizes[windows.count :] == 0).all()


@given(sizes())
def test_shapes_never_change(given_sizes):
    """Catches arrays as long as a buffer's windows happen to be: each length would compile anew."""
    _, batch_rows, step_rows, buffer_rows = given_sizes
    size = capacity(buffer_rows, batch_rows, step_rows)
    for _, windows in cuts(*given_sizes):
        for values in (windows.starts, windows.lows, windows.highs, windows.offsets):
            assert values.shape == (size,) and values.dtype == np.int32
        assert windows.ends.shape == (size,) and windows.ends.dtype == np.bool_
        assert windows.count <= size


def test_a_batch_as_long_as_an_endless_epoch_is_cut_cheaply():
    """Catches a cut that lists all parts of a batch of 10^12 rows, not those in the buffer."""
    first = 500 * 10**9 + 100
    windows = split_buffer(
        first, 4096, 10**12, batch_rows=10**12, step_rows=512, buffer_rows=4096
    )  # fmt: skip
    assert windows.count == 9  # 512 does not divide the first position: the seam splits a part
    assert windows.sizes.sum() == 4096 and not windows.ends.any()
