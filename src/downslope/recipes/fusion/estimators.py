"""Estimators of two branches, in the manner of scikit-learn, trained by `downslope.fit`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import downslope
from downslope import StopReason
from downslope.errors import DataError, UsageError
from downslope.recipes.fusion import explain, ordinal
from downslope.recipes.fusion.columns import Columns, Kind, Reading, read_columns, take
from downslope.recipes.fusion.network import (
    BRANCHES,
    FusionLoss,
    Task,
    initial,
    outputs,
    represent,
    weights_only,
)
from downslope.recipes.fusion.splits import Split, split

PIECE_ROWS = 4096  # rows predicted at once: bounds the memory of their words' vectors
HELD_OUT_FROM = 200  # rows from which some are held out for stopping, as for the other networks


class Fusion(BaseEstimator):
    """Two branches trained together; subclasses say what targets mean.

    Attributes:
        result_: the run, as `downslope.fit` gives it.
        split_: which rows were trained on, and which were held out for stopping.
        reading_: how columns are read: scales, categories, words.
        feature_names_in_: columns of the table, in order.
    """

    text: str | Sequence[str]
    words: Kind
    numbers: Sequence[str] | None
    categories: Sequence[str] | None
    num_words: int
    max_terms: int
    width: int
    branch_dropout: float
    alpha: float
    learning_rate: Any
    batch_size: Any
    max_iter: int | None
    validation_fraction: float
    random_state: Any

    def _targets(self, y: Any) -> np.ndarray:
        """Targets as numbers [n]; learns what they mean."""
        raise NotImplementedError

    def _shape(self) -> tuple[Task, int]:
        """The loss and the number of outputs."""
        raise NotImplementedError

    def _start(self, model: dict[str, Any], targets: np.ndarray) -> None:
        """Sets the model's biases so that its first predictions are the training rows' mean."""
        raise NotImplementedError

    def _scaled(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, times: Any = None, groups: Any = None
    ) -> Any:
        """The estimator, trained.

        Args:
            X: a data frame (pandas, polars, Arrow) or a dict of columns by name, n rows. A
                missing number, category or text is None, NaN or "".
            y: targets [n].
            sample_weight: weights [n], zero or more.
            times: when each row became known, [n]: rows to stop by are then the latest.
            groups: labels [n]: rows to stop by are then those of whole groups.

        Raises:
            UsageError: an argument out of range, or columns that do not match.
            DataError: a column that cannot be used.
        """
        self._check()
        columns = read_columns(X)
        num = len(next(iter(columns.values())))
        targets = self._targets(_of_length("y", y, num))
        weight = np.ones(num) if sample_weight is None else sample_weight
        weight = _weights(_of_length("sample_weight", weight, num))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.split_ = self._held_out(num, times, groups, seed)
        train = self.split_.train
        self.feature_names_in_ = np.array(list(columns), dtype=object)
        self.reading_ = Reading(
            text=(self.text,) if isinstance(self.text, str) else tuple(self.text),
            words=self.words,
            numbers=self.numbers,
            categories=self.categories,
            num_words=self.num_words,
            max_terms=self.max_terms,
        ).learn(take(columns, train))
        self._train(columns, targets, weight / weight[train].mean(), seed)
        return self

    def _train(self, columns: Columns, targets: np.ndarray, weight: np.ndarray, seed: int) -> None:
        train, held_out = self.split_.train, self.split_.held_out
        task, num_outputs = self._shape()
        model = initial(self.reading_, width=self.width, num_outputs=num_outputs, seed=seed)
        self._start(model, targets[train])
        targets = self._scaled(targets)

        def rows(which: np.ndarray, drop: float) -> dict[str, np.ndarray]:
            return self.reading_.arrays(take(columns, which)) | {
                "drop": np.full(len(which), drop, np.float32),
                "y": targets[which],
                "weight": np.float32(weight[which]),
            }

        data = rows(train, self.branch_dropout)
        result = downslope.fit(
            FusionLoss(task),
            model,
            data,
            validation=rows(held_out, 0.0) if len(held_out) else None,
            penalize=weights_only,
            l2=self.alpha,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            epochs=self.max_iter,
            seed=seed,
        )
        self.result_, self._model = result, result.params
        if not self.branch_dropout:
            self._use_means(data)
        if result.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt  # the model as it stood is kept
        if result.stop_reason is StopReason.DIVERGED:
            warnings.warn(
                f"the loss diverged; {result.stop_reason.advice}", ConvergenceWarning, stacklevel=3
            )

    def _use_means(self, data: dict[str, np.ndarray]) -> None:
        """Lets the mean representation of the training rows stand in for a missing branch."""
        for branch, parts in self._model["branches"].items():
            total, count = 0.0, 0.0
            for start in range(0, len(data["y"]), PIECE_ROWS):
                piece = {k: v[start : start + PIECE_ROWS] for k, v in data.items()}
                shown = piece["present"][:, BRANCHES.index(branch)]
                total = total + shown @ represent(self._model, branch, piece)
                count += shown.sum()
            parts["absent_bias"] = np.float32(total / max(count, 1))

    def _outputs(self, X: Any, without: str | None = None) -> np.ndarray:
        """Outputs [n, K], in float64."""
        check_is_fitted(self)
        names = list(self._model["branches"])
        if without is not None and (without not in names or len(names) < 2):
            raise UsageError(
                f"without must be None or one of two branches; got {without!r} of {names}"
            )
        columns, found = read_columns(X), []
        num = len(next(iter(columns.values())))
        for start in range(0, num, PIECE_ROWS):
            piece = {k: v[start : start + PIECE_ROWS] for k, v in columns.items()}
            batch = self.reading_.arrays(piece)
            if without is not None:
                batch["present"][:, BRANCHES.index(without)] = 0
            found.append(outputs(self._model, batch, batch["present"]))
        return np.concatenate(found).astype(np.float64)

    def explain(self, X: Any, *, top: int = 10) -> explain.Explanation:
        """Which branch and which words moved each prediction.

        Args:
            X: rows, as for `predict`.
            top: words listed for each row, the strongest first.
        """
        check_is_fitted(self)
        return explain.explained(
            self._model,
            self.reading_,
            read_columns(X),
            task=self._shape()[0],
            top=top,
            unit=self._unit(),
            scale=self._scale(),
        )

    def _unit(self) -> str:
        return "log-odds"

    def _scale(self) -> float:
        return 1.0

    def _held_out(self, num: int, times: Any, groups: Any, seed: int) -> Split:
        if num < HELD_OUT_FROM or not self.validation_fraction:
            if times is not None or groups is not None:
                raise UsageError(
                    f"times and groups choose the held-out rows, and none are held out; "
                    f"got {num} rows and validation_fraction {self.validation_fraction!r}"
                )
            every = np.arange(num)
            return Split(train=every, held_out=every[:0], left_out=every[:0])
        return split(num, times=times, groups=groups, share=self.validation_fraction, seed=seed)

    def _check(self) -> None:
        """Raises for a parameter out of range; `downslope.fit` checks those of training."""
        if self.words not in ("vocabulary", "hashed", "embedding"):
            raise UsageError(f"words must be vocabulary, hashed or embedding; got {self.words!r}")
        if self.words == "embedding" and not isinstance(self.text, str):
            raise UsageError(f"an embedding is one column; got text {self.text!r}")
        for name in ("num_words", "max_terms", "width"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise UsageError(f"{name} must be a whole number, 1 or more; got {value!r}")
        if not 0 <= self.branch_dropout <= 0.5:
            raise UsageError(f"branch_dropout must be 0 to 0.5; got {self.branch_dropout!r}")
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(
                f"validation_fraction must be 0 or more and less than 1; "
                f"got {self.validation_fraction!r}"
            )


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
        order: classes from the lowest to the highest, or "sorted"; a cumulative-link loss then
            replaces the softmax. None for classes without an order.
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
        vars(self).update(_given(locals()))

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if y.dtype == object and any(v is None or v != v for v in y.tolist()):
            raise DataError("y has a missing value")
        found, self._ordered = np.unique(y), self.order is not None
        self.classes_ = found
        if self._ordered and not isinstance(self.order, str):
            self.classes_ = np.asarray(self.order)
            if len(set(self.classes_.tolist())) < len(self.classes_):
                raise UsageError(f"order must name each class once; got {self.order!r}")
        elif self._ordered and self.order != "sorted":
            raise UsageError(f"order must be None, sorted or a list; got {self.order!r}")
        if len(found) < 2:
            raise DataError(f"y must have two classes or more; all rows have {found[0]!r}")
        place = {value: i for i, value in enumerate(self.classes_.tolist())}
        unknown = [value for value in found.tolist() if value not in place]
        if unknown:
            raise UsageError(f"order must name every class; missing: {unknown}")
        return np.array([place[value] for value in y.tolist()], np.int32)

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
        return self.classes_[self.predict_log_proba(X, without=without).argmax(axis=1)]


class FusionRegressor(RegressorMixin, Fusion):
    """A regressor on rows that have numbers, categories and text, by squared error.

    Arguments are those of `FusionClassifier`, but for `order`.

    Example:
        >>> from downslope.recipes.fusion import rated_news
        >>> news = rated_news(400, seed=0)
        >>> model = FusionRegressor(text="news", max_iter=5, random_state=0).fit(news.X, news.score)
        >>> model.predict(news.X, without="text").shape
        (400,)
    """

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
        alpha: float = 1e-3,
        learning_rate: Any = "auto",
        batch_size: Any = "auto",
        max_iter: int | None = None,
        validation_fraction: float = 0.15,
        random_state: Any = None,
    ):
        vars(self).update(_given(locals()))

    def _targets(self, y: np.ndarray) -> np.ndarray:
        try:
            found = np.asarray(y, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError("y must be numbers") from error
        if not np.isfinite(found).all():
            raise DataError("y must be finite", row=int((~np.isfinite(found)).argmax()) + 1)
        return found

    def _shape(self) -> tuple[Task, int]:
        return "squared", 1

    def _start(self, model: dict[str, Any], targets: np.ndarray) -> None:
        self._mean, self._spread = float(targets.mean()), float(targets.std()) or 1.0

    def _scaled(self, targets: np.ndarray) -> np.ndarray:
        return ((targets - self._mean) / self._spread).astype(np.float32)

    def _unit(self) -> str:
        return "unit of y"

    def _scale(self) -> float:
        return self._spread

    def predict(self, X: Any, *, without: str | None = None) -> np.ndarray:
        """The expected number of each row, [n].

        Args:
            X: rows, as for `fit`; all columns of a branch may be missing.
            without: a branch to do without, "numbers" or "text".
        """
        return self._mean + self._spread * self._outputs(X, without)[:, 0]


def _of_length(name: str, values: Any, num: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (num,):
        raise UsageError(f"{name} must have one value a row, ({num},); got {values.shape}")
    return values


def _weights(weight: np.ndarray) -> np.ndarray:
    weight = np.asarray(weight, np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise UsageError("sample_weight must be finite, zero or more, and not zero for every row")
    return weight


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an `__init__`, which scikit-learn wants stored as they are."""
    return {k: v for k, v in values.items() if k not in ("self", "__class__")}
