"""Tests of `downslope.data.order`: every row once, in an order that only seed and epoch decide."""

from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from downslope.data import order as order_module
from downslope.data.order import Order, plan_order, sequential_order

KINDS = ("mixed", "rotated", "windowed")


def small_plan(kind, num_rows, *, step_rows=4, batch_size=4, seed=0, row_bytes=4, **sizes):
    """A plan of the given kind, with buffers of some dozen rows."""
    small = {"MIXED_BYTES": 0, "BUFFER_BYTES": 256, "UNIT_BYTES": 32, "WINDOW_BYTES": 512} | sizes
    if kind == "mixed":
        small["MIXED_BYTES"] = num_rows * row_bytes
    with mock.patch.multiple(order_module, **small):
        return plan_order(
            num_rows,
            row_bytes,
            step_rows=step_rows,
            batch_size=batch_size,
            shuffled=kind == "rotated",
            seed=seed,
        )


def visited(order: Order, epoch: int) -> np.ndarray:
    """Source rows in the order in which an epoch visits them."""
    parts = []
    for index in range(order.num_buffers):
        ranges = order.ranges(epoch, index)
        rows = np.concatenate([np.arange(a, b) for a, b in ranges])
        assert len(rows) == order.length(index)
        permutation = order.permutation(epoch, index)
        parts.append(rows if permutation is None else rows[permutation])
    return np.concatenate(parts)


