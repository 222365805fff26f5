"""Calls sent to the device and collected one late: their results, buffers and clocks."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from downslope.data.stream import Block, Position
from downslope.data.windows import split_buffer
from downslope.train import dispatch as dispatch_module
from downslope.train.calls import FIRST_CALL_WINDOWS, CallLength, calls
from downslope.train.dispatch import Dispatcher

WINDOWS = 12  # of a block: 6 updates of two micro-batches


class Device:
    """In the place of a compiled step and its stream; calls take the seconds planted."""

    def __init__(self, clock, seconds=(), bad_window=None, after=None):
        self.clock, self.seconds, self.bad, self.after = clock, list(seconds), bad_window, after
        self.given, self.released = [], []
        self.open_stream = lambda position: contextlib.nullcontext(self)

    def release(self, block):
        self.released.append(block.epoch)

    def run(self, state, rows, windows, knobs):
        self.given.append((rows, knobs))
        self.clock.now += self.seconds.pop(0) if self.seconds else 0.0
        bad = self.bad is not None and 0 <= self.bad - windows.first < windows.count
        return self.after or state + 1, SimpleNamespace(
            loss_sums=np.arange(19, dtype=np.float32), healthy=not bad,
            done=self.bad - windows.first if bad else windows.count, num_probes=2,
            probes=np.ones((5, 3)), probe_steps=np.arange(5),
        )  # fmt: skip


def block(epoch):
    windows = split_buffer(0, 30, 30, batch_rows=5, step_rows=3, buffer_rows=30)
    return Block(
        rows=np.full((30, 2), epoch, np.float32), windows=windows, epoch=epoch,
        rows_after=windows.highs, ends_epoch=True, slot=epoch,
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(dispatch_module, "time", clock)
    return clock


def calls_of(num_epochs=3, each=5):
    length = CallLength()
    length.windows = each
    return list(calls(map(block, range(num_epochs)), length, None))


def test_a_block_is_sent_once_and_released_when_its_last_call_is_collected(clock):
    """Catches rows copied for every call, and a buffer given back while the device reads it."""
    device, dispatcher = Device(clock), Dispatcher(tracks=False)
    state, released = 0, []
    with dispatcher.open(device, Position(1, 5), None) as blocks:
        assert blocks is device
        for call in calls_of():
            state = dispatcher.dispatch(device, state, call, "knobs")
            if dispatcher.num_in_flight > 1:
                seen = dispatcher.collect()
                released.append((seen.call.block.epoch, len(device.released)))
        while dispatcher.num_in_flight:
            dispatcher.collect()
    assert state == len(device.given) == 9
    assert len({id(rows) for rows, _ in device.given}) == 3
    assert isinstance(device.given[0][0], jax.Array) and device.given[0][1] == "knobs"
    assert device.released == [0, 1, 2]
    assert released == [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 2), (2, 2), (2, 2)]


def test_of_a_call_its_own_windows_are_read(clock):
    """Catches losses of the whole block, and probes of the call before."""
    device, dispatcher = Device(clock), Dispatcher(tracks=False)
    for number, call in enumerate(calls_of(1)):
        dispatcher.dispatch(device, 0, call, None)
        seen = dispatcher.collect()
        part = slice(5 * number, min(5 * number + 5, WINDOWS))
        np.testing.assert_array_equal(seen.loss_sums, np.arange(19)[part])
        np.testing.assert_array_equal(seen.sizes, call.block.windows.sizes[part])
        assert (len(seen.probes), len(seen.probe_steps)) == (2, 2)
        assert (seen.bad_step, seen.point, seen.call) == (None, None, call)


@pytest.mark.parametrize("bad", range(WINDOWS))
def test_the_update_that_was_not_finite_is_counted_from_its_call(bad, clock):
    """Catches windows counted in the place of updates, and an update counted from the block."""
    device, dispatcher = Device(clock, bad_window=bad), Dispatcher(tracks=False)
    for number, call in enumerate(calls_of(1)):
        dispatcher.dispatch(device, 0, call, None)
        found = dispatcher.collect().bad_step
        if bad // 5 == number:
            before = sum(bool(end) for end in call.block.windows.ends[: 5 * number])
            assert found == bad // 2 + 1 - before
        else:
            assert found is None


def test_seconds_are_those_of_the_device_and_compiling_is_timed_once(clock):
    """Catches the wait between two calls charged to the second, and a compilation told anew."""
    device, dispatcher = Device(clock, seconds=[9.0, 1.0]), Dispatcher(tracks=False)
    first, second = calls_of(1)[:2]
    assert dispatcher.compile_seconds is None
    dispatcher.dispatch(device, 0, first, None)
    assert dispatcher.compile_seconds == 9.0
    clock.now += 0.3
    assert dispatcher.collect().seconds == pytest.approx(0.3)  # since it was sent
    clock.now += 5.0
    dispatcher.dispatch(device, 0, second, None)
    dispatcher.dispatch(device, 0, second, None)
    clock.now += 0.25
    assert dispatcher.collect().seconds == pytest.approx(0.25)
    assert dispatcher.call_length.windows == FIRST_CALL_WINDOWS
    clock.now += 2.0
    seen = dispatcher.collect()
    assert (seen.seconds, seen.time) == (pytest.approx(2.0), clock.now)  # since the one before
    assert dispatcher.call_length.windows == second.windows.count // 2
    assert dispatcher.compile_seconds == 9.0


@pytest.mark.parametrize(("tracks", "expected"), [(True, [0, 4, 8]), (False, [])])
def test_points_of_the_trajectory_are_taken_now_and_then(tracks, expected, clock):
    """Catches a projection in every call, and one where nothing is measured."""
    after = SimpleNamespace(params={"w": np.ones(3, np.float32)})
    device, dispatcher = Device(clock, [0.0625] * 9, after=after), Dispatcher(tracks=tracks)
    points = []
    for call in calls_of():
        dispatcher.dispatch(device, 0, call, None)
        points.append(dispatcher.collect().point)
    assert [number for number, point in enumerate(points) if point is not None] == expected


def test_rows_kept_for_trials_stay_on_the_device(clock):
    """Catches a copy for each trial, and rows of the trials taken for those of the run."""
    device, dispatcher = Device(clock), Dispatcher(tracks=False)
    (call,) = calls_of(1, each=WINDOWS)
    kept = Device(clock)
    for _ in range(2):
        with dispatcher.open(device, Position(), kept) as blocks:
            assert blocks is kept
            dispatcher.dispatch(device, 0, call, None)
            dispatcher.collect()
    with dispatcher.open(device, Position(), None):
        dispatcher.dispatch(device, 0, call, None)
    given = [id(rows) for rows, _ in device.given]
    assert given[0] == given[1] != given[2]
