"""Tests of `downslope.data.blocks`: what a run sees of a source, from any position on."""

from __future__ import annotations

import time
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.data import order as order_module
from downslope.data.arrays import Arrays, shuffled_copy
from downslope.data.blocks import table_stream
from downslope.data.order import plan_order, sequential_order
from downslope.data.stream import AHEAD, Position, Ring
from downslope.tree import map_arrays

KINDS = ("mixed", "rotated", "windowed")
START = Position()


class File:
    """A source whose row i holds i and -i, that is read into buffers and notes what was read."""

    def __init__(self, num_rows, *, shuffled=False):
        self.rows = np.stack([np.arange(num_rows), -np.arange(num_rows)], axis=1).astype("i4")
        self.num_rows, self.row_bytes, self.shuffled = num_rows, 8, shuffled
        self.fingerprint, self.num_read = "file", 0
        self.expected: list[tuple[int, int]] = []  # ranges announced

    def read(self, start, stop, out=None):
        assert 0 <= start < stop <= self.num_rows
        self.num_read += stop - start
        if out is None:
            return self.rows[start:stop].copy()
        np.copyto(out, self.rows[start:stop])
        return out

    def expect(self, start, stop):
        self.expected.append((start, stop))

    def unpack(self, rows):
        return rows

    def close(self):
        pass


def memory(num_rows, *, shuffled=False):
    return Arrays(File(num_rows).rows, shuffled=shuffled)


def small_order(source, kind, step_rows, batch_rows, seed=0, buffer_bytes=512):
    """An order of the given kind with buffers of some dozen rows."""
    with mock.patch.multiple(
        order_module,
        MIXED_BYTES=1 << 40 if kind == "mixed" else 0,
        BUFFER_BYTES=buffer_bytes,
        UNIT_BYTES=32,
        WINDOW_BYTES=512,
    ):
        return plan_order(
            source.num_rows,
            source.row_bytes,
            step_rows=step_rows,
            batch_size=batch_rows,
            shuffled=kind == "rotated",
            seed=seed,
        )


@pytest.fixture(scope="session")
def run_of(counted):
    """`run_of(source, order, ...)`: windows (rows, ends, position after) of some epochs."""

    def read(source, order, *, batch_rows, step_rows, start=START, epochs=1):
        found = []
        with table_stream(
            source,
            order,
            batch_rows=batch_rows,
            step_rows=step_rows,
            start=start,
            num_epochs=epochs,
        ) as stream:
            for block in stream:
                for i, (rows, ends) in enumerate(counted(block)):
                    found.append((rows, ends, block.position_after(block.windows.first + i + 1)))
                stream.release(block)
        return found

    return read


def batches(windows):
    """Rows of each update, from windows."""
    found, parts = [], []
    for rows, ends, _ in windows:
        parts.append(rows)
        if ends:
            found.append(np.concatenate(parts))
            parts = []
    assert not parts
    return found


@st.composite
def cases(draw):
    """A source, an order, and the sizes of batch and micro-batch."""
    num_rows = draw(st.integers(1, 500))
    batch_rows = draw(st.integers(1, num_rows))
    step_rows = draw(st.one_of(st.just(batch_rows), st.integers(1, batch_rows)))
    kind, make = draw(st.sampled_from(KINDS)), draw(st.sampled_from((File, memory)))
    source = make(num_rows, shuffled=kind == "rotated")
    order = small_order(source, kind, step_rows, batch_rows, seed=draw(st.integers(0, 99)))
    return source, order, {"batch_rows": batch_rows, "step_rows": step_rows}


@given(cases())
def test_every_row_once_an_epoch_in_batches_of_the_right_size(run_of, case):
    """Catches padding that is counted, rows lost between buffers, a short batch that is dropped."""
    source, order, sizes = case
    windows = run_of(source, order, **sizes, epochs=2)
    half = len(windows) // 2
    for epoch in (windows[:half], windows[half:]):
        updates = batches(epoch)
        rows = np.concatenate(updates)
        np.testing.assert_array_equal(np.sort(rows[:, 0]), np.arange(source.num_rows))
        np.testing.assert_array_equal(rows[:, 0], -rows[:, 1])
        full, rest = divmod(source.num_rows, sizes["batch_rows"])
        assert [len(u) for u in updates] == [sizes["batch_rows"]] * full + [rest] * (rest > 0)
    assert windows[-1][2] == Position(2, 0)


