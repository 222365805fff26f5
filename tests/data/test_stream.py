"""Tests of `downslope.data.stream`: reading ahead, by one thread, within bounds."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from downslope.data.stream import AHEAD, Block, Position, Replay, Ring, Stream
from downslope.data.windows import split_buffer


def block(number=0, *, slot=None, rows=None, ends_epoch=False):
    windows = split_buffer(8 * number, 8, 10**6, batch_rows=4, step_rows=2, buffer_rows=8)
    return Block(
        rows=np.full(8, number) if rows is None else rows,
        windows=windows,
        epoch=3,
        rows_after=8 * number + windows.highs,
        ends_epoch=ends_epoch,
        slot=slot,
    )


def ring():
    return Ring(lambda: np.zeros(8))


def readers():
    return [t for t in threading.enumerate() if t.name == "downslope-reader"]


def test_blocks_arrive_in_order_and_the_thread_ends():
    """Catches a last block that is lost, and a thread that outlives its stream."""
    with Stream(iter([block(i) for i in range(20)]), ring()) as stream:
        assert [int(b.rows[0]) for b in stream] == list(range(20))
    assert not readers()


def test_an_error_of_the_reader_is_raised_where_one_iterates():
    """Catches a thread that dies in silence (the caller waits for ever) or skips good blocks."""

    def failing():
        yield block(0)
        yield block(1)
        raise OSError("the disk is gone")

    seen = []
    with (
        pytest.raises(OSError, match="the disk is gone"),
        Stream(failing(), ring()) as stream,
    ):
        for b in stream:
            seen.append(int(b.rows[0]))
    assert seen == [0, 1]
    assert not readers()


@pytest.mark.parametrize("released", [True, False], ids=["queue is full", "ring is empty"])
def test_closing_early_ends_the_thread(released):
    """Catches a reader left waiting for a free place in the queue, or for a free buffer."""
    buffers = ring()

    def endless():
        while True:
            slot = buffers.take()
            yield block(slot=slot, rows=buffers.slots[slot])

    with Stream(endless(), buffers) as stream:
        for taken, b in enumerate(stream, 1):
            if released:
                stream.release(b)
            if taken == Ring.SIZE:
                break
        time.sleep(0.05)
        assert len(readers()) == 1
    assert not readers()


def test_an_error_in_the_caller_ends_the_thread():
    """Catches a thread that keeps the process alive after Ctrl-C."""
    with (
        pytest.raises(KeyboardInterrupt),
        Stream((block(i) for i in range(10**9)), ring()) as stream,
    ):
        next(iter(stream))
        raise KeyboardInterrupt
    assert not readers()


def test_reading_ahead_is_bounded():
    """Catches a queue without a bound, which would hold the whole table."""
    made = []

    def blocks():
        for i in range(100):
            made.append(i)
            yield block(i)

    with Stream(blocks(), ring()) as stream:
        time.sleep(0.1)
        assert len(made) == AHEAD + 1  # as many as wait, and the one that finds no place
        next(iter(stream))
        time.sleep(0.1)
        assert len(made) == AHEAD + 2


def test_a_buffer_is_handed_out_again_only_when_given_back():
    """Catches a ring that goes round by counting."""
    buffers = ring()
    slots = [buffers.take() for _ in range(Ring.SIZE)]
    assert sorted(slots) == list(range(Ring.SIZE))
    assert len({id(b) for b in buffers.slots}) == Ring.SIZE
    buffers.give(3)
    assert buffers.take() == 3
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(buffers.take()), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive() and not taken
    buffers.give(1)
    waiting.join(5)
    assert taken == [1]


def test_buffers_are_made_when_first_needed():
    """Catches a ring that allocates all its memory for a table that fits one block."""
    made = []
    buffers = Ring(lambda: made.append(1))
    for _ in range(10):
        buffers.give(buffers.take())
    assert len(made) == 1


def test_waiting_is_measured():
    """Catches a clock that counts the caller's own work."""

    def slow():
        for i in range(3):
            time.sleep(0.05)
            yield block(i)

    with Stream(slow(), ring()) as stream:
        for _ in stream:
            pass
        assert stream.seconds_waited > 0.12
    with Stream(iter([block(i) for i in range(3)]), ring()) as stream:
        for _ in stream:
            time.sleep(0.05)
        assert stream.seconds_waited < 0.1


