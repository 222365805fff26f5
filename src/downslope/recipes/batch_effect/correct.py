"""One call, as scanpy has it: check the design, correct the cells, write the result beside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from downslope import DataError, UsageError
from downslope.arguments import one_of
from downslope.recipes.batch_effect.cells import Reader, is_anndata, need, open_cells
from downslope.recipes.batch_effect.confounding import check_design, require_estimable
from downslope.recipes.batch_effect.gather import Given, gather

CHUNK_VALUES = 1 << 16  # of one chunk of a written layer: 256 KiB


def batch_correct(
    adata: Any,
    key: str = "batch",
    *,
    condition: str | None = None,
    covariates: Any = None,
    method: Literal["combat", "linear", "net"] = "combat",
    layer: str | None = None,
    key_added: str | None = None,
    out: str | os.PathLike[str] | None = None,
    chunk_cells: int | None = None,
    **options: Any,
) -> Any:
    """Cells without the effect of their laboratories, beside the counts, which stay as they are.

    The design is checked first: what cannot be told from the batches is refused. Cells are read
    twice, a chunk at a time; beside the chunk, memory holds 4 bytes a cell for each label.

    Args:
        adata: AnnData, in memory or backed, or the path of an `.h5ad` or `.zarr`. Values on a
            logarithmic scale (`normalize_total`, `log1p`), not counts.
        key: column of `obs` with the laboratory.
        condition: column whose differences are of interest: checked, and kept.
        covariates: names of other columns to keep, such as cell types.
        method: "combat" (shift and scale, shrunk), "linear" (shift), or "net" (a space of a few
            dimensions by a net with batch-specific normalisation; see `BatchNet`).
        layer: the values to correct, instead of X.
        key_added: name of the result in `layers`; for "net" in `obsm`. By default the method, and
            "X_net".
        out: path of a new `.h5ad` or `.zarr` to write, with all that the old one has, and of its
            kind. Needed for a path or a backed AnnData, whose file is copied, with the columns
            of `obs` and `var` as they are now.
        chunk_cells: cells read at once; by default as many as fill 32 MiB as float64.
        options: of `BatchNet`, for "net".

    Returns:
        The AnnData, changed in place; for `out`, its path.

    Raises:
        UsageError: condition or covariates are confounded with the batches; unknown names.
        DataError: values that cannot be used.

    Example:
        >>> import anndata, pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat(["Bern", "Oslo"], 100)
        >>> X = rng.normal(size=(200, 20)) + 3.0 * (lab == "Oslo")[:, None]
        >>> names = [f"cell {i}" for i in range(200)]
        >>> cells = anndata.AnnData(X, obs=pd.DataFrame({"lab": lab}, index=names))
        >>> mean = batch_correct(cells, key="lab").layers["combat"].mean(1)
        >>> bool(abs(mean[lab == "Oslo"].mean() - mean[lab == "Bern"].mean()) < 0.05)
        True
    """
    path = _asked(adata, method, out, options)
    with open_cells(adata, layer) as (reader, known):
        given = gather(reader, known, key, covariates, condition)
        report = _check(given)
        _look_for_counts(reader)
        if method == "net":
            return _by_net(adata, reader, given, key_added or "X_net", report, options)
        from downslope.recipes.batch_effect.estimator import BatchEffect

        model = BatchEffect(method=method, chunk_cells=chunk_cells)
        model.learn(given, given.moments(reader, chunk_cells))
        name = key_added or method
        note = {"method": method, "key": key, "layer": layer or "X", **report}
        if path is None:
            kind = np.float64 if reader.dtype == np.float64 else np.float32
            found = np.empty(reader.shape, kind)
            for at, values in model.adjusted(reader, given):
                found[at] = values
        else:
            return _write(adata, path, name, reader, model.adjusted(reader, given), note)
    adata.layers[name] = found
    adata.uns["batch_correct"] = note
    return adata


def _asked(adata: Any, method: str, out: Any, options: dict[str, Any]) -> Path | None:
    one_of("method", method, ("combat", "linear", "net"))
    if options and method != "net":
        raise UsageError(f"options are for method='net'; got {sorted(options)}")
    is_path = isinstance(adata, (str, os.PathLike))
    if not is_path and not is_anndata(adata):
        raise UsageError(
            f"adata must be an AnnData or the path of one; got {type(adata).__name__}; "
            "for arrays use BatchEffect"
        )
    if method == "net":
        if out is not None or is_path:
            raise UsageError("method='net' writes to adata.obsm: give an AnnData, and no out")
        return None
    if out is None:
        if is_path or adata.isbacked:
            raise UsageError("out must be the path of a new file where cells are on disk")
        return None
    path = Path(out)
    kinds = (".h5ad", ".zarr")
    if is_path or adata.isbacked:
        kinds = (Path(adata if is_path else adata.filename).suffix,)
        if kinds[0] not in (".h5ad", ".zarr"):
            raise UsageError(f"cells must come from an .h5ad or .zarr to be written; got {adata!r}")
    if path.suffix not in kinds:
        raise UsageError(f"out must end in {' or '.join(kinds)}; got {path.name!r}")
    if path.exists():
        raise DataError("already exists", path=path, remedy="choose another name or remove it")
    if not path.parent.is_dir():
        raise DataError("no such directory", path=path.parent, remedy="make it first")
    return path


def _check(given: Given) -> dict[str, Any]:
    if given.condition is None:
        return {}
    found = check_design(given.batch, given.condition, covariates=given.mapping())
    require_estimable(found)
    return {"confounding": str(found)}


def _look_for_counts(reader: Reader) -> None:
    rows = reader.read(0, min(256, reader.shape[0]))
    if rows.max(initial=0) > 20 and (rows >= 0).all() and (rows == np.floor(rows)).all():
        warnings.warn(
            "the values look like counts; these methods are for values on a logarithmic scale "
            "(sc.pp.normalize_total, sc.pp.log1p)", UserWarning, stacklevel=3,
        )  # fmt: skip


def _by_net(
    adata: Any, reader: Reader, given: Given, name: str, note: dict[str, Any], options: Any
) -> Any:
    from downslope.recipes.batch_effect.net import BatchNet

    cells = reader.read(0, reader.shape[0])
    adata.obsm[name] = BatchNet(**options).fit_transform(cells, batch=given.batch)
    adata.uns["batch_correct"] = {"method": "net", **note}
    return adata


def _write(
    adata: Any, path: Path, name: str, reader: Reader, adjusted: Any, note: dict[str, Any]
) -> Path:
    """A copy of the cells with one layer more, visible once it is whole."""
    scratch = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        _copy(adata, scratch)
        with _opened(scratch) as file:
            if is_anndata(adata) and adata.isbacked:
                _renew(file, adata)
            kind = np.float64 if reader.dtype == np.float64 else np.float32
            stored = _new_layer(file.require_group("layers"), name, reader.shape, kind)
            for at, values in adjusted:
                stored[at] = values
            need("anndata").io.write_elem(file.require_group("uns"), "batch_correct", note)
        os.replace(scratch, path)
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch)
        scratch.unlink(missing_ok=True)
    return path


def _copy(adata: Any, path: Path) -> None:
    if is_anndata(adata) and not adata.isbacked:
        adata.write_zarr(path) if path.suffix == ".zarr" else adata.write_h5ad(path)
        return
    source = adata.filename if is_anndata(adata) else adata
    shutil.copytree(source, path) if path.suffix == ".zarr" else shutil.copyfile(source, path)


def _renew(file: Any, adata: Any) -> None:
    """Columns that were added or changed in memory, which the file does not have."""
    io = need("anndata").io
    for name in ("obs", "var"):
        stored, table = file[name], getattr(adata, name)
        before = io.read_elem(stored)
        new = [c for c in table if c not in before or not table[c].equals(before[c])]
        for column in new:
            io.write_elem(stored, column, _storable(table[column]))
        if new:
            stored.attrs["column-order"] = list(table.columns)


def _storable(column: Any) -> Any:
    """Values as anndata 0.12.6 can write them, which does not know the strings of pandas 3."""
    is_text = need("pandas").api.types.is_string_dtype
    found = column.astype("category") if is_text(column) else column
    if hasattr(found, "cat") and is_text(found.cat.categories):
        found = found.cat.rename_categories(found.cat.categories.astype(object))
    return found.values


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.suffix == ".zarr":
        zarr = need("zarr")
        root = zarr.open_group(str(path), mode="r+", use_consolidated=False)
        yield root
        zarr.consolidate_metadata(root.store)  # else its readers do not see what is new
    else:
        with need("h5py").File(path, "r+") as file:
            yield file


def _new_layer(layers: Any, name: str, shape: tuple[int, int], kind: Any) -> Any:
    if name in layers:
        del layers[name]
    cells, genes = shape
    chunk = (max(1, min(cells, CHUNK_VALUES // genes)), genes)
    make = layers.create_array if hasattr(layers, "create_array") else layers.create_dataset
    stored = make(name, shape=shape, dtype=kind, chunks=chunk)
    stored.attrs["encoding-type"], stored.attrs["encoding-version"] = "array", "0.2.0"
    return stored
