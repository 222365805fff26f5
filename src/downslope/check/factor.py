"""Factor of a quadratic's Hessian: Cholesky, or eigenvectors where it is singular."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import linalg

from downslope.noise.statistics.arrays import Floats

(_inverse_condition,) = linalg.get_lapack_funcs(("pocon",), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """Factor of a symmetric matrix H, scaled to a diagonal of ones first.

    Columns on very different scales are no trouble then: the rounding of an entry H_ij is
    relative to sqrt(H_ii H_jj).

    Attributes:
        method: of factorizing.
        scale: [dim], 1 / sqrt(H_ii); 1 where that is 0.
        least: smallest eigenvalue of the scaled matrix that is not 0, or an estimate of it.
        condition: of the scaled matrix, without its null space.
        lambda_min, lambda_max: extreme eigenvalues of H, the least of those that are not 0.
        is_convex: no eigenvalue is below 0 but for rounding.
        null: [dim, k], orthonormal basis of the directions without curvature.
        null_curvature: [k], what H may curve along each of them without being seen for rounding.
    """

    method: Literal["cholesky", "eigenvectors"]
    scale: Floats
    least: float
    condition: float
    lambda_min: float
    lambda_max: float
    is_convex: bool
    null: Floats
    matrix: Floats  # H, scaled
    spectrum: Floats  # of H, ascending
    null_curvature: Floats = field(default_factory=lambda: np.zeros(0))
    triangle: Floats | None = None
    values: Floats | None = None
    vectors: Floats | None = None

    def solve(self, right: Floats) -> Floats:
        """x with H x = right, leaving out directions without curvature."""
        right = self.scale * right
        if self.triangle is not None:
            return self.scale * linalg.cho_solve((self.triangle, True), right)
        assert self.values is not None and self.vectors is not None
        return self.scale * (self.vectors @ ((self.vectors.T @ right) / self.values))

    def without(self, limit: float) -> Factor:
        """A factor without eigenvalues of the scaled matrix below a share of the largest."""
        return _by_eigenvectors(self.matrix, self.scale, self.spectrum, limit, 0.0)

    def nearest(self, x: Floats) -> Floats:
        """The point of least norm among those that differ from x without changing the loss."""
        return x - self.null @ (self.null.T @ x) if self.null.size else x


def factorize(hessian: Floats, noise: float) -> Factor:
    """Factor of a symmetric matrix.

    Args:
        hessian: [dim, dim], symmetric but for rounding.
        noise: error of an entry, relative to sqrt(H_ii H_jj).

    Example:
        >>> factor = factorize(np.diag([4.0, 1e-6]), 1e-15)
        >>> factor.method, factor.solve(np.array([4.0, 1e-6])).tolist()
        ('cholesky', [1.0, 1.0])
    """
    hessian = (hessian + hessian.T) / 2
    dim, diagonal = len(hessian), np.diag(hessian)
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = hessian * scale * scale[:, None]
    floor = dim * noise  # eigenvalues below it may be rounding; of n a size of sqrt(n) is typical
    spectrum = linalg.eigvalsh(hessian)
    lambda_max = float(spectrum[-1])
    try:
        triangle = linalg.cholesky(scaled, lower=True)
        inverse, info = _inverse_condition(triangle, linalg.norm(scaled, 1), uplo="L")
    except linalg.LinAlgError:
        triangle, inverse, info = None, 0.0, 0
    if triangle is not None and info == 0 and inverse > 2 * floor:
        least = inverse * float(linalg.norm(scaled, 1))
        return Factor(
            method="cholesky", scale=scale, least=least, condition=1 / inverse,
            lambda_min=_least(spectrum, noise, least * float(diagonal.min())),
            lambda_max=lambda_max, is_convex=True, null=np.zeros((dim, 0)), triangle=triangle,
            matrix=scaled, spectrum=spectrum,
        )  # fmt: skip
    return _by_eigenvectors(scaled, scale, spectrum, floor, noise)


def _by_eigenvectors(
    scaled: Floats, scale: Floats, spectrum: Floats, floor: float, noise: float
) -> Factor:
    values, vectors = linalg.eigh(scaled)
    limit = floor * max(float(np.abs(values).max()), 1e-300)
    kept, is_convex = values > limit, bool(values[0] >= -limit)
    null = np.zeros((len(scale), 0))
    if not kept.all():
        null = np.asarray(linalg.qr(scale[:, None] * vectors[:, ~kept], mode="economic")[0])
    null_curvature = limit * np.square(null / scale[:, None]).sum(axis=0)
    least = float(values[kept].min(initial=np.inf)) if kept.any() else 0.0
    diagonal = 1 / scale**2
    return Factor(
        method="eigenvectors", scale=scale, least=least,
        condition=float(values[-1]) / least if least else np.inf,
        lambda_min=_least(spectrum[spectrum > limit * spectrum[-1]], noise,
                          least * float(diagonal.min())),
        lambda_max=float(spectrum[-1]), is_convex=is_convex, null=null,
        matrix=scaled, spectrum=spectrum, null_curvature=null_curvature, values=values[kept],
        vectors=vectors[:, kept],
    )  # fmt: skip


def _least(spectrum: Floats, noise: float, bound: float) -> float:
    """The least eigenvalue; a lower bound of it where it drowns in the largest one's rounding."""
    if not len(spectrum):
        return 0.0
    least = float(spectrum[0])
    return least if least > 100 * len(spectrum) * noise * float(spectrum[-1]) else bound
