"""Blood cells measured in three laboratories: check the design, remove batch effects, compare.

The cells are real (700, from scanpy); the effects of the laboratories are planted, so that what a
correction should find is known.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import PCA

import downslope
from downslope.recipes.batch_effect import BatchEffect, BatchNet, check_design, effects, mixing


def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-expression [700, 765], cell types and laboratories."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that scanpy brings
        import scanpy

        found = scanpy.datasets.pbmc68k_reduced()
    x, types = found.raw.X.toarray(), found.obs["bulk_labels"].astype(str).to_numpy()
    rng = np.random.default_rng(0)
    lab = rng.integers(0, 3, len(x))
    scale = rng.gamma(20, 1 / 20, (3, x.shape[1]))[lab]
    shift = rng.normal(0, 0.5, (3, x.shape[1]))[lab] * (x.std(axis=0) + 1e-3)
    return x * scale + shift, types, np.array(["Bern", "Oslo", "Rome"])[lab]


def main(steps: int = 1500) -> downslope.Result:
    x, types, lab = cells()
    kind = np.where(np.char.startswith(types.astype(str), "CD14"), "monocyte", "other")
    print(check_design(lab, kind))
    print(effects(x, lab, kind))

    def space(values: np.ndarray) -> np.ndarray:
        return PCA(30, random_state=0).fit_transform(values)

    net = BatchNet(steps=steps, random_state=0).fit(x, batch=lab)
    spaces = {
        "as measured": space(x),
        "combat": space(BatchEffect().fit_transform(x, batch=lab)),
        "net": net.transform(x, batch=lab),
    }
    for name, z in spaces.items():
        print(f"\n{name}\n{mixing(z, lab, types, shuffles=10)}")
    return net.result_


if __name__ == "__main__":
    main()
