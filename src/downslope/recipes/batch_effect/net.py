"""A net whose normalisation is each laboratory's own: cells in a few dimensions, without the labs.

An autoencoder. Each layer's inputs are normalised by the mean and spread of the cell's own
laboratory, so each mini-batch is drawn from one laboratory; a batch of several would leave their
gap untouched. The decoder is told the laboratory, so the code need not carry it.
"""

from __future__ import annotations

import importlib.util as _util
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

if _util.find_spec("sklearn") is None:
    raise ImportError("BatchNet needs scikit-learn: pip install 'downslope[sklearn]'")

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import downslope
from downslope import DataError, UsageError
from downslope.recipes.batch_effect.cells import Rows
from downslope.recipes.batch_effect.design import Labels, labels_of

EPSILON = 1e-3  # added to variances, as usual for batch normalisation
ROUNDING = 1e-7  # of a mean: what is left of a constant's spread in float32
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
            X: cells [n, genes], NumPy or scipy sparse, on a logarithmic scale.
            y: not used.
            batch: laboratories [n].
            labels: cell types [n], or None.

        Raises:
            UsageError: one laboratory only, or arguments out of range.
            DataError: values that are not finite; a laboratory of fewer than 16 cells.
        """
        self._check()
        x, found = _read(X), _labs(batch, X.shape[0], None)
        if len(found.levels) < 2:
            raise UsageError(f"batch must have two laboratories or more; got {found.levels}")
        few = int(found.counts.argmin())
        if found.counts[few] < FEWEST:
            raise DataError(
                f"laboratory {found.levels[few]!r} has {found.counts[few]} cells, fewer than "
                f"{FEWEST}", remedy="its statistics would be noise: drop it",
            )  # fmt: skip
        weight = _balanced(found, labels)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.batches_, self.n_features_in_ = found.levels, x.shape[1]
        self._scaling = _scaling(x, found, weight)
        rows = self._scaled(x, found)
        model = _initial(rows.shape[1], self.hidden, self.dimensions, len(found.levels), seed)
        self.result_ = downslope.fit(
            reconstruction,
            model,
            downslope.Generator(_Draw(rows, found, weight)),
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            steps=self.steps,
            seconds=self.seconds,
            # half a mini-batch has statistics of its own, so its gradient measures another loss
            measure_every=None,
            seed=seed,
        )
        self._model = {k: np.asarray(v) for k, v in self.result_.params.items()}
        self.statistics_ = _statistics(self._model, rows, found, weight)
        self._axes = _axes(self._model, self._code(rows, found), self.dimensions)
        return self

    def transform(self, X: Any, *, batch: Any = None) -> np.ndarray:
        """Cells in the shared space [n, dimensions], widest dimension first.

        The space is that of the decoded cells, so that distances are those of expression.

        Args:
            X: cells [n, genes].
            batch: laboratories [n], all of them seen in `fit`.

        Raises:
            UsageError: an unknown laboratory, or another number of genes.
        """
        check_is_fitted(self, "statistics_")
        x, found = _read(X), _labs(batch, X.shape[0], self.batches_)
        if x.shape[1] != self.n_features_in_:
            raise UsageError(
                f"X must have the {self.n_features_in_:,} genes of fit; got {x.shape[1]:,}"
            )
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
        code = _encode(self._model, rows, labs.codes, self.statistics_)
        return np.maximum(code @ self._model["decode"] + self._model["lab"].mean(axis=0), 0)

    def _check(self) -> None:
        for name in ("dimensions", "hidden", "steps"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise UsageError(f"{name} must be a whole number, 1 or more; got {value!r}")
        if self.dimensions > self.hidden:
            raise UsageError(
                f"dimensions must be at most hidden, {self.hidden}; got {self.dimensions}"
            )


def reconstruction(model: Any, batch: Any, key: Any) -> Any:
    """Mean squared error of the decoded cells over their variance: a scalar, cells interact."""
    x, lab = batch
    hidden = _normal(jnp.maximum(x @ model["into"] + model["into_shift"], 0))
    code = _normal(hidden @ model["code"])
    back = jnp.maximum(code @ model["decode"] + model["lab"][lab], 0)
    return jnp.mean((back @ model["out"] + model["out_shift"] - x) ** 2)


def _normal(h: Any) -> Any:
    """Normalised over the mini-batch, which is of one laboratory."""
    return (h - h.mean(axis=0)) / jnp.sqrt(h.var(axis=0) + EPSILON)


class _Draw:
    """Mini-batches of one laboratory each: every laboratory as often as the others."""

    def __init__(self, rows: np.ndarray, labs: Labels, weight: np.ndarray):
        self.rows = rows
        self.places = [
            np.flatnonzero((labs.codes == i) & (weight > 0)) for i in range(len(labs.levels))
        ]
        self.sums = [np.cumsum(weight[places]) for places in self.places]

    def __call__(self, rng: np.random.Generator, num_rows: int) -> Any:
        lab = int(rng.integers(len(self.places)))
        sums = self.sums[lab]
        drawn = np.searchsorted(sums, rng.random(num_rows) * sums[-1], side="right")
        chosen = self.places[lab][np.minimum(drawn, len(sums) - 1)]
        return self.rows[chosen], np.full(num_rows, lab, np.int32)


def _balanced(labs: Labels, labels: Any) -> np.ndarray:
    """Weight of each cell [n], 1 in each laboratory in all; alike for cell types if known."""
    if labels is None:
        return 1.0 / labs.counts[labs.codes]
    types = labels_of(labels, "labels")
    if len(types.codes) != len(labs.codes):
        raise UsageError(f"labels must have one label for each of {len(labs.codes):,} cells; "
                         f"got {len(types.codes):,}")  # fmt: skip
    table = np.zeros((len(labs.levels), len(types.levels)))
    np.add.at(table, (labs.codes, types.codes), 1)
    share = np.where((table > 0).all(axis=0), table.sum(axis=0), 0.0)
    if not share.any():
        raise UsageError("labels must have a cell type that every laboratory has; got none")
    each = np.divide(share / share.sum(), table, out=np.zeros(table.shape), where=table > 0)
    return each[labs.codes, types.codes]


def _scaling(x: np.ndarray, labs: Labels, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means, and pooled over own spread, [laboratories, genes]; a typical gene's spread is 1."""
    mean, sd = _moments(x, labs, weight)
    sd = np.where(sd > ROUNDING * np.abs(mean), sd, 0.0)
    pooled = np.sqrt((sd**2).mean(axis=0))
    typical = float(np.sqrt((pooled**2).mean()))
    if typical == 0:
        raise DataError("no gene varies inside the laboratories")
    # a gene that is constant in one laboratory tells nothing there
    ratio = np.divide(pooled, sd, out=np.zeros(sd.shape), where=sd > 1e-6 * typical)
    return mean, ratio / typical


