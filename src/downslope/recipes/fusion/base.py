"""What the estimators of two branches share: fitting by `downslope.fit`, outputs, explanations."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import downslope
from downslope import StopReason
from downslope.arguments import whole
from downslope.errors import DataError, UsageError
from downslope.recipes.fusion import explain
from downslope.recipes.fusion.columns import Kind, Reading
from downslope.recipes.fusion.given import check, of_length, weights
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
from downslope.recipes.fusion.values import Columns, read_columns, take

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

    def _targets(self, y: Any, num_rows: int) -> np.ndarray:
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
                missing number, category or text is None, NaN, pandas' NA or "".
            y: targets [n].
            sample_weight: weights [n], zero or more.
            times: when each row became known, numbers or dates [n]: rows to stop by are then the
                latest.
            groups: labels [n]: rows to stop by are then those of whole groups.

        Raises:
            UsageError: an argument out of range, or columns that do not match.
            DataError: a column or targets that cannot be used, or training rows of weight 0 only.
        """
        check(self.get_params())
        columns = read_columns(X)
        num = len(next(iter(columns.values())))
        targets = self._targets(y, num)
        weight = np.ones(num) if sample_weight is None else sample_weight
        weight = weights(of_length("sample_weight", weight, num))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.split_ = self._held_out(num, times, groups, seed)
        train = self.split_.train
        if not weight[train].any():
            raise DataError("sample_weight is zero for every training row")
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
            weight_decay=None,
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
        whole("top", top, least=0)
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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")