@given(cases(), st.data())
def test_a_resumed_stream_gives_exactly_the_rows_that_remained(run_of, case, data):
    """Catches a resume at the buffer's, batch's or epoch's beginning, or one row off."""
    source, order, sizes = case
    windows = run_of(source, order, **sizes, epochs=2)
    done = data.draw(st.integers(1, len(windows)))
    rest = run_of(source, order, **sizes, epochs=2, start=windows[done - 1][2])
    assert len(rest) == len(windows) - done
    for (rows, ends, after), (again, ends_again, after_again) in zip(
        windows[done:], rest, strict=True
    ):
        assert rows.tobytes() == again.tobytes()
        assert (ends, after) == (ends_again, after_again)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_depend_on_where_they_lie(run_of, kind):
    """Catches a file whose rows are not mixed inside a buffer while those in memory are."""
    sizes = {"batch_rows": 24, "step_rows": 8, "epochs": 2}
    found = []
    for make in (File, memory):
        source = make(500, shuffled=kind == "rotated")
        windows = run_of(source, small_order(source, kind, 8, 24), **sizes)
        found.append(np.concatenate([rows for rows, *_ in windows]))
    np.testing.assert_array_equal(*found)


def test_a_resumed_stream_does_not_read_again_what_is_done(run_of):
    """Catches a resume that skips windows but reads, and never gives back, their blocks."""
    source = File(64 * 60, shuffled=True)
    order = small_order(source, "rotated", 32, 32)
    rest = run_of(source, order, batch_rows=32, step_rows=32, start=Position(0, 64 * 57 + 32))
    assert len(rest) == 5
    assert source.num_read == 1 + 64 * 3  # one row showed the shape


def test_rows_in_memory_are_views_aligned_for_the_device():
    """Catches a copy of what lies in memory already, and views that XLA would have to copy."""
    source = shuffled_copy(memory(64 * 100), seed=0)
    order = small_order(source, "rotated", 32, 32, buffer_bytes=8 * 64 * 8)
    views = 0
    with table_stream(source, order, batch_rows=32, step_rows=32, num_epochs=2) as stream:
        for block in stream:
            assert block.rows.ctypes.data % 64 == 0
            shared = np.shares_memory(block.rows, source.tree)
            assert shared == (block.slot is None)
            views += shared
            stream.release(block)
    # all but, in each epoch, the short last buffer and the one in which the turn wraps around
    assert views >= 2 * (order.num_buffers - 2) > 0


@pytest.mark.parametrize(
    ("make", "kind"), [(File, "rotated"), (File, "windowed"), (memory, "mixed")]
)
def test_other_rows_come_in_a_few_aligned_buffers_used_again(make, kind):
    """Catches a fresh allocation for each block: memory that grows, and pages to be cleared."""
    source = make(640, shuffled=kind == "rotated")
    order = small_order(source, kind, 16, 16)
    places = []
    with table_stream(source, order, batch_rows=16, step_rows=16, num_epochs=20) as stream:
        for block in stream:
            assert block.slot is not None
            places.append(block.rows.ctypes.data)
            stream.release(block)
    assert len(places) >= 20
    assert len(set(places)) <= Ring.SIZE
    assert not any(place % 64 for place in places)


def test_blocks_that_are_held_are_not_overwritten():
    """Catches a ring that goes round without asking whether a buffer is free again."""
    source = File(64 * 60, shuffled=True)
    order = small_order(source, "rotated", 32, 32)
    held = []
    with table_stream(source, order, batch_rows=32, step_rows=32, num_epochs=1) as stream:
        for block in stream:
            held.append((block, block.rows.copy()))
            if len(held) == 2:  # as in training: one on the device, one behind it
                first, copy = held.pop(0)
                np.testing.assert_array_equal(first.rows, copy)
                stream.release(first)


def test_reading_ahead_is_bounded_and_stops_when_nothing_is_released():
    """Catches a queue without a bound, and a ring that hands out a buffer still in use."""
    source = File(64 * 60, shuffled=True)
    order = small_order(source, "rotated", 32, 32)
    assert (order.buffer_rows, order.num_buffers) == (64, 60)
    with table_stream(source, order, batch_rows=32, step_rows=32, num_epochs=1) as stream:
        blocks = iter(stream)
        for taken in (1, 2):
            next(blocks)
            _settle(source)
            assert source.num_read <= 1 + 64 * (taken + AHEAD + 1)  # one row showed the shape
        for _ in range(Ring.SIZE - 2):
            next(blocks)
        _settle(source)
        assert source.num_read <= 1 + 64 * Ring.SIZE


