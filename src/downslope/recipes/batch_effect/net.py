"""A net whose normalisation is each laboratory's own: cells in a few dimensions, without the labs.

An autoencoder. Each layer's inputs are normalised by the mean and spread of the cell's own
laboratory, so each mini-batch is drawn from one laboratory; a batch of several would leave their
gap untouched. The decoder is told the laboratory, so the code need not carry it.
"""

from __future__ import annotations

import importlib.util as _util
from typing import Any, Literal

import numpy as np

if _util.find_spec("sklearn") is None:
    raise ImportError("BatchNet needs scikit-learn: pip install 'downslope[sklearn]'")

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import downslope
from downslope import DataError, StopReason, UsageError
from downslope.arguments import whole
from downslope.recipes import batch_norm
from downslope.recipes.batch_effect.autoencoder import (
    EPSILON,
    encode,
    initial,
    main_axes,
    reconstruction,
    scaling,
)
from downslope.recipes.batch_effect.cells import Reader, open_cells
from downslope.recipes.batch_effect.design import Labels
from downslope.recipes.batch_effect.gather import gather, named_labels

FEWEST = 16  # cells of a laboratory, below which its statistics are noise; assumed
STEPS = 1500  # updates; twice as many changed no score by more than its seeds do, on 700 cells


class BatchNet(BaseEstimator):
    """Cells in a space of a few dimensions that laboratories share, by a net.

    Takes off effects that differ between kinds of cells, which a shift and a scale cannot. It
    rests on one condition: each laboratory has the same mixture of cell types. Where it has not,
    normalising takes that difference off too, and types move into each other. Give `labels` where
    types are known: mini-batches and statistics then weigh them alike in each laboratory, for the
    types that all of them have.

    Args:
        dimensions: of the space.
        hidden: width of the layer on either side.
        batch_size: cells of an update, all of one laboratory; or "auto".
        learning_rate, steps, seconds: as for `downslope.fit`.
        random_state: seed.

    Attributes:
        batches_: the laboratories, sorted.
        statistics_: mean and standard deviation of every layer's inputs in each laboratory, from
            all of its cells.
        result_: the run, as `downslope.fit` gives it.
        n_features_in_: genes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat([0, 1], 200)
        >>> kind = rng.integers(0, 2, 400)
        >>> X = rng.normal(size=(400, 10)) + 4.0 * kind[:, None] + 9.0 * lab[:, None]
        >>> net = BatchNet(
        ...     dimensions=2, hidden=16, steps=100, learning_rate=3e-3, batch_size=64,
        ...     random_state=0,
        ... )
        >>> z = net.fit_transform(X, batch=lab)
        >>> gap = np.abs(z[lab == 1].mean(0) - z[lab == 0].mean(0)).max()
        >>> z.shape, bool(gap < 0.1 * z.std())
        ((400, 2), True)

    Source:
        Y. Li et al., Adaptive batch normalization, Pattern Recognition 80 (2018); W. Chang et
        al., Domain-specific batch normalization, CVPR 2019.
    """

    batch_size: int | Literal["auto"]
    learning_rate: float | Literal["auto"]

    def __init__(
        self,
        *,
        dimensions: int = 20,
        hidden: int = 128,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float | Literal["auto"] = "auto",
        steps: int = STEPS,
        seconds: float | None = None,
        random_state: Any = None,
    ):
        self.dimensions = dimensions
        self.hidden = hidden
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.steps = steps
        self.seconds = seconds
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, labels: Any = None) -> Any:
        """The trained estimator.

        Args:
            X: cells [n, genes] on a logarithmic scale, from wherever `BatchEffect` takes them; all
                are read into memory.
            y: not used.
            batch: laboratories [n]; the name of a column for AnnData and its files.
            labels: cell types [n] or the name of their column; or None.

        Raises:
            UsageError: one laboratory only, or arguments out of range.
            DataError: values that are not finite; a laboratory of fewer than 16 cells.
            KeyboardInterrupt: Ctrl-C; the model as it stood is kept.
        """
        self._check()
        with open_cells(X) as (reader, known):
            found = gather(reader, known, batch, called="batch").batch
            types = None
            if labels is not None:
                types = named_labels(known, labels, "labels", reader.shape[0])
            x = _read(reader)
        few = int(found.counts.argmin())
        if found.counts[few] < FEWEST:
            raise DataError(
                f"laboratory {found.levels[few]!r} has {found.counts[few]} cells, fewer than "
                f"{FEWEST}", remedy="its statistics would be noise: drop it",
            )  # fmt: skip
        weight = _weight(found, types)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.batches_, self.n_features_in_ = found.levels, x.shape[1]
        self._scaling = scaling(x, found, weight)
        rows = self._scaled(x, found)
        model = initial(rows.shape[1], self.hidden, self.dimensions, len(found.levels), seed)
        self.result_ = downslope.fit(
            reconstruction,
            model,
            downslope.Generator(batch_norm.OneLab(rows, found.codes, weight)),
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            steps=self.steps,
            seconds=self.seconds,
            # half a mini-batch has statistics of its own, so its gradient measures another loss
            measure_every=None,
            seed=seed,
        )
        self._model = {k: np.asarray(v) for k, v in self.result_.params.items()}
        population = batch_norm.population_statistics(
            encode, self._model, rows, lab=found.codes, weight=weight, epsilon=EPSILON
        )
        self.statistics_ = tuple(
            (each.mean, np.sqrt(each.variance)) for each in population.layers.values()
        )
        self._encode = batch_norm.Predictor(net=encode, model=self._model, population=population)
        self._axes = main_axes(self._model, self._code(rows, found), self.dimensions)
        if self.result_.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt  # the model as it stood is kept
        return self

    def transform(self, X: Any, *, batch: Any = None) -> np.ndarray:
        """Cells in the shared space [n, dimensions], widest dimension first.

        The space is that of the decoded cells, so that distances are those of expression.

        Args:
            X: cells [n, genes], as for `fit`.
            batch: laboratories [n] or the name of their column, all of them seen in `fit`.

        Raises:
            UsageError: an unknown laboratory, or another number of genes.
        """
        check_is_fitted(self, "statistics_")
        with open_cells(X) as (reader, known):
            if reader.shape[1] != self.n_features_in_:
                raise UsageError(
                    f"X must have the {self.n_features_in_:,} genes of fit; got {reader.shape[1]:,}"
                )
            found = named_labels(known, batch, "batch", reader.shape[0], self.batches_)
            x = _read(reader)
        centre, axes = self._axes
        return (self._code(self._scaled(x, found), found) - centre) @ axes

    def fit_transform(
        self, X: Any, y: Any = None, *, batch: Any = None, labels: Any = None
    ) -> np.ndarray:
        """`fit` and `transform` on the same cells."""
        return self.fit(X, y, batch=batch, labels=labels).transform(X, batch=batch)

    def _scaled(self, x: np.ndarray, labs: Labels) -> np.ndarray:
        """Cells less their laboratory's mean, in its spread, then in the genes' own."""
        mean, ratio = self._scaling
        return ((x - mean[labs.codes]) * ratio[labs.codes]).astype(np.float32)

    def _code(self, rows: np.ndarray, labs: Labels) -> np.ndarray:
        """Last hidden layer [n, hidden], without what the decoder adds for the laboratory."""
        code = self._encode(rows, labs.codes)
        return np.maximum(code @ self._model["decode"] + self._model["lab"].mean(axis=0), 0)

    def _check(self) -> None:
        for name in ("dimensions", "hidden", "steps"):
            whole(name, getattr(self, name))
        if self.dimensions > self.hidden:
            raise UsageError(
                f"dimensions must be at most hidden, {self.hidden}; got {self.dimensions}"
            )


def _weight(labs: Labels, types: Labels | None) -> np.ndarray:
    """Weight of each cell [n], 1 in each laboratory in all; alike for cell types if known."""
    return batch_norm.balanced(labs.codes, None if types is None else types.codes)


def _read(reader: Reader) -> np.ndarray:
    x = reader.read(0, reader.shape[0])
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, gene = np.argwhere(~np.isfinite(x))[0]
        raise DataError("not a finite number", column=f"gene {int(gene) + 1}", row=int(row) + 1)
    return x