@given(
    kind=st.sampled_from(KINDS),
    num_rows=st.integers(1, 900),
    step_rows=st.integers(1, 70),
    batch_size=st.integers(1, 300),
    epoch=st.integers(0, 5),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_row_exactly_once(kind, num_rows, step_rows, batch_size, epoch, seed):
    """Catches a tail that is dropped or read twice, and turns that wrap wrongly."""
    order = small_plan(
        kind, num_rows, step_rows=min(step_rows, num_rows), batch_size=batch_size, seed=seed
    )
    np.testing.assert_array_equal(np.sort(visited(order, epoch)), np.arange(num_rows))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_order_each_epoch_and_the_same_for_the_same_seed(kind):
    """Catches an order that ignores the epoch or the seed, or draws from shared state."""
    order, twin = small_plan(kind, 700, seed=5), small_plan(kind, 700, seed=5)
    epochs = [visited(order, e) for e in range(6)]
    assert len({e.tobytes() for e in epochs}) == 6
    backwards = [visited(twin, e) for e in reversed(range(6))][::-1]  # asked in another sequence
    for first, second in zip(epochs, backwards, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(epochs[0], visited(small_plan(kind, 700, seed=6), 0))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_are_uncorrelated(kind):
    """Catches an order that is only turned (rms .45) or only slightly stirred (rms near 1)."""
    order = small_plan(kind, 64 * 64, seed=1, WINDOW_BYTES=4096)
    assert kind == "mixed" or order.num_buffers >= 4
    places = [np.argsort(visited(order, epoch)) for epoch in range(8)]
    correlations = [spearmanr(places[i], places[j]).statistic for i in range(8) for j in range(i)]
    stretches = order.num_rows / order.unit_rows if kind == "rotated" else 64
    assert abs(np.mean(correlations)) < 0.1
    assert np.sqrt(np.mean(np.square(correlations))) < 2 / np.sqrt(stretches)


def test_a_rotated_epoch_begins_at_any_stretch_of_64_rows():
    """Catches an order without the turn: the same rows would share a buffer in every epoch."""
    order = small_plan("rotated", 64 * 40 + 17, BUFFER_BYTES=1024)
    assert order.buffer_rows == 256
    starts = np.array([order.ranges(e, i)[0][0] for e in range(20) for i in range(9)])
    assert (starts % 64 == 0).all()  # aligned, so that a view can be taken as it is
    assert set(starts % 256) == {0, 64, 128, 192}


def test_the_last_stretch_is_not_always_the_same_rows():
    """Catches a short last buffer that always holds the table's last rows."""
    order = small_plan("rotated", 64 * 40 + 64, BUFFER_BYTES=1024)
    last = {order.ranges(epoch, order.num_buffers - 1)[0] for epoch in range(12)}
    assert len(last) > 4


@pytest.mark.parametrize(("kind", "limit"), [("mixed", 1.08), ("windowed", None)])
def test_batches_of_a_sorted_table(kind, limit):
    """Catches windows filled in file order (ratio 16) and windows not mixed inside (ratio 8)."""
    size, batch = 1 << 14, 32
    order = small_plan(
        kind, size, step_rows=batch, batch_size=batch, UNIT_BYTES=32, WINDOW_BYTES=1 << 15
    )
    if kind == "windowed":
        assert (order.unit_rows, order.buffer_rows) == (8, 8192)
        order = dataclasses.replace(order, buffer_rows=1024)
    predicted = order.inflation(batch)
    label = np.arange(size) >= size // 2
    means = np.concatenate(
        [label[visited(order, e)].reshape(-1, batch).mean(axis=1) for e in range(12)]
    )
    ratio = means.var() / (0.25 / batch * (size - batch) / (size - 1))
    assert 0.92 < ratio < (limit or predicted * 1.08)
    assert predicted == pytest.approx(1.0 if limit else 1 + 31 / 128)
    if kind == "windowed":
        assert ratio > 1.1  # the prediction is not idle


def test_inflation_counts_a_short_last_buffer():
    """Catches a prediction from whole buffers alone, too low when the last one is short."""
    order = Order(num_rows=1152, buffer_rows=1024, unit_rows=8, mix=True)
    whole, short = 1 + 31 / 128, 1 + 31 / 16
    assert order.inflation(32) == pytest.approx((32 * whole + 4 * short) / 36)


@given(
    num_rows=st.integers(1, 10**7),
    row_bytes=st.integers(1, 10**6),
    batch_size=st.integers(1, 10**7),
    part=st.integers(1, 8192),
    shuffled=st.booleans(),
)
def test_buffers_hold_whole_steps_and_are_bounded(num_rows, row_bytes, batch_size, part, shuffled):
    """Catches windows that grow with the batch or the row: a full batch must not load it all."""
    batch_size = min(batch_size, num_rows)
    step_rows = min(part, batch_size)
    order = plan_order(
        num_rows,
        row_bytes,
        step_rows=step_rows,
        batch_size=batch_size,
        shuffled=shuffled,
        seed=0,
    )
    assert order.buffer_rows % step_rows == 0
    assert order.buffer_rows < num_rows + step_rows
    step = step_rows * row_bytes
    assert order.buffer_rows * row_bytes <= order_module.WINDOW_BYTES + step


def test_a_row_larger_than_a_unit_or_a_window():
    """Catches a unit of no rows, and 1,024 units of a megabyte each."""
    order = plan_order(5000, 1 << 20, step_rows=8, batch_size=8, shuffled=False, seed=0)
    assert (order.unit_rows, order.buffer_rows) == (1, 128)


def test_in_order_reads_from_first_to_last():
    """Catches an evaluation whose rows come shuffled."""
    with mock.patch.object(order_module, "BUFFER_BYTES", 64):
        order = sequential_order(101, 4, step_rows=5)
    assert order.num_buffers > 2
    for epoch in range(2):
        np.testing.assert_array_equal(visited(order, epoch), np.arange(101))
    assert order.describe(5) == "rows are read in stored order"


def test_what_is_left_undone_is_said():
    """Catches a sentence that promises a full shuffle to a windowed order."""
    said = {kind: small_plan(kind, 900).describe(64) for kind in KINDS}
    assert "full random permutation" in said["mixed"]
    assert "side by side stay close" in said["rotated"]
    assert "1.56 times as much" in said["windowed"]
    assert small_plan("windowed", 900).inflation(64) == pytest.approx(1 + 63 / (900 / 8))
