"""An estimator as in scikit-learn: learns the batches' shifts and scales, and takes them off.

Arrays in and out; for AnnData and files there is `batch_correct`.
"""

from __future__ import annotations

import importlib.util as _util
from typing import Any, Literal

import numpy as np

if _util.find_spec("sklearn") is None:
    raise ImportError("BatchEffect needs scikit-learn: pip install 'downslope[sklearn]'")

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from downslope import UsageError
from downslope.arguments import one_of
from downslope.recipes.batch_effect.cells import chunks, open_cells
from downslope.recipes.batch_effect.combat import Adjustment, combat, removal
from downslope.recipes.batch_effect.gather import Given, gather, require_separable
from downslope.recipes.batch_effect.moments import Moments

METHODS = {"combat": combat, "linear": removal}


class BatchEffect(BaseEstimator):
    """Takes the effect of laboratories off cells, and keeps that of covariates.

    Args:
        method: "combat" for a shift and a scale for each gene and batch, shrunk towards those of
            other genes; "linear" for the shift alone, by least squares.
        chunk_cells: cells read at once; by default as many as fill 32 MiB as float64.

    Attributes:
        batches_: the batches, sorted.
        adjustment_: what is done to a value; see `Adjustment`.
        moments_: the sums that it follows from.
        n_features_in_: genes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat(["Bern", "Oslo"], 200)
        >>> X = rng.normal(size=(400, 30)) + 2.0 * (lab == "Oslo")[:, None]
        >>> out = BatchEffect().fit(X, batch=lab).transform(X, batch=lab)
        >>> bool(abs(out[lab == "Oslo"].mean() - out[lab == "Bern"].mean()) < 0.05)
        True
    """

    def __init__(
        self, *, method: Literal["combat", "linear"] = "combat", chunk_cells: int | None = None
    ):
        self.method = method
        self.chunk_cells = chunk_cells

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, covariates: Any = None) -> Any:
        """The estimator, fitted by one pass over chunks of cells.

        Args:
            X: array, scipy sparse matrix, AnnData, or path of an `.h5ad`, `.zarr` or `.npy`;
                values on a logarithmic scale, [n, genes].
            y: not used.
            batch: labels [n]; the name of a column for AnnData and its files.
            covariates: what to keep: mapping or data frame of values [n], or names of columns.

        Raises:
            UsageError: a covariate is confounded with the batches, or arguments do not fit.
            DataError: values that cannot be used; a batch of a single cell.
        """
        one_of("method", self.method, METHODS)
        with open_cells(X) as (reader, known):
            given = gather(reader, known, batch, covariates, called="batch")
            return self.learn(given, given.moments(reader, self.chunk_cells))

    def learn(self, given: Given, moments: Moments) -> Any:
        """The estimator, fitted from sums that were made already."""
        require_separable(given, moments)
        self.adjustment_: Adjustment = METHODS[self.method](moments)
        self.moments_, self.batches_ = moments, given.batch.levels
        self.n_features_in_ = moments.mean_y.shape[1]
        self._like = Given(  # levels and names, without the cells
            batch=type(given.batch)(
                name="batch", levels=given.batch.levels, codes=given.batch.codes[:0]
            ),
            covariates=tuple(
                type(each)(name=each.name, levels=each.levels, values=each.values[:0])
                for each in given.covariates
            ),
        )
        return self

    def transform(self, X: Any, *, batch: Any = None, covariates: Any = None) -> np.ndarray:
        """Adjusted cells [n, genes]: float64 for float64, else float32.

        Args:
            X: cells as for `fit`, of the same genes.
            batch: their laboratories, all of them seen in `fit`.
            covariates: those of `fit`.

        Raises:
            UsageError: an unknown batch or level, or another number of genes.
        """
        check_is_fitted(self, "adjustment_")
        with open_cells(X) as (reader, known):
            if reader.shape[1] != self.n_features_in_:
                raise UsageError(
                    f"X must have the {self.n_features_in_:,} genes of fit; got {reader.shape[1]:,}"
                )
            given = gather(reader, known, batch, covariates, like=self._like, called="batch")
            kind = np.float64 if reader.dtype == np.float64 else np.float32
            out = np.empty(reader.shape, kind)
            for at, values in self.adjusted(reader, given):
                out[at] = values
        return out

    def fit_transform(
        self, X: Any, y: Any = None, *, batch: Any = None, covariates: Any = None
    ) -> np.ndarray:
        """`fit` and `transform` on the same cells."""
        fitted = self.fit(X, y, batch=batch, covariates=covariates)
        return fitted.transform(X, batch=batch, covariates=covariates)

    def adjusted(self, reader: Any, given: Given) -> Any:
        """Places and adjusted values of chunks of cells, in order."""
        for at, values in chunks(reader, self.chunk_cells):
            yield at, self.adjustment_.apply(values, given.batch.codes[at], given.rows(at))
