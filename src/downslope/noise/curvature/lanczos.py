"""Lanczos iteration with full re-orthogonalisation, around any product with a vector (NumPy).

Why not a library's: docs/decisions/2026-11-22-a-lanczos-of-our-own.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.errors import UsageError
from downslope.noise.statistics.arrays import Floats

Product = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Tridiagonal:
    """The tridiagonal matrix of a Krylov space, with its basis.

    Attributes:
        diagonal, off_diagonal: [steps] and [steps - 1].
        basis: [steps, dim], orthonormal rows, in the product's own type.
        last: norm of the remainder after the last product, for the residuals.
        rounding: absolute error to expect of an eigenvalue.
        exhausted: whether the Krylov space was used up.
        symmetric: whether the operator looked symmetric.
    """

    diagonal: Floats
    off_diagonal: Floats
    basis: np.ndarray
    last: float
    rounding: float
    exhausted: bool
    symmetric: bool


def lanczos(matvec: Product, dim: int, steps: int, rng: np.random.Generator) -> Tridiagonal | str:
    """The tridiagonal matrix of `steps` products from a random start, or why there is none."""
    vector = rng.normal(size=dim)
    vector /= np.linalg.norm(vector)
    diagonal, off = np.zeros(steps), np.zeros(steps)
    basis, size, error, exhausted, skew = np.zeros((0, 0)), 0.0, 0.0, False, 0.0
    for j in range(steps):
        image = product(matvec, vector)
        if j == 0:  # the product's own type: float32 products do not deserve twice the memory
            basis = np.empty((steps, dim), image.dtype)
        basis[j] = vector
        rest = image.astype(np.float64)
        if not np.isfinite(rest).all():
            return "a product is not finite"
        size = max(size, float(np.linalg.norm(rest)))
        known = basis[: j + 1] @ rest
        diagonal[j] = known[-1]
        skew = max(skew, float(np.abs(known[: max(j - 1, 0)]).max(initial=0.0)))
        rest = _orthogonal(basis[: j + 1], rest)
        error = 8 * float(np.finfo(basis.dtype).eps) * size * math.sqrt(steps)
        off[j] = np.linalg.norm(rest)
        if off[j] <= error:  # used up: what is left is rounding
            exhausted, off[j] = True, 0.0
            rest = _orthogonal(basis[: j + 1], rng.normal(size=dim))
        length = np.linalg.norm(rest)
        if j + 1 < steps:
            vector = rest / length
    return Tridiagonal(
        diagonal=diagonal, off_diagonal=off[:-1], basis=basis, last=float(off[-1]),
        rounding=error, exhausted=exhausted or steps == dim, symmetric=skew <= 1e-3 * size,
    )  # fmt: skip


def _orthogonal(basis: np.ndarray, vector: Floats) -> Floats:
    """The vector without its part in the basis; twice, because once leaves rounding behind."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def product(matvec: Product, vector: Floats) -> np.ndarray:
    """The product as float32 where it is that, otherwise as float64."""
    image = np.asarray(matvec(vector))
    if image.shape != vector.shape:
        raise UsageError(f"matvec must return shape {vector.shape}; got {image.shape}")
    return image if image.dtype == np.float32 else image.astype(np.float64)
