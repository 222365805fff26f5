"""An estimator in the manner of scikit-learn that learns embeddings from relations."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

import downslope
from downslope import StopReason, UsageError
from downslope.models import weights_only
from downslope.recipes.embedding import metrics, network
from downslope.recipes.embedding.arguments import batch_shape, check
from downslope.recipes.embedding.collapse import health
from downslope.recipes.embedding.compare import collapse_loss
from downslope.recipes.embedding.holdout import Part, held_out
from downslope.recipes.embedding.sampler import Units, draw_units, members_of, units_in_epoch
from downslope.recipes.embedding.scorer import LOSS, UnitScorer
from downslope.recipes.embedding.views import View, view_of

LOOKED_AT = 2000  # rows whose embeddings are looked at for collapse
HELD_OUT_UNITS = 16
MEASURED_FROM = 10_000  # rows from which measuring noise may pay what compiling it costs; assumed


class Embedder(TransformerMixin, BaseEstimator):
    """Vectors of length 1, near each other for rows of one thing and far apart for others.

    A multi-layer perceptron is trained by `downslope.fit` on logical batches of P classes with K
    rows each. Such a batch is the independent unit: a row's loss depends on the batch it is in.
    Its size is yours to set; how many of them make an update is chosen while training. Inputs are
    not scaled.

    Args:
        dim: length of an embedding.
        hidden: widths of the hidden layers.
        loss: "supervised" (contrastive), "nt_xent", "pairs", "triplet" (batch-hard, with a margin)
            or "triplet_soft"; "auto" is "nt_xent" for views and "supervised" for others.
        classes_per_batch, rows_per_class: P and K; None chooses for about 128 rows. Of views, P
            rows and K views of each.
        temperature: of the cosines, for "supervised" and "nt_xent".
        margin: distance between unit vectors, up to 2; None is 1 for "pairs" and 0.2 for "triplet".
        chunk_rows: rows embedded at a time, so that memory bounds no logical batch; None takes
            the batch at once. The gradient is the same.
        alpha: weight of half the sum of squared weights, beside the mean loss.
        learning_rate, batch_size: as for `downslope.fit`, `batch_size` in logical batches an
            update; "auto" is chosen while training, the size from 10,000 rows on.
        max_iter: passes, at most, over at least 256 logical batches; None leaves the end to choose
            by the training loss.
        validation_fraction: share of the rows (of labels, views) or groups held out to measure
            loss and recall, where there are enough of them to fill a logical batch; 0 for none.
        random_state: seed of the weights, of the batches and of what is held out.

    Attributes:
        embedding_: embeddings of the rows that were given to `fit`, [n, dim].
        result_: the run, as `downslope.fit` gives it.
        collapse_: how the embeddings lie, and whether they collapsed.
        batch_shape_: P and K.
        validation_loss_: held-out mean loss of batches of P x K, or None.
        held_out_: numbers of the rows held out.
        left_out_: labels or groups with one row only, which teach nothing.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = Embedder(dim=4, hidden=(16,), max_iter=2, random_state=0).fit(X, labels=y)
        >>> model.transform(X[:3]).shape, round(model.score(X, y), 1) > 0.8
        ((3, 4), True)
    """

    def __init__(
        self,
        *,
        dim: int = 32,
        hidden: Sequence[int] = (256,),
        loss: str = "auto",
        classes_per_batch: int | None = None,
        rows_per_class: int | None = None,
        temperature: float = 0.1,
        margin: float | None = None,
        chunk_rows: int | None = None,
        alpha: float = 0.0,
        learning_rate: Any = "auto",
        batch_size: Any = "auto",
        max_iter: int | None = 8,
        validation_fraction: float = 0.15,
        random_state: Any = None,
    ):
        self.dim = dim
        self.hidden = hidden
        self.loss = loss
        self.classes_per_batch = classes_per_batch
        self.rows_per_class = rows_per_class
        self.temperature = temperature
        self.margin = margin
        self.chunk_rows = chunk_rows
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any = None, *, groups: Any = None, labels: Any = None, views: Any = None
    ) -> Embedder:
        """The estimator, trained.

        Args:
            X: rows [n, d], finite numbers.
            y: the same as `labels`, for pipelines.
            groups: what each row is a recording of, [n]; whole groups are held out.
            labels: class of each row, [n]; rows of every class are held out.
            views: how several views of an unlabelled row are made: "noise", "mask", "shift" (of
                square images) or a function `view(key, rows) -> rows` that JAX can trace.

        Raises:
            UsageError: not exactly one relation, or a parameter out of range.
            DataError: fewer than two classes or groups of two rows.
        """
        labels = y if labels is None else labels
        given = {"groups": groups, "labels": labels, "views": views}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            raise UsageError(
                f"give exactly one of groups, labels (or y) and views; got {names or 'none'}"
            )
        check(self.get_params())
        x: Any = validate_data(self, X, dtype=np.float32, order="C")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if names == ["views"]:
            view = view_of(views, x)
            members, self.left_out_ = [np.array([i]) for i in range(len(x))], []
        else:
            view = None
            members, _, self.left_out_ = members_of(given[names[0]], names[0], num_rows=len(x))
        part = self._shape_and_part(members, names[0], seed)
        self._train(x, part, view, seed)
        self.embedding_ = network.embed(self._model, x)
        self._look(x, None if view else given[names[0]])
        return self

    def _shape_and_part(self, members: list[np.ndarray], relation: str, seed: int) -> Part:
        """Decides on P and K, and on what is held out."""
        classes, rows = batch_shape(
            [len(m) for m in members],
            relation,
            num_classes=self.classes_per_batch,
            rows_per_class=self.rows_per_class,
            holds_out=bool(self.validation_fraction),
        )
        self.batch_shape_ = classes, rows
        part = held_out(
            members,
            relation,
            share=self.validation_fraction,
            num_classes=classes,
            rows_per_class=1 if relation == "views" else rows,
            seed=seed,
        )
        self.held_out_ = np.sort(np.concatenate([*part.held_out, np.zeros(0, int)]).astype(int))
        return part

    def _train(self, x: np.ndarray, part: Part, view: View | None, seed: int) -> None:
        classes, rows = self.batch_shape_
        name: Any = self.loss
        if name == "auto":
            name = "supervised" if view is None else "nt_xent"
        margin = network.MARGINS.get(name, 0.0) if self.margin is None else self.margin
        loss = network.UnitLoss(
            name=name, num_classes=classes, rows_per_class=rows, temperature=self.temperature,
            margin=float(margin), chunk_rows=self.chunk_rows, view=view,
        )  # fmt: skip
        stored = rows if view is None else 1

        def units(members: list[np.ndarray], num: int, seed: int) -> Units:
            places = draw_units(
                members, num_classes=classes, rows_per_class=stored, num_units=num, seed=seed
            )
            return Units(x, places)

        num = sum(map(len, part.train))
        result = downslope.fit(
            # a function of the caller's may change: its programs are not kept for other fits
            loss if view is None else lambda model, batch, key: loss(model, batch, key),
            network.initial((x.shape[1], *self.hidden, self.dim), seed),
            units(part.train, units_in_epoch(num, classes * stored), seed),
            validation=units(part.held_out, HELD_OUT_UNITS, seed + 1) if part.held_out else None,
            scorer=UnitScorer(loss) if part.held_out else None,
            optimizer="nadam",  # what "auto" takes where a loss is no quadratic, as here
            penalize=weights_only,
            l2=self.alpha,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            epochs=self.max_iter,
            measure_every=downslope.Training.measure_every if num >= MEASURED_FROM else None,
            seed=seed,
        )
        self.result_, self._model = result, result.params
        found = result.validation.get(LOSS) if result.validation else None
        self.validation_loss_ = None if found is None else found.value
        self._collapse_loss = collapse_loss(
            name, num_classes=classes, rows_per_class=rows, margin=float(margin)
        )
        if result.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt  # the model as it stood is kept
        if result.stop_reason is StopReason.DIVERGED:
            warnings.warn(
                f"the loss diverged; {result.stop_reason.advice}", ConvergenceWarning, stacklevel=3
            )

    def _look(self, x: np.ndarray, labels: Any) -> None:
        """Looks for collapse, and warns."""
        some = np.unique(np.linspace(0, len(x) - 1, LOOKED_AT).astype(int))
        self.collapse_ = health(
            self.embedding_[some],
            None if labels is None else np.asarray(labels)[some],
            loss=self.result_.train_loss,
            loss_at_collapse=self._collapse_loss,
        )
        if self.collapse_.because:
            warnings.warn(" ".join(self.collapse_.because), ConvergenceWarning, stacklevel=3)

    def transform(self, X: Any) -> np.ndarray:
        """Embeddings [n, dim] of length 1, float32."""
        check_is_fitted(self)
        x: Any = validate_data(self, X, dtype=np.float32, reset=False)
        return network.embed(self._model, x)

    def neighbors(self, X: Any, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Distances [n, k], 0 to 2, and numbers [n, k] of the nearest rows given to `fit`."""
        return metrics.nearest(self.transform(X), k, reference=self.embedding_)

    def retrieval(self, X: Any, y: Any, *, ks: Sequence[int] = (1, 5)) -> Any:
        """Recall@k and MAP@R of rows [n, d] with labels [n], each among the others, with intervals.

        The result is that of `downslope.recipes.embedding.retrieval`.
        """
        return metrics.retrieval(self.transform(X), y, ks=ks)

    def score(self, X: Any, y: Any) -> float:
        """Recall@1: the share of these rows whose nearest other row has their label.

        Raises:
            UsageError: no label has two rows.
        """
        found = self.retrieval(X, y, ks=(1,))
        if "recall@1" not in found:
            raise UsageError(f"y has no score: {found.reasons['recall@1']}")
        return float(found["recall@1"])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")
