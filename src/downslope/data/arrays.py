"""Sources of rows in arrays: in memory, or a memory map of a `.npy` file."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from downslope.data.frames import is_frame, numeric_columns
from downslope.errors import DataError, UsageError
from downslope.tree import Rows, arrays, empty_rows, map_arrays, row_bytes

_NARROW: dict[str, Any] = {"f8": np.float32, "i8": np.int32, "u8": np.uint32}


class Arrays:
    """Rows of arrays in memory or in a memory map; `read` gives views.

    Args:
        tree: an array, or tuples, lists and dicts of arrays, all with the same first axis; or
            a data frame (pandas, polars, Arrow), which is a dict of its columns by name.
        shuffled: the rows are in random order already.
        wide: keep 64-bit numbers; otherwise they become 32-bit, in which JAX computes
            unless `jax_enable_x64` is set.

    Raises:
        UsageError: no arrays, no rows, or first axes of different length.
        DataError: a column of a data frame without numbers, or with a missing value.

    Example:
        >>> import numpy as np
        >>> Arrays((np.zeros((10, 3)), np.zeros(10))).num_rows
        10
    """

    def __init__(self, tree: Rows, *, shuffled: bool = False, wide: bool = False):
        tree = numeric_columns(tree) if is_frame(tree) else tree
        self.tree = map_arrays(lambda a: _as_array(a, wide), tree)
        lengths = {a.shape[0] for a in arrays(self.tree)}
        if len(lengths) != 1:
            raise UsageError(
                "data must be arrays with the same number of rows; "
                f"got {sorted(lengths) if lengths else 'no arrays'}"
            )
        (self.num_rows,) = lengths
        if self.num_rows == 0:
            raise UsageError("data must have at least one row; got none")
        self.row_bytes = row_bytes(self.tree)
        self.shuffled = shuffled
        self.row_numbers: np.ndarray | None = None  # in the caller's rows, where these are a part

    @property
    def fingerprint(self) -> str:
        """Hash of shapes, types and up to 1,024 rows spread over the arrays."""
        digest = hashlib.sha256()
        rows = np.unique(np.linspace(0, self.num_rows - 1, 1024).astype(np.int64))
        for a in arrays(self.tree):
            digest.update(f"{a.shape} {a.dtype.str};".encode())
            digest.update(np.ascontiguousarray(a[rows]).tobytes())
        return digest.hexdigest()

    def read(self, start: int, stop: int, out: Rows | None = None) -> Rows:
        """Views of the rows, or copies in `out`."""
        if out is None:
            return map_arrays(lambda a: a[start:stop], self.tree)
        map_arrays(lambda a, o: np.copyto(o, a[start:stop]), self.tree, out)
        return out

    def expect(self, start: int, stop: int) -> None:
        """Do nothing: the rows are in memory, or mapped by the kernel."""

    def unpack(self, rows: Any) -> Any:
        """The rows as they are."""
        return rows

    def close(self) -> None:
        """Do nothing: the arrays belong to the caller."""


def _as_array(a: Any, wide: bool) -> np.ndarray:
    mapped = isinstance(a, np.memmap)
    a = np.asarray(a)
    if a.ndim == 0:
        raise UsageError(f"data must be arrays with one row per example; got the number {a!r}")
    if a.dtype.kind not in "biufc":
        raise UsageError(f"data must be numeric arrays; got one of type {a.dtype}")
    narrow = _NARROW.get(a.dtype.str[1:])
    # A memory map is narrowed block by block on its way to the device, never as a whole.
    if wide or narrow is None or mapped:
        return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))
    if a.dtype.kind in "iu" and a.size:
        limits = np.iinfo(narrow)
        if a.min() < limits.min or a.max() > limits.max:
            raise UsageError(
                "integers in data must fit in 32 bits; set jax_enable_x64 or renumber them"
            )
    return a.astype(narrow)


def narrowed(a: Any) -> np.ndarray:
    """The array with 64-bit numbers as 32-bit ones."""
    a = np.asarray(a)
    narrow = _NARROW.get(a.dtype.str[1:])
    return a if narrow is None else a.astype(narrow)


def open_array_file(path: Path) -> Arrays:
    """A `.npy` file as a memory map, or the arrays of a `.npz` file by name.

    Raises:
        DataError: the file is missing, corrupt, without rows, or holds Python objects.
    """
    try:
        if path.suffix == ".npy":
            tree: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
        else:  # opened here, since NumPy leaves a damaged archive open
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                tree = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"not readable as a NumPy file ({error})",
            path=path,
            remedy="write it with numpy.save, without Python objects",
        ) from error
    try:
        return Arrays(tree)
    except UsageError as error:
        raise DataError(str(error), path=path) from error


def random_generator(seed: int, purpose: str) -> np.random.Generator:
    """A random generator for each purpose, so that no two share their numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *purpose.encode()))))


def shuffled_copy(source: Arrays, seed: int) -> Arrays:
    """The rows in a random order, in aligned memory."""
    order = random_generator(seed, "shuffle").permutation(source.num_rows)
    out = empty_rows(source.tree, source.num_rows)
    map_arrays(lambda a, o: np.take(a, order, axis=0, out=o, mode="clip"), source.tree, out)
    return Arrays(out, shuffled=True, wide=True)
