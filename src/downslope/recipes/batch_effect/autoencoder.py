"""The autoencoder of `BatchNet`: the scale of its genes, its loss, the axes of its code."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from downslope import DataError
from downslope.recipes import batch_norm
from downslope.recipes.batch_effect.design import Labels

EPSILON = 1e-3  # added to variances: rectified units hardly vary at the start; assumed
ROUNDING = 1e-7  # of a mean: what is left of a constant's spread in float32


def scaling(x: np.ndarray, labs: Labels, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means, and pooled over own spread, [laboratories, genes]; a typical gene's spread is 1."""
    own = batch_norm.group_moments(x, labs.codes, len(labs.levels), weight)
    mean, sd = own.mean, np.sqrt(own.variance)
    sd = np.where(sd > ROUNDING * np.abs(mean), sd, 0.0)
    pooled = np.sqrt((sd**2).mean(axis=0))
    typical = float(np.sqrt((pooled**2).mean()))
    if typical == 0:
        raise DataError("no gene varies inside the laboratories")
    # a gene that is constant in one laboratory tells nothing there
    ratio = np.divide(pooled, sd, out=np.zeros(sd.shape), where=sd > 1e-6 * typical)
    return mean, ratio / typical


def initial(genes: int, hidden: int, dimensions: int, labs: int, seed: int) -> dict[str, Any]:
    """Weights to begin with."""
    rng = np.random.default_rng(seed)

    def weights(rows: int, columns: int, gain: float) -> np.ndarray:
        return rng.normal(0, np.sqrt(gain / rows), (rows, columns)).astype(np.float32)

    return {
        "into": weights(genes, hidden, 2),
        "into_shift": np.zeros(hidden, np.float32),
        "code": weights(hidden, dimensions, 1),
        "decode": weights(dimensions, hidden, 2),
        "lab": np.zeros((labs, hidden), np.float32),
        "out": weights(hidden, genes, 1),
        "out_shift": np.zeros(genes, np.float32),
    }


def encode(model: Any, x: Any, norm: batch_norm.Norm) -> Any:
    """Codes [n, dimensions] of cells."""
    hidden = norm("hidden", jnp.maximum(x @ model["into"] + model["into_shift"], 0))
    return norm("code", hidden @ model["code"])


def reconstruction(model: Any, batch: Any, key: Any) -> Any:
    """Mean squared error of the decoded cells over their variance: a scalar, cells interact."""
    x, lab = batch  # all of one laboratory
    code = encode(model, x, batch_norm.by_batch(epsilon=EPSILON))
    back = jnp.maximum(code @ model["decode"] + model["lab"][lab], 0)
    return jnp.mean((back @ model["out"] + model["out_shift"] - x) ** 2)


def main_axes(model: Any, hidden: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre [hidden] and axes [hidden, dimensions] of the decoded cells' main directions.

    Decoded cells are `hidden @ out`; by a QR of `out` their axes need no matrix of genes.
    """
    centre = hidden.mean(axis=0)
    _, r = np.linalg.qr(model["out"].T.astype(np.float64))
    points = (hidden - centre) @ r.T
    _, axes = np.linalg.eigh(points.T @ points)
    return centre, r.T @ axes[:, ::-1][:, :dimensions]
