"""ComBat: a shift and a scale for each gene in each batch, shrunk towards those of other genes.

The model is y = alpha + C beta + gamma_batch + delta_batch * noise. Its sums come from one pass
(`moments.py`); the adjustment is one product and one sum a value, for any number of cells.

Source: W. Johnson, C. Li and A. Rabinovic, Adjusting batch effects in microarray expression data
using empirical Bayes methods, Biostatistics 8 (2007), eqs. 3.1 and 3.2; the estimators and their
stopping rule are those of scanpy's `pp.combat`, so that the results are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from downslope import DataError
from downslope.recipes.batch_effect.moments import Moments, by_batch, slopes

CONVERGED = 1e-4  # largest relative change of a parameter, as in scanpy
ROUNDING = 1e-26  # of a squared mean: what is left of a constant's variance, squared float64 error
MOST_ROUNDS = 10_000  # it takes about ten; no data are known that need more than hundreds


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """What adjusts a value: y -> scale * y + shift + (1 - scale) * (C slopes).

    Attributes:
        scale, shift: [batches, genes].
        slopes: of the covariates, which are kept [columns, genes].
        shrunk_shift, shrunk_scale: of each batch in pooled standard deviations, after shrinkage
            [batches, genes]; None for a model without scales.
    """

    scale: np.ndarray
    shift: np.ndarray
    slopes: np.ndarray
    shrunk_shift: np.ndarray | None = None
    shrunk_scale: np.ndarray | None = None

    def apply(self, y: np.ndarray, codes: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Adjusted cells [m, genes], float32 unless the values are float64."""
        kind = np.float64 if y.dtype == np.float64 else np.float32
        out = np.empty(y.shape, kind)
        for batch, rows in by_batch(codes):
            scale = self.scale[batch]
            block = y[rows].astype(np.float64)
            block *= scale
            block += self.shift[batch]
            if len(self.slopes) and (scale != 1).any():
                block += (1 - scale) * (c[rows] @ self.slopes)
            out[rows] = block
        return out


def removal(moments: Moments) -> Adjustment:
    """The linear model's batch terms taken off, with the covariates' effects kept.

    For pictures and clusters: tests belong on the data as they are, with batch in the model.
    """
    beta, own, grand = _least_squares(moments)
    return Adjustment(scale=np.ones(own.shape), shift=grand - own, slopes=beta)


def _least_squares(moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes [q, G], level of each batch [b, G], and their mean over the cells [G]."""
    beta = slopes(moments.cc.sum(0), moments.cy.sum(0))
    own = moments.mean_y - moments.mean_c @ beta
    return beta, own, (moments.count / moments.count.sum()) @ own


def combat(moments: Moments) -> Adjustment:
    """The adjustment of ComBat with parametric priors.

    Genes that do not vary are left as they are and out of the priors, as in R's `sva`. (In scanpy
    they count in the priors, and a single one ends the iteration after its first round, by 0 / 0:
    there, drop them first.)

    Args:
        moments: of the cells to be adjusted.

    Raises:
        DataError: a batch has a single cell, whose spread is not estimable.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat([0, 1], 500)
        >>> y = rng.normal(size=(1000, 50)) * (1 + lab)[:, None] + 3.0 * lab[:, None]
        >>> moments = Moments(2, 0, 50)
        >>> moments.add(y, lab, np.zeros((1000, 0)))
        >>> out = combat(moments).apply(y, lab, np.zeros((1000, 0)))
        >>> gap = out[lab == 1].mean() - out[lab == 0].mean()
        >>> ratio = out[lab == 1].std() / out[lab == 0].std()
        >>> bool(abs(gap) < 0.02), bool(abs(ratio - 1) < 0.02)
        (True, True)
    """
    if (moments.count < 2).any():
        raise DataError(
            "a batch has a single cell: its spread is not estimable", column="batch",
            remedy="drop it, or use method='linear'",
        )  # fmt: skip
    n = moments.count[:, None]
    beta, own, grand = _least_squares(moments)
    # sums of squares about the fit, batch by batch
    residual = moments.yy - 2 * np.einsum("qg,bqg->bg", beta, moments.cy)
    residual += np.einsum("qg,bqr,rg->bg", beta, moments.cc, beta, optimize=True)
    residual = np.maximum(residual, 0)
    variance = residual.sum(0) / n.sum()
    varies = variance > ROUNDING * (moments.mean_y**2).max(0)
    if not varies.any():
        raise DataError("no gene varies inside the batches", remedy="there is nothing to adjust")
    sd = np.sqrt(variance[varies])
    gamma = (own - grand)[:, varies] / sd
    squares = residual[:, varies] / sd**2  # about the batch's own mean
    delta = squares / (n - 1)
    rounds = [_shrink(*each) for each in zip(moments.count, gamma, delta, squares, strict=True)]
    shrunk = np.zeros(own.shape), np.ones(own.shape)
    for each, found in zip(shrunk, zip(*rounds, strict=True), strict=True):
        each[:, varies] = found
    scale, shift = np.ones(own.shape), np.zeros(own.shape)
    scale[:, varies] = 1 / np.sqrt(shrunk[1][:, varies])
    own_scale = scale[:, varies]
    shift[:, varies] = (1 - own_scale) * grand[varies] - own_scale * sd * shrunk[0][:, varies]
    return Adjustment(
        scale=scale, shift=shift, slopes=beta, shrunk_shift=shrunk[0], shrunk_scale=shrunk[1]
    )


def _shrink(
    n: float, gamma_hat: np.ndarray, delta_hat: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior modes of one batch's shifts and squared scales, iterated together.

    Normal prior N(g_bar, t2) on shifts, inverse gamma (a, b) on squared scales, both fitted by
    moments over genes. A prior without spread leaves its mean.
    """
    g_bar, t2 = gamma_hat.mean(), gamma_hat.var()
    # one divided by genes, one by genes less one: so scanpy, whose results these must equal
    m, s2 = delta_hat.mean(), delta_hat.var(ddof=1) if len(delta_hat) > 1 else 0.0
    gamma, delta = gamma_hat, delta_hat
    if m == 0:
        raise DataError("a batch is constant: its spread is not estimable", column="batch")
    for _ in range(MOST_ROUNDS):
        old_gamma, old_delta = gamma, delta
        weight = t2 * n
        gamma = (
            (weight * gamma_hat + delta * g_bar) / (weight + delta)
            if weight
            else np.full_like(gamma_hat, g_bar)
        )
        sum2 = squares + n * (gamma_hat - gamma) ** 2
        if s2:  # a = m^2 / s2 + 2 and b = m (m^2 / s2 + 1)
            delta = (sum2 / 2 + m * (m**2 / s2 + 1)) / (n / 2 + m**2 / s2 + 1)
        else:
            delta = np.full_like(delta_hat, m)
        if max(_change(gamma, old_gamma), _change(delta, old_delta)) <= CONVERGED:
            break
    return gamma, delta


def _change(new: np.ndarray, old: np.ndarray) -> float:
    """Largest relative change; infinite where something left zero."""
    moved = np.abs(new - old)
    return float(
        np.divide(moved, np.abs(old), out=np.where(moved > 0, np.inf, 0.0), where=old != 0).max()
    )
