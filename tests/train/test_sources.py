"""Rows of an update and of a device, and the order of rows in memory."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from downslope import Training, UsageError
from downslope.data.arrays import Arrays
from downslope.train import sources
from downslope.train.sources import PART_ROWS, STEP_BYTES, STEP_ROWS, in_random_order, sizes


@pytest.mark.parametrize(
    ("num_rows", "row_bytes", "asked", "expected"),
    [
        (10**6, 4, {"batch_size": 64}, (64, 64)),
        (50, 4, {"batch_size": 64}, (50, 50)),
        (10**6, 4, {"batch_size": 64, "microbatch_size": 16}, (64, 16)),
        (10**6, 4, {"batch_size": STEP_ROWS}, (STEP_ROWS, STEP_ROWS)),
        (10**6, 4, {"batch_size": "full"}, (10**6, PART_ROWS)),
        (10**6, STEP_BYTES // 8, {"batch_size": 9}, (9, 8)),
        (10**6, 2 * STEP_BYTES, {"batch_size": 9}, (9, 1)),
    ],
)
def test_a_device_takes_what_fits(num_rows, row_bytes, asked, expected):
    """Catches a batch larger than a buffer, and rows of which none would fit."""
    source = SimpleNamespace(num_rows=num_rows, row_bytes=row_bytes)
    assert sizes(source, Training(**asked)) == expected


@pytest.mark.parametrize(("count", "free", "is_mixed"), [
    (100, math.inf, True), (50, math.inf, False), (100, 3000, False), (100, 3400, True),
])  # fmt: skip
def test_many_rows_are_mixed_where_memory_allows_a_copy(count, free, is_mixed, monkeypatch):
    """Catches a small table copied, and a copy that fills the memory."""
    monkeypatch.setattr(sources, "MIXED_BYTES", 1000)
    monkeypatch.setattr(sources, "_free_bytes", lambda: free)
    rows = np.arange(4 * count, dtype=np.float32).reshape(count, 4)  # 16 bytes each
    found = in_random_order(Arrays(rows), 0)
    assert (not np.array_equal(found.tree, rows)) is is_mixed
    assert sorted(found.tree[:, 0].tolist()) == rows[:, 0].tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="reads what only Linux tells")
def test_free_memory_is_in_bytes():
    """Catches kilobytes, and a number that no machine has."""
    assert 2**26 < sources._free_bytes() < 2**50


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.25, 2), (0.99, 9)])
def test_a_share_holds_out_one_row_at_least_and_leaves_one(share, held):
    """Catches a share that rounds to nothing, and one that leaves nothing to train on."""
    train, held_out = sources.sources(np.arange(10.0), share, 0)
    assert (held_out.num_rows, train.num_rows) == (held, 10 - held)
    both = [*held_out.tree.tolist(), *train.tree.tolist()]
    assert sorted(both) == list(range(10))
    with pytest.raises(UsageError, match="at least two rows"):
        sources.sources(np.arange(1.0), share, 0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_example_begins_with_the_first_row(count):
    """Catches rows from elsewhere, and fewer than asked for of a short table."""
    found = sources.example(Arrays(np.arange(2.0)), count)
    assert found.tolist() == [0.0, 1.0, 0.0][:count]