def _settle(source):
    """Waits until the reader has stopped reading for a while."""
    seen = None
    while seen != source.num_read:
        seen = source.num_read
        time.sleep(0.15)


def test_padding_is_made_of_real_rows():
    """Catches a short last buffer whose rest still holds rows of an older epoch, or nothing."""
    source = File(70, shuffled=True)
    order = small_order(source, "rotated", 32, 32)
    with table_stream(source, order, batch_rows=32, step_rows=32, num_epochs=6) as stream:
        for block in stream:
            length = int(block.windows.highs.max())
            np.testing.assert_array_equal(
                block.rows, block.rows[np.arange(len(block.rows)) % length]
            )
            stream.release(block)


def test_trees_of_arrays_stay_together(run_of):
    """Catches arrays of one row that are permuted apart."""
    rows = np.arange(300)
    source = Arrays({"x": np.stack([rows, rows], 1), "rest": (rows * 2, [rows + 0.5])})
    order = small_order(source, "windowed", 8, 24)
    with table_stream(source, order, batch_rows=24, step_rows=8, num_epochs=1) as stream:
        for block in stream:
            x = block.rows["x"][:, 0]
            np.testing.assert_array_equal(block.rows["x"][:, 1], x)
            np.testing.assert_array_equal(block.rows["rest"][0], 2 * x)
            np.testing.assert_array_equal(block.rows["rest"][1][0], x + 0.5)
            stream.release(block)


def test_an_evaluation_reads_in_order_through_views(run_of):
    """Catches held-out rows that come shuffled."""
    source = memory(1000)
    with mock.patch.object(order_module, "BUFFER_BYTES", 1024):
        order = sequential_order(1000, 8, step_rows=16)
    windows = run_of(source, order, batch_rows=16, step_rows=16)
    np.testing.assert_array_equal(np.concatenate([w[0] for w in windows]), source.tree)


def test_batches_of_a_table_sorted_by_label(run_of):
    """Catches a shuffle that is undone on the way from the order to the batches."""
    size, batch = 1 << 13, 32
    stored = Arrays(np.repeat(np.arange(2, dtype="f4"), size // 2))
    ideal = 0.25 / batch * (size - batch) / (size - 1)
    for kind, source, limit in (
        ("mixed", stored, 1.12),
        ("rotated", shuffled_copy(stored, seed=3), 1.3),  # one shuffle: 256 batches, sd 0.09
        ("windowed", stored, None),
    ):
        with mock.patch.multiple(
            order_module,
            MIXED_BYTES=1 << 40 if kind == "mixed" else 0,
            BUFFER_BYTES=4 * 256,
            UNIT_BYTES=32,
            WINDOW_BYTES=1 << 12,
        ):
            order = plan_order(
                size, 4, step_rows=batch, batch_size=batch, shuffled=source.shuffled, seed=0
            )
        windows = run_of(source, order, batch_rows=batch, step_rows=batch, epochs=8)
        ratio = np.var([rows.mean() for rows, *_ in windows]) / ideal
        assert 0.7 < ratio < (limit or 1.1 * order.inflation(batch))


def test_the_first_axis_has_one_length_in_every_block():
    """Catches a short block that would be compiled anew."""
    lengths = set()
    for kind in KINDS:
        source = memory(333, shuffled=kind == "rotated")
        order = small_order(source, kind, 8, 24)
        with table_stream(source, order, batch_rows=24, step_rows=8, num_epochs=2) as stream:
            for block in stream:
                lengths.add((kind, len(block.rows), len(block.windows.starts)))
                map_arrays(lambda a: a.sum(), block.rows)
                stream.release(block)
    assert len(lengths) == 3


def test_what_will_be_read_is_announced_before(run_of):
    """Catches a disk that is told too late, or of rows that nobody reads."""
    source = File(1000, shuffled=True)
    order = small_order(source, "rotated", 4, 4)
    announced_before = []
    read = source.read

    def watched(start, stop, out=None):
        announced_before.append((start, stop) in source.expected)
        return read(start, stop, out)

    source.read = watched
    run_of(source, order, batch_rows=4, step_rows=4, epochs=1)
    first = [False] + [False] * len(order.ranges(0, 0))  # a row for its shape, and the first buffer
    assert announced_before == first + [True] * (len(announced_before) - len(first))
    rest = [each for i in range(1, order.num_buffers) for each in order.ranges(0, i)]
    assert source.expected == rest
