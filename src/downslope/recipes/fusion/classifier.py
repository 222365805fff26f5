"""Classes, ordered ones too, from numbers, categories and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy import special
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from downslope.arguments import given
from downslope.errors import DataError, UsageError
from downslope.recipes.fusion import ordinal
from downslope.recipes.fusion.base import Fusion
from downslope.recipes.fusion.columns import Kind
from downslope.recipes.fusion.given import of_length
from downslope.recipes.fusion.network import Task
from downslope.recipes.labels import coded


class FusionClassifier(ClassifierMixin, Fusion):
    """A classifier of rows that have numbers, categories and text; classes may be ordered.

    One branch reads numbers and categories, one the text; both are joined late. All is trained
    by `downslope.fit`, which chooses batch size and learning rate. Numbers are standardised;
    vocabulary, scales and categories are learned from training rows alone, never from those
    that are held out for stopping.

    Args:
        text: name of the text column, or several that are read as one text; () for none.
        words: "vocabulary" (the commonest words), "hashed" (no vocabulary is kept), or
            "embedding": the column holds vectors [n, d], made by a sentence model of your own.
        numbers: columns of numbers; None takes every other column that holds numbers.
        categories: columns of categories; None takes the rest.
        num_words: words that are known, or codes that words are hashed to.
        max_terms: distinct words kept of a row, the weightiest first; 8 bytes each in memory.
        width: of each branch's representation and of the joined layer.
        branch_dropout: share of the training rows in which a branch is hidden, for each branch,
            so that a prediction can do without it; 0 puts its mean in place instead.
        order: classes from the lowest to the highest, or "sorted" (an ordered categorical of
            pandas keeps its order); a cumulative-link loss then replaces the softmax. None for
            classes without an order.
        alpha: weight of half the sum of squared weights, beside the mean loss.
        learning_rate, batch_size: as for `downslope.fit`; "auto" is chosen while training.
        max_iter: passes over the rows, at most; None leaves the end to choose.
        validation_fraction: share of the rows held out for stopping, from 200 rows on.
        random_state: seed of the weights, of the rows' order and of what is held out.

    Attributes:
        classes_: the classes: sorted, or from the lowest to the highest.
        thresholds_: of the ordered classes, ascending, in log-odds; None for others.

    Example:
        >>> from downslope.recipes.fusion import rated_news
        >>> news = rated_news(600, levels=3, seed=0)
        >>> model = FusionClassifier(text="news", order="sorted", max_iter=5, random_state=0)
        >>> model = model.fit(news.X, news.y, times=news.times)
        >>> model.predict_proba(news.X).shape, bool(np.all(np.diff(model.thresholds_) > 0))
        ((600, 3), True)
    """

    order: Sequence[Any] | str | None

    def __init__(
        self,
        *,
        text: str | Sequence[str] = "text",
        words: Kind = "vocabulary",
        numbers: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
        num_words: int = 4096,
        max_terms: int = 64,
        width: int = 32,
        branch_dropout: float = 0.2,
        order: Sequence[Any] | Literal["sorted"] | None = None,
        alpha: float = 1e-3,
        learning_rate: Any = "auto",
        batch_size: Any = "auto",
        max_iter: int | None = None,
        validation_fraction: float = 0.15,
        random_state: Any = None,
    ):
        vars(self).update(given(locals()))

    def _targets(self, y: Any, num_rows: int) -> np.ndarray:
        order: Any = self.order
        plainly = of_length("y", y, num_rows)
        self._ordered = order is not None
        is_sorted = isinstance(order, str) and order == "sorted"
        if self._ordered and not is_sorted and np.ndim(order) != 1:
            raise UsageError(f"order must be None, sorted or a list; got {order!r}")
        # the categories of pandas have an order that need not be that of the alphabet
        has_order = is_sorted and getattr(getattr(y, "cat", y), "ordered", False)
        levels, codes = coded(y if has_order else plainly, "y")
        self.classes_ = np.asarray(levels, plainly.dtype)
        with np.errstate(invalid="ignore"):  # it converts infinity before it refuses it
            check_classification_targets(np.asarray(levels)[codes])
        if codes.max() == 0:
            raise DataError(f"y must have two classes or more; all rows have {levels[0]!r}")
        if not self._ordered or is_sorted:
            return codes
        self.classes_ = np.asarray(order)
        place = {value: i for i, value in enumerate(self.classes_.tolist())}
        if len(place) < len(self.classes_):
            raise UsageError(f"order must name each class once; got {order!r}")
        unknown = [value for value in levels if value not in place]
        if unknown:
            raise UsageError(f"order must name every class; missing: {unknown}")
        return np.array([place[value] for value in levels], np.int32)[codes]

    def _shape(self) -> tuple[Task, int]:
        if self._ordered:
            return "ordinal", 1
        return ("logistic", 1) if len(self.classes_) == 2 else ("softmax", len(self.classes_))

    def _start(self, model: dict[str, Any], targets: np.ndarray) -> None:
        counts = np.bincount(targets, minlength=len(self.classes_))
        if self._ordered:
            model["cuts"] = ordinal.initial_cuts(counts)
            return
        logs = np.log(counts + 0.5)
        logs = logs[1:] - logs[:1] if len(counts) == 2 else logs - logs.mean()
        model["last"]["bias"] = np.float32(logs)

    @property
    def thresholds_(self) -> np.ndarray | None:
        """Thresholds of ordered classes, ascending; a score of s has P(y <= k) = 1/(1+e^(s-t))."""
        check_is_fitted(self, "_model")
        return ordinal.cuts(self._model["cuts"]) if self._ordered else None

    def decision_function(self, X: Any, *, without: str | None = None) -> np.ndarray:
        """Log-odds [n] of the second of two classes, the score [n] of ordered ones, else [n, K].

        Args:
            X: rows, as for `fit`; all columns of a branch may be missing.
            without: a branch to do without, "numbers" or "text".
        """
        out = self._outputs(X, without)
        return out[:, 0] if out.shape[1] == 1 else out

    def predict_log_proba(self, X: Any, *, without: str | None = None) -> np.ndarray:
        """Logarithms of the probabilities [n, K], as by `predict_proba`."""
        out = self.decision_function(X, without=without)
        if self._ordered:
            assert self.thresholds_ is not None
            return ordinal.log_probabilities(out, self.thresholds_)
        if out.ndim == 1:
            return np.stack([special.log_expit(-out), special.log_expit(out)], axis=1)
        return special.log_softmax(out, axis=1)

    def predict_proba(self, X: Any, *, without: str | None = None) -> np.ndarray:
        """Probabilities [n, K] of the classes, in the order of `classes_`.

        Args:
            X: rows, as for `fit`; all columns of a branch may be missing.
            without: a branch to do without, "numbers" or "text".
        """
        return np.exp(self.predict_log_proba(X, without=without))

    def predict(self, X: Any, *, without: str | None = None) -> np.ndarray:
        """The most probable class of each row, [n]."""
        chosen = self.predict_log_proba(X, without=without).argmax(axis=1)
        return self.classes_[chosen]
