"""Sums about the mean, batch by batch, from one pass over chunks of cells.

Everything that the linear model and ComBat need follows from these, so cells are read once to fit
and once to adjust, and the memory depends on genes and batches only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Moments:
    """Counts, means and centred products of covariates and genes in each batch, as float64.

    Chunks are merged about their own means (Chan, Golub and LeVeque 1983), so that large means do
    not swallow small variances.

    Args:
        num_batches, num_columns, num_genes: b, q and G.

    Attributes:
        count: cells [b].
        mean_c, mean_y: means of covariates [b, q] and genes [b, G].
        cc, cy, yy: sums of products about those means [b, q, q], [b, q, G], [b, G].

    Example:
        >>> found = Moments(2, 0, 1)
        >>> found.add(np.array([[1.0], [3.0], [10.0]]), np.array([0, 0, 1]), np.zeros((3, 0)))
        >>> found.mean_y.ravel().tolist(), found.yy.ravel().tolist()
        ([2.0, 10.0], [2.0, 0.0])
    """

    def __init__(self, num_batches: int, num_columns: int, num_genes: int):
        b, q, g = num_batches, num_columns, num_genes
        self.count = np.zeros(b)
        self.mean_c, self.mean_y = np.zeros((b, q)), np.zeros((b, g))
        self.cc, self.cy, self.yy = np.zeros((b, q, q)), np.zeros((b, q, g)), np.zeros((b, g))

    def add(self, y: np.ndarray, codes: np.ndarray, c: np.ndarray) -> None:
        """Takes in cells: genes [m, G], batches [m], covariates [m, q]."""
        for batch, rows in by_batch(codes):
            block = y[rows].astype(np.float64)  # a copy, centred in place
            mean_y, mean_c = block.mean(axis=0), c[rows].mean(axis=0)
            block -= mean_y
            about = c[rows] - mean_c
            part = _Part(
                len(block), mean_c, mean_y,
                about.T @ about, about.T @ block, np.einsum("ij,ij->j", block, block),
            )  # fmt: skip
            self._merge(batch, part)

    def _merge(self, batch: int, part: _Part) -> None:
        before, new = self.count[batch], part.count
        total = before + new
        dc, dy = part.mean_c - self.mean_c[batch], part.mean_y - self.mean_y[batch]
        weight = before * new / total
        self.cc[batch] += part.cc + weight * np.outer(dc, dc)
        self.cy[batch] += part.cy + weight * np.outer(dc, dy)
        self.yy[batch] += part.yy + weight * dy * dy
        self.mean_c[batch] += dc * (new / total)
        self.mean_y[batch] += dy * (new / total)
        self.count[batch] = total

    def pooled(self) -> Moments:
        """The same of all cells, as if there were one batch."""
        out = Moments(1, self.mean_c.shape[1], self.mean_y.shape[1])
        for b, count in enumerate(self.count):
            part = (self.mean_c[b], self.mean_y[b], self.cc[b], self.cy[b], self.yy[b])
            out._merge(0, _Part(count, *part))
        return out


class _Part(NamedTuple):
    count: float
    mean_c: np.ndarray
    mean_y: np.ndarray
    cc: np.ndarray
    cy: np.ndarray
    yy: np.ndarray


def by_batch(codes: np.ndarray) -> list[tuple[int, slice | np.ndarray]]:
    """The batches in a chunk with their rows; a slice where the chunk is of one batch."""
    present = np.unique(codes)
    if len(present) == 1:
        return [(int(present[0]), slice(0, len(codes)))]
    return [(int(batch), np.flatnonzero(codes == batch)) for batch in present]


def slopes(cc: np.ndarray, cy: np.ndarray) -> np.ndarray:
    """Least-squares slopes [q, G] from centred products; the smallest where several are best."""
    if not len(cc):
        return np.zeros(cy.shape)
    scale = np.sqrt(np.diag(cc))
    scale[scale == 0] = 1.0
    inverse = np.linalg.pinv(cc / np.outer(scale, scale), rcond=RANK, hermitian=True)
    return (inverse @ (cy / scale[:, None])) / scale[:, None]


def rank(cc: np.ndarray, reference: np.ndarray) -> int:
    """Directions of the covariates that vary, on the scale of their variation in `reference`."""
    if not len(cc):
        return 0
    scale = np.sqrt(np.diag(reference))
    scale[scale == 0] = 1.0
    return int((np.linalg.eigvalsh(cc / np.outer(scale, scale)) > RANK).sum())


RANK = 1e-10  # share of a covariate's sum of squares that is rounding; assumed
