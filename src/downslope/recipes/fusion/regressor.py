"""Numbers from numbers, categories and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from downslope.arguments import given
from downslope.errors import DataError
from downslope.recipes.fusion.base import Fusion
from downslope.recipes.fusion.columns import Kind
from downslope.recipes.fusion.given import of_length
from downslope.recipes.fusion.network import Task
from downslope.recipes.fusion.values import as_numbers, holds_numbers


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
        vars(self).update(given(locals()))

    def _targets(self, y: Any, num_rows: int) -> np.ndarray:
        y = of_length("y", y, num_rows)
        if not holds_numbers(y):
            raise DataError("y must be numbers")
        found = as_numbers("y", y)
        if np.isnan(found).any():
            raise DataError("y must be finite", row=int(np.isnan(found).argmax()) + 1)
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
        out = self._outputs(X, without)[:, 0]
        return self._mean + self._spread * out
