"""Tests of `downslope.tree`: containers of arrays without JAX."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from downslope.tree import aligned_empty, arrays, map_arrays, pad, row_bytes


class Batch(NamedTuple):
    x: object
    rest: object


def nested():
    a, b, c, d = (np.full((3, i), i, np.float32) for i in range(1, 5))
    return Batch(x=a, rest={"z": [b, (c,)], "y": d})


def test_containers_keep_their_kind():
    """Catches a named tuple that comes back as a tuple, and arrays handed over in another order."""
    doubled = map_arrays(lambda a, b: a + b, nested(), nested())
    assert jax.tree.structure(doubled) == jax.tree.structure(nested())
    for mine, other in zip(jax.tree.leaves(doubled), jax.tree.leaves(nested()), strict=True):
        np.testing.assert_array_equal(mine, 2 * other)


def test_trees_of_another_shape_are_refused():
    """Catches a zip that stops at the shorter container and leaves arrays out."""
    with pytest.raises(ValueError, match="zip"):
        map_arrays(lambda a, b: a, (1, 2), (1,))


def test_arrays_are_listed_in_the_order_of_the_mapping():
    """Catches a list whose order differs from that in which `map_arrays` visits."""
    visited = []
    map_arrays(visited.append, nested())
    assert [id(a) for a in arrays(visited)] == [id(a) for a in visited]
    assert [a.shape[1] for a in visited] == [1, 2, 3, 4]


def test_row_bytes():
    """Catches a count that forgets trailing axes or the type's size."""
    tree = (np.zeros((5, 3, 2), np.float64), np.zeros(5, np.int8))
    assert row_bytes(tree) == 3 * 2 * 8 + 1


@given(
    shape=st.lists(st.integers(0, 9), min_size=0, max_size=3).map(tuple),
    dtype=st.sampled_from(["f4", "f8", "i1", "?", "c8"]),
)
def test_memory_is_aligned_to_64_bytes(shape, dtype):
    """Catches NumPy's own alignment of 16 bytes, which XLA answers with a copy."""
    a = aligned_empty(shape, dtype)
    assert a.shape == shape and a.dtype == np.dtype(dtype)
    assert a.ctypes.data % 64 == 0 or a.size == 0
    assert a.flags.c_contiguous and a.flags.writeable


@given(length=st.integers(1, 10), size=st.integers(1, 40))
def test_padding_repeats_the_first_rows(length, size):
    """Catches padding left uninitialised, which may hold a NaN that a zero weight does not hide."""
    length = min(length, size)
    a = np.full((size, 2), np.nan)
    a[:length] = np.arange(2 * length).reshape(length, 2)
    pad({"a": a}, length)
    np.testing.assert_array_equal(a[:, 0], 2 * (np.arange(size) % length))
