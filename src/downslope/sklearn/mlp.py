"""Multi-layer perceptrons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from downslope.arguments import whole
from downslope.sklearn.base import Trained
from downslope.sklearn.targets import Numbers, Probabilities


@dataclass(kw_only=True, eq=False, repr=False)
class Perceptron(Trained):
    """Several layers of weights with ReLU between them.

    Attributes:
        coefs_: weights of each layer, [inputs, outputs].
        intercepts_: biases of each layer.
    """

    hidden_layer_sizes: Any = field(default=(64, 64), kw_only=False)

    # a network can memorise that few rows; a linear model cannot
    _held_out_from: ClassVar[int] = 200

    def _hidden(self) -> tuple[int, ...]:
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes)).tolist()
        return tuple(whole("hidden_layer_sizes", size) for size in sizes)

    def _set_attributes(self) -> None:
        self.coefs_ = [np.asarray(layer["weights"]) for layer in self._model["layers"]]
        self.intercepts_ = [np.asarray(layer["bias"]) for layer in self._model["layers"]]


@dataclass(kw_only=True, eq=False, repr=False)
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


@dataclass(kw_only=True, eq=False, repr=False)
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
