"""Base of all estimators: from arrays to a trained model, and back to arrays."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import downslope
from downslope import Result, Stepper, StopReason, Training
from downslope.choose.start import first_batch_size
from downslope.config import AUTO, Auto
from downslope.models import dense_apply, weights_only
from downslope.sklearn import files
from downslope.sklearn.callbacks import CallbackSupportMixin, fit_task, reader_of, with_callbacks
from downslope.sklearn.network import (
    RowLoss,
    initial,
    pad_columns,
    padded_width,
    rescale_outputs,
    resize_inputs,
)

MEASURED_FROM = 2000  # rows from which measuring noise may be worth its compilation
FLOATS = (np.float64, np.float32)
SAME_NAMES = (  # as in `Training`
    "optimizer", "learning_rate", "momentum", "steps", "seconds", "schedule", "average",
    "clip_norm",
)  # fmt: skip


@dataclass(kw_only=True, eq=False, repr=False)
class Trained(CallbackSupportMixin, BaseEstimator):
    """A model trained by `downslope.fit`; subclasses define the model and the targets.

    Attributes:
        result_: the `Result` of `downslope.fit`; None after `partial_fit`.
        n_iter_: passes over the rows, 1 or more.
        loss_: mean training loss at the end; of several targets, each in units of its standard
            deviation.
        loss_curve_: training losses over the run.
        validation_curve_: held-out losses over the run; empty where no rows are held out.
    """

    # The parameters of all estimators; `LinearClassifier` explains them.
    alpha: float = 1e-4
    optimizer: Any = AUTO
    learning_rate: float | Auto = AUTO
    momentum: float = 0.9
    batch_size: int | Literal["full"] | Auto = AUTO
    max_iter: int | None = None
    steps: int | None = None
    seconds: float | None = None
    schedule: Any = AUTO
    average: Any = AUTO
    clip_norm: float | Auto | None = AUTO
    n_iter_no_change: int | Auto | None = AUTO
    tol: float = 1e-3
    early_stopping: bool | Auto = AUTO
    validation_fraction: float = 0.1
    warm_start: bool = False
    random_state: Any = None

    n_features_in_: int = field(init=False)

    _target_checks: ClassVar[dict[str, Any]] = {}
    # rows from which "auto" holds some out for stopping; assumed
    _held_out_from: ClassVar[int] = 1000

    # -- for subclasses -----------------------------------------------------------------------

    def _loss_name(self) -> str:
        """Name of the loss in `downslope.losses.NAMED`."""
        raise NotImplementedError

    def _hidden(self) -> tuple[int, ...]:
        """Widths of hidden layers."""
        return ()

    def _intercept(self) -> bool:
        return True

    def _penalties(self) -> tuple[float, float]:
        """Weights of the sum of |w| and of half the sum of w squared."""
        return 0.0, self.alpha

    def _read_targets(self, y: Any, *, again: bool, partial: bool) -> np.ndarray:
        """Targets as numbers [n] or [n, K]; classes are learned, except in `partial_fit`."""
        raise NotImplementedError

    def _num_outputs(self, y: np.ndarray) -> int:
        raise NotImplementedError

    def _weights(self, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Weights of rows, times those of their classes."""
        return weight

    def _units(self, y: np.ndarray, weight: np.ndarray) -> tuple[Any, Any, float]:
        """Scale and shift of targets in training, and the scale of the loss."""
        return 1.0, 0.0, 1.0

    def _solved(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Result | None:
        """The result where the loss can be minimised at once."""
        return None

    # -- fitting ------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Train the estimator.

        Args:
            X: array or data frame [n, d], dense; or the path of a table (Parquet, Arrow, CSV,
                `.npy`, `.npz`), which may be larger than memory.
            y: targets; or the name of the table's target column.
            sample_weight: weights [n], zero or more; or the name of the table's column of them.

        Raises:
            ValueError: input that cannot be used, in scikit-learn's own words.
        """
        if isinstance(X, (str, os.PathLike)):
            files.fit_table(self, X, y, sample_weight)
            return self
        x, y, weight = self._checked(X, y, sample_weight, first=True)
        self.__dict__.pop("table_", None)
        with fit_task(self, X, y, self._fitted_attributes) as context:
            self._fit_rows(x, y, weight, reader_of(self, context))
        return self

    def _fit_rows(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, readers: Any) -> None:
        training = self._training(len(x))
        result = None if self._continues(y) else self._solved(x, y, weight)
        scale, shift, unit = (1.0, 0.0, 1.0) if result else self._units(y, weight)
        if result is None:
            result = self._train(x, (y, scale, shift), weight, training, readers)
        else:
            self._model = result.params
        self._stepper: Stepper | None = None
        self._keep_result(result, unit)
        self._set_attributes()
        if result.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt  # the model as it stood is kept
        if result.stop_reason is StopReason.DIVERGED:
            warnings.warn(
                f"the loss diverged; {result.stop_reason.advice}", ConvergenceWarning, stacklevel=4
            )

    def _train(
        self, x: np.ndarray, targets: Any, weight: np.ndarray, training: Training, readers: Any
    ) -> Result:
        width, (y, scale, shift) = padded_width(*x.shape), targets
        if self._continues(y):
            model = rescale_outputs(self._model, 1 / scale, -shift / scale)
            model = resize_inputs(model, width)
        else:
            model = resize_inputs(self._initial(x, y, training.seed), width)
        targets = y if y.dtype == np.int32 else np.float32((y - shift) / scale)
        result = downslope.fit(
            RowLoss(self._loss_name()),
            model,
            (_narrow(pad_columns(x, width)), targets, np.float32(weight)),
            validation=self._held_out(len(x)),
            penalize=weights_only,
            readers=readers,
            **{name: getattr(training, name) for name in Training.__dataclass_fields__},
        )
        model = resize_inputs(result.params, x.shape[1])
        self._model = rescale_outputs(model, scale, shift)
        return result

    def _initial(self, x: np.ndarray, y: np.ndarray, seed: int) -> Any:
        shape = x.shape[1], self._hidden(), self._num_outputs(y)
        return initial(*shape, intercept=self._intercept(), seed=seed)

    def _step(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Any:
        """One pass of updates on these rows: `partial_fit` of the subclasses."""
        if self.early_stopping is True:
            raise ValueError("partial_fit does not support early_stopping=True")
        if hasattr(self, "table_"):
            raise ValueError(
                "partial_fit continues from arrays; this estimator was fitted on a file"
            )
        first = not hasattr(self, "_model")
        if classes is not None or first:
            self._learn_classes(classes, first)
        x, y, weight = self._checked(X, y, sample_weight, first=first, partial=True)
        held = None if first else self._model["layers"][-1]["weights"].shape[1]
        if held is not None and held != self._num_outputs(y):
            raise ValueError(f"y has {self._num_outputs(y)} targets per row; it had {held} before")
        stepper = getattr(self, "_stepper", None) or self._begin_stepping(x, y)
        self._stepper = stepper
        order = self._order.permutation(len(x))
        rows = _narrow(pad_columns(x[order], self._padded))
        targets = y[order] if y.dtype == np.int32 else np.float32(y[order])
        self.loss_ = stepper.step((rows, targets, np.float32(weight[order])))
        self.loss_curve_ = [*getattr(self, "loss_curve_", []), self.loss_]
        self.n_iter_ = getattr(self, "n_iter_", 0) + 1
        self.result_, self.validation_curve_ = None, []
        self._model = resize_inputs(stepper.params, x.shape[1])
        self._set_attributes()
        return self

    def _learn_classes(self, classes: Any, first: bool) -> None:
        """Learn the classes to come; regressors have none."""

    def _begin_stepping(self, x: np.ndarray, y: np.ndarray) -> Stepper:
        training = self._training(len(x), partial=True)
        self._padded = padded_width(0, x.shape[1])
        self._order = np.random.default_rng(training.seed)
        model = self._model if hasattr(self, "_model") else self._initial(x, y, training.seed)
        model = resize_inputs(model, self._padded)
        return Stepper(RowLoss(self._loss_name()), model, training, penalize=weights_only)

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool, partial: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, targets and weights, checked; rows of weight 0 are left out.

        Weights have a mean of 1, except in `partial_fit`, where no mean is known.
        """
        again = self.warm_start and hasattr(self, "_model")
        checked: Any = validate_data(self, X, y, dtype=FLOATS, reset=first, **self._target_checks)
        x, y = checked
        weight = np.ones(len(x))
        if sample_weight is not None:
            weight = _check_sample_weight(
                sample_weight, x, dtype=np.float64, ensure_non_negative=True
            )
            if not weight.any():
                raise ValueError("sample_weight is zero for every row")
            if not partial and not weight.all():
                x, y, weight = x[weight > 0], y[weight > 0], weight[weight > 0]
        y = self._read_targets(y, again=again, partial=partial)
        weight = self._weights(y, weight)
        return x, y, weight if partial else weight / weight.mean()

    def _continues(self, y: np.ndarray) -> bool:
        """True if a fit begins from the previous model."""
        if not (self.warm_start and hasattr(self, "_model")):
            return False
        layers = self._model["layers"]
        widths = [len(layer["weights"]) for layer in layers]
        now = [self.n_features_in_, *self._hidden()]
        return widths == now and layers[-1]["weights"].shape[1] == self._num_outputs(y)

    def _training(self, num_rows: int, partial: bool = False) -> Training:
        l1, l2 = self._penalties()
        batch_size = self.batch_size
        if partial and batch_size == AUTO:
            batch_size = first_batch_size(num_rows=num_rows, most=1 << 20)
        return Training(
            **{name: getattr(self, name) for name in SAME_NAMES},
            batch_size=batch_size,
            epochs=self.max_iter,
            l1=l1,
            l2=l2,
            weight_decay=None,  # `alpha` says what is minimised
            patience=self.n_iter_no_change,
            tolerance=self.tol,
            measure_every=Training.measure_every if num_rows >= MEASURED_FROM else None,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )

    def _held_out(self, num_rows: int) -> float | None:
        """The share of rows held out for stopping, or None."""
        held_out = self.early_stopping
        if held_out == AUTO:
            held_out = num_rows >= self._held_out_from
        return float(self.validation_fraction) if held_out else None

    # -- results ------------------------------------------------------------------------------

    def _keep_result(self, result: Result, unit: float) -> None:
        self.result_ = result
        self.n_iter_ = max(1, round(result.num_epochs or 0))
        self.loss_ = None if result.train_loss is None else unit * result.train_loss
        self.loss_curve_ = [
            unit * record["loss"]
            for record in result.history
            if record["event"] in ("progress", "solved") and record.get("loss") is not None
        ]
        metrics = [r["metrics"] for r in result.history if r["event"] == "evaluated"]
        self.validation_curve_ = [unit * m["loss"]["value"] for m in metrics if "loss" in m]

    def _set_attributes(self) -> None:
        """Set the attributes of the model that scikit-learn has names for."""
        raise NotImplementedError

    def _fitted_attributes(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k.endswith("_") or k == "_model"}

    def _outputs(self, X: Any) -> np.ndarray:
        """Outputs [n, K] for rows, or for the rows of a table."""
        check_is_fitted(self)
        if hasattr(self, "table_"):
            return files.table_outputs(self, X)
        x = validate_data(self, X, dtype=FLOATS, reset=False)
        return dense_apply(self._model["layers"], x, np)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model") or hasattr(self, "table_")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trained estimator as a folder of safetensors and JSON, without pickle.

        Raises:
            DataError: `path` exists.
            UsageError: a parameter of the estimator has no plain form, such as an optimizer object.
        """
        check_is_fitted(self)
        files.save(self, Path(path))


def _narrow(x: np.ndarray) -> np.ndarray:
    """The rows, if all are finite as float32."""
    if not np.isfinite(x).all():
        raise ValueError("Input X contains infinity or a value too large for dtype('float32').")
    return x