def test_reading_time_never_falls_while_a_buffer_is_waited_for():
    """Catches waiting that is taken off before the work that it belongs to is put on."""
    buffers, seen, done = ring(), [], threading.Event()

    def blocks():
        for number in range(8):
            slot = buffers.take()
            time.sleep(0.02)
            yield block(number, slot=slot)

    def watch():
        while not done.wait(0.001):
            seen.append(stream.seconds_read)

    with Stream(blocks(), buffers) as stream:
        watcher = threading.Thread(target=watch)
        watcher.start()
        for number, each in enumerate(stream):
            if number == 4:  # all buffers are out: the reader waits
                time.sleep(0.15)
            if number >= 4:
                stream.release(each)
        done.set()
        watcher.join()
        assert seen == sorted(seen) and 8 * 0.02 <= stream.seconds_read < 8 * 0.02 + 0.1


def test_positions_after_each_window():
    """Catches an epoch that ends at its last block's first window, or that never ends."""
    here = block(2)
    assert [here.position_after(i) for i in range(1, 5)] == [(3, 18), (3, 20), (3, 22), (3, 24)]
    last = block(2, ends_epoch=True)
    assert last.position_after(3) == Position(3, 22)
    assert last.position_after(4) == Position(4, 0)


def numbered_blocks(buffers, count):
    """Blocks whose rows hold their number, in buffers of the ring."""
    for number in range(count):
        slot = buffers.take()
        buffers.slots[slot][:] = number
        yield block(number, slot=slot, rows=buffers.slots[slot])


@pytest.mark.parametrize("passes", [(3, 3, 3), (1, 6, 2), (20, 20), (25,)])
def test_a_replay_gives_the_same_blocks_again(passes):
    """Catches rows that were overwritten meanwhile, a pass that begins where the last ended, and
    a reader that waits for ever since all its buffers are kept (20 blocks in a ring of 5).
    """
    buffers = ring()
    with Replay(Stream(numbered_blocks(buffers, 20), buffers)) as replay:
        for count in passes:
            seen = []
            for found in replay:
                seen.append(found.rows.tolist())
                replay.release(found)
                if len(seen) == count:
                    break
            assert seen == [[number] * 8 for number in range(min(count, 20))]
    assert not readers()


def test_a_replay_reads_no_more_than_it_was_asked_for():
    """Catches a replay that reads a whole epoch for a trial of one block."""
    buffers = ring()
    made = []

    def noted():
        for found in numbered_blocks(buffers, 20):
            made.append(found)
            yield found

    with Replay(Stream(noted(), buffers)) as replay:
        next(iter(replay))
        time.sleep(0.05)
        assert len(made) <= 1 + AHEAD + 1


def test_a_ring_serves_the_next_stream():
    """Catches buffers lost or given twice when a stream ends while some are in use."""
    buffers, spare = ring(), []
    with Stream(numbered_blocks(buffers, 20), buffers, spare) as stream:
        next(iter(stream))  # never released
    assert spare == [buffers] and len(buffers.slots) <= Ring.SIZE
    with Stream(numbered_blocks(spare.pop(), 20), buffers, spare) as stream:
        seen = []
        for found in stream:
            seen.append(int(found.rows[0]))
            stream.release(found)
    assert seen == list(range(20))
    assert len(buffers.slots) <= Ring.SIZE and len({id(slot) for slot in buffers.slots}) == len(
        buffers.slots
    )
