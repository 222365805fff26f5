"""Initial batch size of a run."""

from __future__ import annotations

import pytest

from downslope.choose import first_batch_size
from downslope.choose.start import economical_batch_size


@pytest.mark.parametrize(
    ("num_rows", "expected"),
    [(1, 1), (10, 8), (30, 16), (340, 16), (750, 32), (1078, 32), (3000, 64), (10**6, 128)],
)
def test_it_is_about_the_root_of_the_rows(num_rows, expected):
    """Catches an epoch of a small table in a handful of updates, batches of more rows than there
    are, and sizes beside the ladder of powers of two.
    """
    assert first_batch_size(num_rows=num_rows, most=8192) == expected


@pytest.mark.parametrize(("most", "expected"), [(8192, 128), (100, 64), (3, 2), (1, 1)])
def test_memory_bounds_it(most, expected):
    """Catches a batch that memory cannot hold, and a bound that is no power of two."""
    assert first_batch_size(num_rows=10**6, most=most) == expected
    assert first_batch_size(num_rows=None, most=most) == expected


@pytest.mark.parametrize(("half_size", "expected"), [(0, 4), (0.1, 4), (0.3, 8), (10, 32)])
def test_it_is_the_power_of_two_above_the_cheapest_size(half_size, expected):
    """Catches sizes below it, and a batch of fewer than four examples."""
    assert economical_batch_size(half_size) == expected