def _moments(h: np.ndarray, labs: Labels, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each laboratory, exactly, as float64."""
    mean, sd = [], []
    for lab in range(len(labs.levels)):
        rows = labs.codes == lab
        own, w = h[rows].astype(np.float64), weight[rows] / weight[rows].sum()
        mean.append(w @ own)
        sd.append(np.sqrt(w @ (own - mean[-1]) ** 2))
    return np.array(mean), np.array(sd)


def _initial(genes: int, hidden: int, dimensions: int, labs: int, seed: int) -> dict[str, Any]:
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


def _encode(
    model: Any, rows: np.ndarray, codes: np.ndarray, statistics: Sequence[Any]
) -> np.ndarray:
    """Codes [n, dimensions] by the laboratories' own statistics."""
    h = np.maximum(rows @ model["into"] + model["into_shift"], 0)
    for place, (mean, sd) in enumerate(statistics):
        h = (h - mean[codes]) / np.sqrt(sd[codes] ** 2 + EPSILON)
        if place == 0:
            h = h @ model["code"]
    return h


def _statistics(
    model: Any, rows: np.ndarray, labs: Labels, weight: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Statistics of both layers from all cells, the second by use of the first."""
    hidden = np.maximum(rows @ model["into"] + model["into_shift"], 0)
    first = _moments(hidden, labs, weight)
    return first, _moments(_encode(model, rows, labs.codes, (first,)), labs, weight)


def _axes(model: Any, hidden: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre [hidden] and axes [hidden, dimensions] of the decoded cells' main directions.

    Decoded cells are `hidden @ out`; by a QR of `out` their axes need no matrix of genes.
    """
    centre = hidden.mean(axis=0)
    _, r = np.linalg.qr(model["out"].T.astype(np.float64))
    points = (hidden - centre) @ r.T
    _, axes = np.linalg.eigh(points.T @ points)
    return centre, r.T @ axes[:, ::-1][:, :dimensions]


def _labs(batch: Any, num_cells: int, levels: Any) -> Labels:
    if batch is None:
        raise UsageError("batch must be the laboratory of each cell; got None")
    found = labels_of(batch, "batch", levels)
    if len(found.codes) != num_cells:
        raise UsageError(
            f"batch must have one label for each of {num_cells:,} cells; got {len(found.codes):,}"
        )
    return found


def _read(X: Any) -> np.ndarray:
    source = Rows(X)
    x = source.read(0, source.shape[0])
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, gene = np.argwhere(~np.isfinite(x))[0]
        raise DataError("not a finite number", column=f"gene {int(gene) + 1}", row=int(row) + 1)
    return x
