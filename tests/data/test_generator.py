"""Tests of `downslope.data.generator`: batches that are drawn, not stored."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.data import generator as generator_module
from downslope.data.generator import Generator, generator_stream
from downslope.data.stream import AHEAD, Position
from downslope.errors import UsageError

START = Position()
POINTS = Generator(lambda rng, n: rng.uniform(-1, 1, (n, 2)))


@pytest.fixture(scope="session")
def first(counted):
    """`first(n, ...)`: the first n windows (rows, ends, position after) of a stream."""

    def windows(source, start, **sizes):
        with generator_stream(source, start=start, **sizes) as stream:
            for block in stream:
                for i, (rows, ends) in enumerate(counted(block)):
                    yield rows, ends, block.position_after(block.windows.first + i + 1)
                stream.release(block)

    def read(count, source, start=START, **sizes):
        made = windows(source, start, **sizes)
        found = list(itertools.islice(made, count))
        made.close()
        return found

    return read


def test_batches_do_not_depend_on_one_another():
    """Catches a generator carried from batch to batch: a resumed run would draw others."""
    draws = [POINTS.batch(seed=1, number=i, num_rows=5) for i in range(4)]
    assert len({d.tobytes() for d in draws}) == 4
    np.testing.assert_array_equal(POINTS.batch(seed=1, number=2, num_rows=5), draws[2])
    assert not np.array_equal(POINTS.batch(seed=2, number=2, num_rows=5), draws[2])


def test_seed_and_number_are_not_added():
    """Catches Philox(seed + number), by which two seeds share nearly all their batches."""
    one = {POINTS.batch(seed=1, number=i, num_rows=5).tobytes() for i in range(20)}
    two = {POINTS.batch(seed=2, number=i, num_rows=5).tobytes() for i in range(20)}
    assert not one & two


def test_numbers_become_32_bit():
    """Catches float64 sent to a device that computes in float32."""
    source = Generator(lambda rng, n: {"x": rng.random(n), "k": rng.integers(9, size=n)})
    batch = source.batch(seed=0, number=0, num_rows=3)
    assert (batch["x"].dtype, batch["k"].dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("draw", [lambda r, n: np.zeros(n + 1), lambda r, n: 0.0])
def test_another_number_of_rows_is_refused(draw):
    """Catches rows that are broadcast over a batch."""
    with pytest.raises(UsageError, match="must return arrays of 4 rows; got"):
        Generator(draw).batch(seed=0, number=0, num_rows=4)


@given(batch_rows=st.integers(1, 30), data=st.data())
def test_the_stream_is_the_batches_one_after_another(first, batch_rows, data):
    """Catches batches lost or repeated at the seam of blocks, and padding that is counted."""
    step_rows = data.draw(st.integers(1, batch_rows))
    sizes = {"batch_rows": batch_rows, "step_rows": step_rows, "seed": 3}
    parts = -(-batch_rows // step_rows)
    with mock.patch.object(generator_module, "MAX_BATCHES", 4):
        windows = first(parts * 10, POINTS, **sizes)
    assert [ends for _, ends, _ in windows] == ([False] * (parts - 1) + [True]) * 10
    rows = np.concatenate([rows for rows, _, _ in windows])
    expected = [POINTS.batch(seed=3, number=i, num_rows=batch_rows) for i in range(10)]
    np.testing.assert_array_equal(rows, np.concatenate(expected))
    assert windows[-1][2] == Position(0, 10 * batch_rows)


@given(batch_rows=st.integers(1, 30), done=st.integers(0, 40), data=st.data())
def test_a_resumed_stream_draws_what_remained(first, batch_rows, done, data):
    """Catches a resume at a block's beginning, or in the middle of a batch at its start."""
    step_rows = data.draw(st.integers(1, batch_rows))
    sizes = {"batch_rows": batch_rows, "step_rows": step_rows, "seed": 0}
    with mock.patch.object(generator_module, "MAX_BATCHES", 4):
        windows = first(done + 10, POINTS, **sizes)
        start = windows[done - 1][2] if done else START
        rest = first(10, POINTS, start, **sizes)
    for (rows, ends, after), (again, ends_again, after_again) in zip(
        windows[done:], rest, strict=True
    ):
        assert rows.tobytes() == again.tobytes()
        assert (ends, after) == (ends_again, after_again)


def test_a_resumed_stream_does_not_draw_again_what_is_done(first):
    """Catches a resume that costs as much as the run before it."""
    drawn = []

    def draw(rng, n):
        drawn.append(n)
        return rng.random(n)

    start = Position(0, 8 * 1000)
    ((rows, _, after),) = first(1, Generator(draw), start, batch_rows=8, step_rows=8, seed=0)
    np.testing.assert_array_equal(rows, Generator(draw).batch(seed=0, number=1000, num_rows=8))
    assert after == Position(0, 8 * 1000 + 8)
    assert len(drawn) <= 2 + generator_module.MAX_BATCHES * (AHEAD + 2)


def test_a_batch_larger_than_a_block_comes_alone():
    """Catches memory that grows with 64 batches of any size."""
    with mock.patch.object(generator_module, "BLOCK_BYTES", 100):
        stream = generator_stream(POINTS, batch_rows=50, step_rows=20, seed=0, start=START)
    with stream as blocks:
        block = next(iter(blocks))
    assert len(block.rows) == 60 and block.windows.count == 3
    np.testing.assert_array_equal(block.rows[50:], block.rows[:10])  # padding is of real rows


def test_drawing_ahead_is_bounded():
    """Catches a thread that draws for ever before the first step."""
    drawn = []

    def draw(rng, n):
        drawn.append(n)
        return rng.random(n)

    stream = generator_stream(Generator(draw), batch_rows=8, step_rows=8, seed=0, start=START)
    with stream as blocks:
        next(iter(blocks))
    assert len(drawn) <= 1 + generator_module.MAX_BATCHES * (AHEAD + 2)


def test_an_error_of_the_function_is_raised_where_one_iterates():
    """Catches a run that waits for ever for a function that raised."""

    def draw(rng, n):
        if n > 1:
            raise ZeroDivisionError("in the user's function")
        return np.zeros(n)

    stream = generator_stream(Generator(draw), batch_rows=8, step_rows=8, seed=0, start=START)
    with pytest.raises(ZeroDivisionError, match="in the user's function"), stream as blocks:
        next(iter(blocks))


def test_the_fingerprint_is_the_functions_name():
    """Catches an address in memory, which differs in every process."""
    assert Generator(np.zeros).fingerprint == "generator zeros"
    assert "0x" not in Generator(mock.Mock()).fingerprint


def test_parts_of_an_update_are_told_apart_the_same_after_a_resume(first):
    """Catches keys folded by the place in a buffer, which begins elsewhere after a resume."""
    sizes = {"batch_rows": 24, "step_rows": 7, "seed": 0}

    def offsets(start):
        with generator_stream(POINTS, start=start, **sizes) as stream:
            windows = next(iter(stream)).windows
        return windows.offsets[windows.first : windows.first + windows.count].tolist()

    assert offsets(START)[:8] == [0, 7, 14, 21] * 2
    assert offsets(Position(0, 5 * 24 + 14))[:6] == [14, 21, 0, 7, 14, 21]
