"""Batch correction compared with ComBat of scanpy (memory, time, equality) and Harmony (quality).

python -m benchmarks.batch_effect [--cells 1000000] [--folder FOLDER]

With `--cells`, only a file of that many cells x 2,000 genes is made, corrected and removed; it
needs about 12 kB of disk a cell. Needs scanpy and harmonypy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np


class Settings(dict[str, Any]):
    """Keywords that print as they are written."""

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.items())


GENES, FILLED, LABS = 2000, 200, 4  # genes, those that a cell expresses, laboratories
SIZES = (5_000, 20_000, 80_000)
CHUNK = 5_000
HARMONY = (  # besides its defaults: the best found by hand for small and for large shifts
    Settings(lamb=1.0, theta=4, max_iter_harmony=50),
    Settings(lamb=1.0, nclust=3, sigma=0.3, max_iter_harmony=50),
    Settings(lamb=1.0, theta=6, sigma=0.5, max_iter_harmony=50),
)


def make(path: Path, cells: int) -> None:
    """An `.h5ad` of sparse log-values, written in chunks as AnnData writes it."""
    import anndata
    import h5py
    import pandas as pd

    rng = np.random.default_rng(0)
    labs = pd.Categorical.from_codes(
        rng.integers(0, LABS, cells), pd.Index([f"lab {i}" for i in range(LABS)], dtype=object)
    )
    names = pd.Index(np.char.add("c", np.arange(cells).astype(str)).tolist(), dtype=object)
    genes = pd.Index([f"g{i}" for i in range(GENES)], dtype=object)
    obs = pd.DataFrame({"lab": labs}, index=names)
    anndata.AnnData(obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(path)
    level, shift = rng.gamma(2, 0.5, GENES), rng.normal(1, 0.2, (LABS, GENES))
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array([cells, GENES])
        group["indptr"] = np.arange(cells + 1, dtype=np.int64) * FILLED
        data = group.create_dataset("data", (cells * FILLED,), "f4", chunks=(1 << 18,))
        indices = group.create_dataset("indices", (cells * FILLED,), "i4", chunks=(1 << 18,))
        step = GENES // FILLED
        for first in range(0, cells, CHUNK):
            lab = labs.codes[first : first + CHUNK]
            at = np.arange(0, GENES, step) + rng.integers(0, step, (len(lab), FILLED))
            values = level[at] * shift[lab[:, None], at] + 0.3 * rng.exponential(size=at.shape)
            part = slice(first * FILLED, (first + len(lab)) * FILLED)
            data[part], indices[part] = np.log1p(np.abs(values)).ravel(), at.ravel()


def child(what: str, path: Path, out: Path) -> None:
    """One correction in its own process, to measure its peak memory."""
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    if what == "ours":
        from downslope.recipes.batch_effect import batch_correct

        batch_correct(path, key="lab", out=out)
    elif what == "scanpy":
        import anndata
        import scanpy

        cells = anndata.read_h5ad(path)
        found = scanpy.pp.combat(cells, "lab", inplace=False)
        np.save(out, found[:CHUNK].astype(np.float32))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak}))


def apart(what: str, path: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.batch_effect", "--child", what, path, out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def sizes(folder: Path, counts: tuple[int, ...], *, beside: bool) -> None:
    print("| cells x 2,000 | ours, s | peak, GiB | scanpy, s | peak, GiB | largest difference |")
    print("|---|---|---|---|---|---|")
    for cells in counts:
        path, out, other = folder / "in.h5ad", folder / "out.h5ad", folder / "other.npy"
        make(path, cells)
        mine = apart("ours", path, out)
        row = f"| {cells:,} | {mine['seconds']:.1f} | {mine['peak_gib']:.2f} "
        if beside:
            theirs = apart("scanpy", path, other)
            row += f"| {theirs['seconds']:.1f} | {theirs['peak_gib']:.2f} | {gap(out, other):.1e} |"
        else:
            row += "| not run | | |"
        print(row, flush=True)
        for each in (path, out, other):
            each.unlink(missing_ok=True)


def gap(out: Path, other: Path) -> float:
    import h5py

    theirs = np.load(other)
    with h5py.File(out, "r") as file:
        ours: Any = file["layers/combat"]
        return float(np.abs(ours[: len(theirs)] - theirs).max())


def plant(values: np.ndarray, lab: np.ndarray, size: float, rng: Any) -> np.ndarray:
    """Values with a shift (in standard deviations) and a scale for each gene and laboratory."""
    out, spread = values.copy(), values.std(axis=0) + 1e-3
    for each in range(1, lab.max() + 1):
        here = values[lab == each]
        scaled = (here - here.mean(axis=0)) * rng.gamma(20, 1 / 20, values.shape[1])
        out[lab == each] = here.mean(0) + scaled + rng.normal(0, size, values.shape[1]) * spread
    return out


def quality(seeds: int = 2) -> None:
    """Means over seeds of planted effects on the 700 blood cells that scanpy ships."""
    import scanpy
    from sklearn.decomposition import PCA

    from downslope.recipes.batch_effect import BatchEffect, BatchNet, mixing

    cells = scanpy.datasets.pbmc68k_reduced()
    values, types = cells.raw.X.toarray(), cells.obs["bulk_labels"]
    codes = types.cat.codes.to_numpy()

    def space(x: np.ndarray) -> np.ndarray:
        return PCA(30, random_state=0).fit_transform(x)

    print("| types in labs | shift, sd | method | iLISI (null) | cLISI | kBET | type silhouette |")
    print("|---|---|---|---|---|---|---|")
    for composition in ("equal", "unequal"):
        for size in (0.5, 1.5):
            table: dict[str, list[Any]] = {}
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                lab = rng.integers(0, 3, len(values))
                if composition == "unequal":
                    shares = rng.dirichlet([0.7] * 3, 10)
                    lab = np.array([rng.choice(3, p=shares[code]) for code in codes])
                x = plant(values, lab, size, rng)
                raw, known = space(x), {"type": types}
                adjust, shift = BatchEffect(), BatchEffect(method="linear")
                results = {
                    "cells before planting": space(values),
                    "nothing": raw,
                    "harmony": harmony(raw, lab),
                    **{f"harmony, {how}": harmony(raw, lab, **how) for how in HARMONY},
                    "combat": space(adjust.fit_transform(x, batch=lab)),
                    "combat, types kept": space(
                        adjust.fit_transform(x, batch=lab, covariates=known)
                    ),
                    "linear, types kept": space(
                        shift.fit_transform(x, batch=lab, covariates=known)
                    ),
                    "net": BatchNet(random_state=seed).fit_transform(x, batch=lab),
                    "net, types known": BatchNet(random_state=seed).fit_transform(
                        x, batch=lab, labels=types
                    ),
                }
                for name, z in results.items():
                    table.setdefault(name, []).append(mixing(z, lab, types, shuffles=10))
            for name, found in table.items():
                mean = [
                    float(np.mean([getattr(getattr(each, score), part) for each in found]))
                    for score, part in (
                        ("ilisi", "value"), ("ilisi", "null"), ("clisi", "value"),
                        ("kbet", "value"), ("silhouette_label", "value"),
                    )
                ]  # fmt: skip
                ilisi, null, clisi, kbet, silhouette = mean
                print(
                    f"| {composition} | {size} | {name} | {ilisi:.2f} ({null:.2f}) | {clisi:.2f} "
                    f"| {kbet:.2f} | {silhouette:.3f} |",
                    flush=True,
                )


def harmony(z: np.ndarray, lab: np.ndarray, **settings: Any) -> np.ndarray:
    import harmonypy
    import pandas as pd

    about = pd.DataFrame({"lab": lab.astype(str)})
    found = np.asarray(harmonypy.run_harmony(z, about, "lab", verbose=False, **settings).Z_corr)
    return found if len(found) == len(z) else found.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--child", nargs=3)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], Path(asked.child[1]), Path(asked.child[2]))
        return
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        if asked.cells:
            print(f"made in {os.path.abspath(folder)}")
            sizes(Path(folder), (asked.cells,), beside=False)
            return
        sizes(Path(folder), SIZES[:2], beside=True)
        sizes(Path(folder), SIZES[2:], beside=False)
    quality()


if __name__ == "__main__":
    main()
