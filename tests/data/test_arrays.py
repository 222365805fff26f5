"""Tests of `downslope.data.arrays`: rows that are arrays, in memory or in a file."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from downslope.data.arrays import Arrays, open_array_file, shuffled_copy
from downslope.data.source import Source
from downslope.errors import DataError, UsageError


def test_arrays_are_a_source():
    """Catches a member that the protocol asks for and the class lacks."""
    assert isinstance(Arrays(np.zeros(3)), Source)


@pytest.mark.parametrize(
    ("given", "kept", "wide"),
    [
        ("f8", "f4", "f8"),
        ("i8", "i4", "i8"),
        ("u8", "u4", "u8"),
        ("f4", "f4", "f4"),
        ("f2", "f2", "f2"),
        ("i1", "i1", "i1"),
        ("?", "?", "?"),
        (">f8", "f4", "f8"),
        (">f4", "f4", "f4"),
        (">i2", "i2", "i2"),
    ],
)
def test_types(given, kept, wide):
    """Catches types that the device refuses: 64 bits without x64, and the other byte order."""
    values = np.arange(2).astype(given)
    for found, dtype in ((Arrays(values), kept), (Arrays(values, wide=True), wide)):
        assert found.tree.dtype == np.dtype(dtype) and found.tree.dtype.isnative
        np.testing.assert_array_equal(found.tree, [0, 1])
    assert jax.device_put(Arrays(values).tree).dtype == np.dtype(kept)


def test_what_fits_is_not_copied():
    """Catches a constructor that doubles the memory of data in the right type."""
    a = np.zeros((10, 2), np.float32)
    assert np.shares_memory(Arrays(a).tree, a)
    assert np.shares_memory(Arrays(a).read(3, 7), a)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_integers_that_do_not_fit_are_refused(value):
    """Catches identifiers that wrap around without a word."""
    with pytest.raises(UsageError, match="integers in data must fit in 32 bits"):
        Arrays(np.array([0, value]))
    assert Arrays(np.array([0, value]), wide=True).tree[1] == value
    assert Arrays(np.array([2**31 - 1, -(2**31)])).tree.dtype == np.int32


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), "no arrays"),
        ({}, "no arrays"),
        ((np.zeros(3), np.zeros(4)), r"got \[3, 4\]"),
        (np.zeros((0, 3)), "at least one row; got none"),
        (np.zeros(()), "got the number"),
        ((np.zeros(3), 5.0), "got the number"),
        (np.array(["a"]), "numeric arrays; got one of type <U1"),
        (np.array([None]), "numeric arrays; got one of type object"),
        (np.array(["2020-01-01"], "M8[D]"), "numeric arrays"),
    ],
)
def test_data_that_cannot_be_used(data, message):
    """Catches a broadcast, or an error deep inside the first step."""
    with pytest.raises(UsageError, match=message):
        Arrays(data)


def test_reading_into_buffers():
    """Catches a read that returns a view where a copy was asked for."""
    source = Arrays((np.arange(10), {"b": np.arange(20.0).reshape(10, 2)}))
    out = (np.zeros(3, np.int32), {"b": np.zeros((3, 2), np.float32)})
    assert source.read(4, 7, out) is out
    np.testing.assert_array_equal(out[0], [4, 5, 6])
    np.testing.assert_array_equal(out[1]["b"], [[8, 9], [10, 11], [12, 13]])
    assert not np.shares_memory(out[0], source.tree[0])


def test_the_fingerprint_tells_data_apart():
    """Catches a hash of shapes alone, and one that does not see types, order or the last row."""
    a = np.arange(5000.0, dtype="f4").reshape(-1, 2)
    changed = a.copy()
    changed[-1, -1] = 7
    variants = [
        Arrays(a),
        Arrays(changed),
        Arrays(a.reshape(-1, 1)),
        Arrays(a.astype("i4")),
        Arrays(a[::-1]),
        Arrays((a, a)),
    ]
    assert len({v.fingerprint for v in variants}) == len(variants)
    assert Arrays(a.copy()).fingerprint == Arrays(np.asfortranarray(a)).fingerprint


def test_a_shuffled_copy_keeps_rows_together():
    """Catches arrays shuffled apart, a copy that lost a row, and one on NumPy's alignment."""
    rows = np.arange(999)
    source = Arrays((rows, {"x": np.stack([rows, -rows], 1).astype("f4")}))
    copy = shuffled_copy(source, seed=4)
    order, x = copy.tree[0], copy.tree[1]["x"]
    assert copy.shuffled and not source.shuffled
    np.testing.assert_array_equal(np.sort(order), rows)
    np.testing.assert_array_equal(x, np.stack([order, -order], 1))
    assert abs(np.corrcoef(order, rows)[0, 1]) < 0.15
    np.testing.assert_array_equal(shuffled_copy(source, seed=4).tree[0], order)
    assert (shuffled_copy(source, seed=5).tree[0] != order).mean() > 0.9


