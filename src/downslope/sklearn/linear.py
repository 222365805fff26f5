"""Linear classifiers and regressors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from downslope import Result, StopReason
from downslope.arguments import number, one_of
from downslope.config import AUTO
from downslope.sklearn.base import Trained
from downslope.sklearn.targets import Classes, Numbers, Probabilities

SOLVABLE = ("optimizer", "learning_rate", "schedule", "average")  # all "auto": solving is too
LIMITS = ("max_iter", "steps", "seconds")
MAX_NUMBERS = 1 << 23  # of a design that is decomposed as a whole, 64 MiB


@dataclass(kw_only=True, eq=False, repr=False)
class Linear(Trained):
    """One layer of weights.

    Attributes:
        coef_: weights, [d] for one target, [1, d] for two classes, else [K, d].
        intercept_: a number for one target, else [1] or [K].
    """

    l1_ratio: float = 0.0
    fit_intercept: bool = True

    def _intercept(self) -> bool:
        return self.fit_intercept

    def _penalties(self) -> tuple[float, float]:
        number("l1_ratio", self.l1_ratio, least=0, most=1)
        return self.alpha * self.l1_ratio, self.alpha * (1 - self.l1_ratio)

    def _set_attributes(self) -> None:
        (layer,) = self._model["layers"]
        self.coef_ = np.asarray(layer["weights"].T, np.float64)
        bias = layer.get("bias", np.zeros(len(self.coef_)))
        self.intercept_: Any = np.asarray(bias, np.float64)


@dataclass(kw_only=True, eq=False, repr=False)
class LinearClassifier(Probabilities, Linear):
    """Logistic regression, of two classes or more, that tunes itself.

    Minimises the weighted mean of the log loss plus `alpha` times
    `l1_ratio |w|_1 + (1 - l1_ratio)/2 |w|^2`. Inputs are not scaled: put a `StandardScaler`
    before it, as before scikit-learn's own.

    Args:
        alpha: weight of the penalty on the weights.
        l1_ratio: share of the penalty that is the sum of |w|, which gives exact zeros.
        fit_intercept: train an intercept; it has no penalty.
        class_weight: a dict of weights by class, "balanced", or None.
        optimizer, learning_rate, momentum, batch_size: as for `downslope.fit`; "auto" is chosen
            while training.
        steps, seconds, schedule, average, clip_norm: likewise.
        max_iter: passes over the rows, at most; None leaves the end to choose.
        n_iter_no_change: evaluations without a gain after which to stop, as `patience` of
            `downslope.fit`.
        tol: relative gain that counts, as `tolerance` of `downslope.fit`.
        early_stopping: stop by the loss of held-out rows; "auto" does so from 1,000 rows on, and
            from 200 on for the networks.
        validation_fraction: share of the rows held out for it.
        warm_start: a fit begins from the one before.
        random_state: seed of the rows' order and of what is held out.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LinearClassifier(random_state=0).fit(X, y)
        >>> model.coef_.shape, model.score(X, y) > 0.95
        ((3, 4), True)
    """


@dataclass(kw_only=True, eq=False, repr=False)
class LinearSVC(Classes, Linear):
    """A linear support vector machine that tunes itself; several classes one against the rest.

    Minimises the weighted mean of the hinge loss plus the penalty. Probabilities are not given:
    wrap it in scikit-learn's `CalibratedClassifierCV`.

    Args:
        loss: "hinge" or "squared_hinge".
        alpha: weight of the penalty, as in `SGDClassifier`; `1 / (C n)` of scikit-learn's
            `LinearSVC`.

    All other arguments are those of `LinearClassifier`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LinearSVC(random_state=0).fit(X, y)
        >>> model.decision_function(X).shape, model.score(X, y) > 0.9
        ((150, 3), True)
    """

    loss: str = "squared_hinge"

    def _loss_name(self) -> str:
        return one_of("loss", self.loss, ("hinge", "squared_hinge"))


@dataclass(kw_only=True, eq=False, repr=False)
class LinearRegressor(Numbers, Linear):
    """Linear regression of one target or several that tunes itself.

    Minimises the weighted mean of the loss plus the penalty. The squared error, with nothing but
    `alpha` given, is solved at once, as by scikit-learn's `LinearRegression` and `Ridge`.

    Args:
        loss: "squared_error" (half of it, as in `SGDRegressor`), "absolute_error" or "huber"
            (quadratic up to an error of 1 in the unit of y).
        alpha: weight of the penalty, as in `SGDRegressor`; `alpha n` of scikit-learn's `Ridge`.

    All other arguments are those of `LinearClassifier`.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = LinearRegressor().fit(X, y)
        >>> str(model.result_.stop_reason), round(model.score(X, y), 4)
        ('solved', 0.5177)
    """

    alpha: float = 0.0

    def _units(self, y: np.ndarray, weight: np.ndarray) -> tuple[Any, Any, float]:
        scale, shift, unit = super()._units(y, weight)
        l1, l2 = self._penalties()
        if l1 or (l2 and self.loss != "squared_error"):  # the penalty would have another weight
            return 1.0, shift, 1.0
        return scale, shift, unit

    def _is_solvable(self) -> bool:
        free = all(isinstance(v, str) and v == AUTO for v in map(vars(self).get, SOLVABLE))
        limited = any(getattr(self, name) is not None for name in LIMITS)
        return free and not limited and self.loss == "squared_error" and not self._penalties()[0]

    def _solved(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Result | None:
        if not self._is_solvable() or x.size > MAX_NUMBERS:
            return None
        columns = y.reshape(len(y), -1).astype(np.float64)
        l2 = self._penalties()[1]
        return least_squares(x.astype(np.float64), columns, weight, l2, self.fit_intercept)

    def _held_out(self, num_rows: int) -> float | None:
        # a solved fit has no use for held-out rows
        solved = self.early_stopping == AUTO and self._is_solvable()
        return None if solved else super()._held_out(num_rows)

    def _set_attributes(self) -> None:
        super()._set_attributes()
        if self._one_number:
            self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0].item()


def least_squares(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, l2: float, intercept: bool
) -> Result:
    """The model of least mean squared error plus l2/2 |w|^2, as the result of a run.

    Of several equally good ones it is that of least norm. The rows `x` [n, d] and targets `y`
    [n, K] are float64, `weight` [n] has a mean of 1.
    """
    begin = time.perf_counter()
    share = weight / weight.sum()
    center_x = share @ x if intercept else np.zeros(x.shape[1])
    center_y = share @ y if intercept else np.zeros(y.shape[1])
    root = np.sqrt(share)[:, None]
    design, target = root * (x - center_x), root * (y - center_y)
    if l2:
        design = np.vstack([design, np.sqrt(l2) * np.eye(x.shape[1])])
        target = np.vstack([target, np.zeros((x.shape[1], y.shape[1]))])
    rounding = max(design.shape) * np.finfo(np.float64).eps  # below it a direction is flat
    found: Any = linalg.lstsq(design, target, cond=rounding, check_finite=False)
    weights = found[0]
    bias = center_y - center_x @ weights
    layer = {"weights": weights} | ({"bias": bias} if intercept else {})
    loss = float((0.5 * share @ (y - x @ weights - bias) ** 2).sum())
    seconds = time.perf_counter() - begin
    return Result(
        params={"layers": [layer]}, stop_reason=StopReason.SOLVED,
        history=[{"event": "solved", "step": 0, "seconds": seconds, "loss": loss}],
        train_loss=loss, num_steps=0, num_examples=len(x), num_epochs=1.0, batch_size=len(x),
        optimizer="solve", seconds=seconds, shuffling="the rows are read in stored order",
    )  # fmt: skip
