"""Multi-layer perceptrons."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from downslope.arguments import given, whole
from downslope.config import AUTO, Auto
from downslope.sklearn.base import Trained
from downslope.sklearn.targets import Numbers, Probabilities


class Perceptron(Trained):
    """Several layers of weights with ReLU between them.

    Attributes:
        coefs_: weights of each layer, [inputs, outputs].
        intercepts_: biases of each layer.
    """

    _held_out_from = 200  # a network can memorise that few rows; a linear model cannot
    hidden_layer_sizes: Any

    def _hidden(self) -> tuple[int, ...]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes)).tolist()
        return tuple(whole("hidden_layer_sizes", size) for size in sizes)

    def _set_attributes(self) -> None:
        self.coefs_ = [np.asarray(layer["weights"]) for layer in self._model["layers"]]
        self.intercepts_ = [np.asarray(layer["bias"]) for layer in self._model["layers"]]


class MLPClassifier(Probabilities, Perceptron):
    """A neural network for two classes or more that tunes itself.

    Minimises the weighted mean of the log loss plus `alpha/2 |w|^2` over all weights. Inputs are
    not scaled: put a `StandardScaler` before it.

    Args:
        hidden_layer_sizes: widths of the hidden layers.

    All other arguments are those of `LinearClassifier`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(hidden_layer_sizes=16, random_state=0).fit(X, y)
        >>> model.predict_proba(X[:1]).shape, model.score(X, y) > 0.95
        ((1, 3), True)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        alpha: float = 1e-4,
        class_weight: Any = None,
        optimizer: Any = AUTO,
        learning_rate: float | Auto = AUTO,
        momentum: float = 0.9,
        batch_size: int | Literal["full"] | Auto = AUTO,
        max_iter: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        schedule: Any = AUTO,
        average: Any = AUTO,
        clip_norm: float | Auto | None = AUTO,
        n_iter_no_change: int | Auto | None = AUTO,
        tol: float = 1e-3,
        early_stopping: bool | Auto = AUTO,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
    ):
        vars(self).update(given(locals()))


class MLPRegressor(Numbers, Perceptron):
    """A neural network for one target or several that tunes itself.

    Targets are scaled by their standard deviation for training; `alpha` applies to scaled targets.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        loss: "squared_error", "absolute_error" or "huber", as for `LinearRegressor`.

    All other arguments are those of `LinearClassifier`.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> X = draw.uniform(-2, 2, size=(400, 1))
        >>> model = MLPRegressor(random_state=0).fit(X, np.sin(2 * X[:, 0]))
        >>> model.score(X, np.sin(2 * X[:, 0])) > 0.98
        True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        loss: str = "squared_error",
        alpha: float = 1e-4,
        optimizer: Any = AUTO,
        learning_rate: float | Auto = AUTO,
        momentum: float = 0.9,
        batch_size: int | Literal["full"] | Auto = AUTO,
        max_iter: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        schedule: Any = AUTO,
        average: Any = AUTO,
        clip_norm: float | Auto | None = AUTO,
        n_iter_no_change: int | Auto | None = AUTO,
        tol: float = 1e-3,
        early_stopping: bool | Auto = AUTO,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
    ):
        vars(self).update(given(locals()))
