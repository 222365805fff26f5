"""Cells by genes from wherever they lie, a chunk of cells at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from downslope import DataError, UsageError
from downslope.arguments import whole

CHUNK_BYTES = 32 << 20  # of a chunk as float64; below it reading costs more than adding up, assumed
HINT = "pip install 'downslope[cells]'"


class Reader(Protocol):
    """A matrix whose rows can be read in order.

    Attributes:
        shape: cells and genes.
        dtype: of the values as they are stored.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, first: int, last: int) -> np.ndarray:
        """Cells first to last, dense [m, genes]."""
        ...


class Rows:
    """Anything that gives its rows by a slice: NumPy, scipy's CSR, HDF5 or zarr arrays.

    Args:
        matrix: of two dimensions.
    """

    def __init__(self, matrix: Any):
        if getattr(matrix, "format", "csr") != "csr":  # by columns: rows would cost a pass each
            if not hasattr(matrix, "tocsr"):
                raise DataError("the matrix is stored by columns (CSC)", remedy="store it by rows")
            matrix = matrix.tocsr()
        if len(getattr(matrix, "shape", ())) != 2:
            raise UsageError(
                f"cells must be of shape [cells, genes]; got {list(getattr(matrix, 'shape', ()))}"
            )
        self.matrix = matrix
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        self.dtype = np.dtype(matrix.dtype)
        if self.dtype.kind not in "fiub":
            raise DataError(f"cells must be numbers, got {self.dtype}")

    def read(self, first: int, last: int) -> np.ndarray:
        """Cells first to last, dense."""
        rows = self.matrix[first:last]
        return rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)


class StoredRows:
    """A sparse matrix by rows as AnnData writes it, in HDF5 or zarr.

    Args:
        group: with `data`, `indices`, `indptr` and an attribute `shape`.
    """

    def __init__(self, group: Any):
        encoding = str(group.attrs.get("encoding-type", ""))
        if encoding != "csr_matrix":
            raise DataError(
                f"the matrix is stored as {encoding or 'something unknown'}, not by rows",
                remedy="write it again with adata.X = adata.X.tocsr()",
            )
        self.group = group
        rows, columns = group.attrs["shape"]
        self.shape, self.dtype = (int(rows), int(columns)), np.dtype(group["data"].dtype)

    def read(self, first: int, last: int) -> np.ndarray:
        """Cells first to last, dense."""
        from scipy.sparse import csr_matrix

        ends = np.asarray(self.group["indptr"][first : last + 1])
        lo, hi = int(ends[0]), int(ends[-1])
        parts = (np.asarray(self.group["data"][lo:hi]), np.asarray(self.group["indices"][lo:hi]))
        return csr_matrix((*parts, ends - lo), shape=(last - first, self.shape[1])).toarray()


def chunks(source: Reader, chunk_cells: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Places and dense values of chunks of cells, in order; all of them finite.

    Raises:
        DataError: a value is missing or infinite.
        UsageError: `chunk_cells` is not a whole number above 0, or None.
    """
    whole("chunk_cells", chunk_cells, optional=True)
    cells, genes = source.shape
    size = chunk_cells or max(1, CHUNK_BYTES // (8 * max(1, genes)))
    for first in range(0, cells, size):
        last = min(first + size, cells)
        values = source.read(first, last)
        # the sum of a chunk is finite unless a value is not, or the values are absurdly large
        if values.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float64)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                row, gene = bad[0]
                raise DataError(
                    "not a finite number", column=f"gene {int(gene) + 1}", row=first + int(row) + 1
                )
        yield slice(first, last), values


@contextlib.contextmanager
def open_cells(data: Any, layer: str | None = None) -> Iterator[tuple[Reader, Any]]:
    """A reader of the cells, and what knows their labels, or None.

    Args:
        data: array, scipy sparse matrix, AnnData (in memory or backed), or the path of an `.h5ad`,
            `.zarr` or `.npy`.
        layer: of an AnnData or its file, instead of X.

    Raises:
        DataError: the file is missing or damaged, or its matrix is not stored by rows.
        UsageError: `layer` for what has none, a path of another kind, or a view of a backed
            AnnData, whose values are not in the order of its labels.
    """
    if is_anndata(data):
        if layer is not None and layer not in data.layers:
            raise UsageError(f"layer must be one of {sorted(data.layers)}; got {layer!r}")
        if data.isbacked and data.is_view:
            raise UsageError("cells must not be a view of a backed AnnData; give view.to_memory()")
        if layer is None and data.isbacked:
            with open_cells(data.filename) as (reader, _):
                yield reader, data
                return
        matrix = data.X if layer is None else data.layers[layer]
        if matrix is None:
            raise DataError("the AnnData has no X", remedy="name a layer")
        yield Rows(matrix), data
    elif isinstance(data, (str, os.PathLike)):
        with open_root(Path(data)) as root:
            if isinstance(root, np.ndarray):
                if layer is not None:
                    raise UsageError(f"layer must be None for an array; got {layer!r}")
                yield Rows(root), None
                return
            where = "X" if layer is None else f"layers/{layer}"
            if where not in root:
                raise DataError(f"has no {where}", path=data)
            found = root[where]
            yield (StoredRows(found) if hasattr(found, "keys") else Rows(found)), root
    elif layer is not None:
        raise UsageError(f"layer must be None for an array; got {layer!r}")
    else:
        yield Rows(np.asarray(data) if isinstance(data, (list, tuple)) else _plain(data)), None


def _plain(data: Any) -> Any:
    return data.to_numpy() if hasattr(data, "to_numpy") else data  # a data frame


def is_anndata(data: Any) -> bool:
    """Whether it is an AnnData, without importing that package."""
    return hasattr(data, "obs") and hasattr(data, "layers") and hasattr(data, "isbacked")


@contextlib.contextmanager
def open_root(path: Path) -> Iterator[Any]:
    """The open file: an HDF5 or zarr group, or a memory map."""
    if not path.exists():
        raise DataError("no such file", path=path)
    kind = path.suffix
    if kind not in (".h5ad", ".h5", ".hdf5", ".npy", ".zarr"):
        raise UsageError(f"cells must be a path of .h5ad, .zarr or .npy; got {path.name!r}")
    with contextlib.ExitStack() as stack:
        try:
            if kind == ".npy":
                root = np.load(path, mmap_mode="r")
            elif kind == ".zarr":
                root = need("zarr").open_group(str(path), mode="r")
            else:
                root = stack.enter_context(need("h5py").File(path, "r"))
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"not readable as {kind}, or damaged", path=path) from error
        yield root


def need(package: str) -> Any:
    """The optional package, or an error that says how to install it."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"this needs {package}: {HINT}") from error


def column(known: Any, name: str, what: str) -> Any:
    """A column of `obs`, from an AnnData or its open file.

    Raises:
        UsageError: it is not there.
    """
    if known is None:
        raise UsageError(f"{what} must be labels where cells are an array; got the name {name!r}")
    if hasattr(known, "layers"):
        if name not in known.obs:
            raise UsageError(f"{what} must be a column of obs ({list(known.obs)}); got {name!r}")
        return known.obs[name]
    if name not in known["obs"]:
        raise UsageError(f"{what} must be a column of obs ({list(known['obs'])}); got {name!r}")
    return need("anndata").io.read_elem(known["obs"][name])
