"""Multi-layer perceptrons: hidden layers with ReLU."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from downslope.config import AUTO, Auto
from downslope.sklearn.base import Trained
from downslope.sklearn.targets import Numbers, Probabilities


class Perceptron(Trained):
    """Several layers of weights.

    Attributes:
        coefs_: weights of each layer, [inputs, outputs].
        intercepts_: biases of each layer.
    """

    _held_out_from = 200  # a network fits so few rows by heart, where a linear model does not
    hidden_layer_sizes: Any

    def _hidden(self) -> tuple[int, ...]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes)).tolist()
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(
                "hidden_layer_sizes must be whole numbers of 1 or more; "
                f"got {self.hidden_layer_sizes!r}"
            )
        return tuple(sizes)

    def _publish(self) -> None:
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
        vars(self).update({k: v for k, v in locals().items() if k != "self"})


class MLPRegressor(Numbers, Perceptron):
    """A neural network for one number or several that tunes itself.

    Targets are trained on in units of their standard deviation, in which `alpha` is meant.

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
        vars(self).update({k: v for k, v in locals().items() if k != "self"})
