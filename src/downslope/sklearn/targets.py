"""Classifiers and regressors: targets as numbers, and predictions from outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from downslope.arguments import one_of
from downslope.sklearn.base import Trained
from downslope.sklearn.network import LOSSES


@dataclass(kw_only=True, eq=False, repr=False)
class Classes(ClassifierMixin, Trained):
    """A classifier.

    Attributes:
        classes_: the classes, sorted.
    """

    class_weight: Any = None

    def _read_targets(self, y: Any, *, again: bool, partial: bool) -> np.ndarray:
        check_classification_targets(y)
        if not partial:
            found = np.unique(y)
            if again and np.isin(found, self.classes_).all():
                found = self.classes_  # a warm start may see fewer classes
            self.classes_ = found
        if len(self.classes_) < 2:
            raise ValueError(
                "the classifier needs samples of at least 2 classes in the data, but the data "
                f"contains only one class: {self.classes_[0]!r}"
            )
        numbers = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        unknown = self.classes_[numbers] != y
        if unknown.any():
            raise ValueError(f"y contains classes that are not in classes: {np.unique(y[unknown])}")
        return numbers.astype(np.int32)

    def _learn_classes(self, classes: Any, first: bool) -> None:
        if classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        classes = np.unique(classes)
        if not first and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes={classes} is not the same as on the last call to partial_fit: "
                f"{self.classes_}"
            )
        self.classes_ = classes

    def _num_outputs(self, y: np.ndarray) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _weights(self, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        if self.class_weight is None:
            return weight
        labels = self.classes_[y]
        factors = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        return weight * factors[y]

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train by one pass of mini-batch updates on these rows alone.

        Nothing is tuned: "auto" means adam at its usual rate. A call makes one update for every
        `batch_size` rows; "auto" is the root of the rows, 16 to 128. Calls on pieces of any
        length compile nothing after the first few.

        Args:
            X: array or data frame [n, d], dense.
            y: classes.
            classes: every class that will be seen, at the first call.
            sample_weight: weights [n], used as they are.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit: the classes' shares "
                "are not known; give a dict of weights"
            )
        return self._step(X, y, classes, sample_weight)

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the model: [n] for two classes, positive for the second; else [n, K].

        Args:
            X: rows [n, d], or what the estimator was trained on: a path, a data frame.
        """
        out = self._outputs(X)
        return out[:, 0] if out.shape[1] == 1 else out

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, [n]."""
        out = self.decision_function(X)
        chosen = (out > 0).astype(np.intp) if out.ndim == 1 else out.argmax(axis=1)
        return self.classes_[chosen]


class Probabilities(Classes):
    """A classifier whose outputs are log-odds."""

    def _loss_name(self) -> str:
        return "logistic" if len(self.classes_) == 2 else "softmax"

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [n, K] of the classes, in the order of `classes_`."""
        out = np.float64(self.decision_function(X))
        if out.ndim == 2:
            return special.softmax(out, axis=1)
        return np.stack([special.expit(-out), special.expit(out)], axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the probabilities [n, K]."""
        out = np.float64(self.decision_function(X))
        if out.ndim == 2:
            return special.log_softmax(out, axis=1)
        return np.stack([special.log_expit(-out), special.log_expit(out)], axis=1)


@dataclass(kw_only=True, eq=False, repr=False)
class Numbers(RegressorMixin, Trained):
    """A regressor of one target or several."""

    loss: str = "squared_error"

    _target_checks: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    def _loss_name(self) -> str:
        return LOSSES[one_of("loss", self.loss, LOSSES)]

    def _read_targets(self, y: Any, *, again: bool, partial: bool) -> np.ndarray:
        self._one_number = y.ndim == 1
        return np.asarray(y, np.float64)

    def _num_outputs(self, y: np.ndarray) -> int:
        return 1 if y.ndim == 1 else y.shape[1]

    def _units(self, y: np.ndarray, weight: np.ndarray) -> tuple[Any, Any, float]:
        # scaled targets lie near 1, whatever their unit; huber's delta has the unit of y
        mean = np.average(y, axis=0, weights=weight)
        shift = mean if self._intercept() else np.zeros_like(mean)
        if self.loss == "huber":
            return 1.0, shift, 1.0
        scale = np.sqrt(np.average((y - shift) ** 2, axis=0, weights=weight))
        scale = np.where(scale > 0, scale, 1.0)
        if scale.size > 1:
            return scale, shift, 1.0
        unit = float(scale.ravel()[0])
        return scale, shift, unit if self.loss == "absolute_error" else unit**2

    def predict(self, X: Any) -> np.ndarray:
        """Predictions [n], or [n, K] for several targets."""
        out = self._outputs(X)
        return out[:, 0] if self._one_number else out

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train by one pass of mini-batch updates on these rows alone, as a classifier does.

        Args:
            X: array or data frame [n, d], dense.
            y: targets.
            sample_weight: weights [n], used as they are.
        """
        return self._step(X, y, None, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