def test_shuffled_copies_are_aligned():
    """Catches NumPy's own memory, which XLA copies; by luck only some sizes are aligned."""
    copies = [shuffled_copy(Arrays(np.zeros(900 + 16 * i)), seed=0).tree for i in range(20)]
    assert not any(copy.ctypes.data % 64 for copy in copies)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_a_npy_file_is_mapped_not_loaded(tmp_path, dtype):
    """Catches a file of float64 that is narrowed as a whole, and fills the memory."""
    values = np.arange(12).reshape(6, 2).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    source = open_array_file(tmp_path / "a.npy")
    assert source.tree.dtype == np.dtype(dtype)
    base = source.tree
    while not isinstance(base, np.memmap):
        assert isinstance(base, np.ndarray)
        base = base.base
    np.testing.assert_array_equal(source.read(2, 5), values[2:5])
    assert np.shares_memory(source.read(2, 5), source.tree)


def test_a_npz_file_gives_its_arrays_by_name(tmp_path):
    """Catches arrays that are read anew from the archive at each access, or lost names."""
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), y=np.arange(4))
    source = open_array_file(tmp_path / "a.npz")
    assert {k: (v.shape, str(v.dtype)) for k, v in source.tree.items()} == {
        "x": ((4, 2), "float32"),
        "y": ((4,), "int32"),
    }


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def _damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "make", "rule"),
    [
        ("missing.npy", lambda p: None, "No such file"),
        ("missing.npz", lambda p: None, "No such file"),
        ("text.npy", lambda p: p.write_text("x,y\n1,2\n"), "not readable"),
        ("text.npz", lambda p: p.write_text("x,y\n1,2\n"), "not readable"),
        ("short.npy", lambda p: (np.save(p, np.zeros(999)), _cut(p, 999)), "not readable"),
        ("header.npy", lambda p: (np.save(p, np.zeros(999)), _cut(p, 40)), "not readable"),
        ("short.npz", lambda p: (np.savez(p, a=np.zeros(999)), _cut(p, 999)), "not readable"),
        ("changed.npz", lambda p: (np.savez(p, a=np.zeros(999)), _damage(p)), "not readable"),
        (
            "packed.npz",
            lambda p: (np.savez_compressed(p, a=np.random.rand(999)), _damage(p)),
            "not readable",
        ),
        (
            "objects.npy",
            lambda p: np.save(p, np.array([{}]), allow_pickle=True),
            "not readable",
        ),
        (
            "objects.npz",
            lambda p: np.savez(p, a=np.array([{}], dtype=object)),
            "not readable",
        ),
        ("empty.npy", lambda p: np.save(p, np.zeros((0, 3))), "at least one row"),
        ("empty.npz", lambda p: np.savez(p), "no arrays"),
        ("uneven.npz", lambda p: np.savez(p, a=np.zeros(2), b=np.zeros(3)), "same number of rows"),
        ("words.npy", lambda p: np.save(p, np.array(["a", "b"])), "numeric arrays"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, make, rule):
    """Catches tracebacks of NumPy and zipfile, code that runs from a pickle, and exit code 2."""
    make(tmp_path / name)
    with pytest.raises(DataError, match=rule) as caught:
        open_array_file(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
