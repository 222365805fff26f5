"""A support vector machine trained by subgradients, with a proof of how good it is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import RBFSampler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import downslope
from downslope import DataError, StopReason
from downslope.arguments import number, one_of, plain, whole
from downslope.recipes.labels import coded
from downslope.recipes.svm.certificate import certify
from downslope.recipes.svm.given import check_settings
from downslope.recipes.svm.problem import RowLoss

KERNELS = ("linear", "rbf")
HELD_OUT = 0.1  # of the rows, to end the descent by
HELD_OUT_FROM = 1000  # rows; with fewer, the training loss says when to stop; assumed
FLOATS = (np.float64, np.float32)


class SVM(ClassifierMixin, BaseEstimator):
    """A support vector machine with a bound on how far it is from the best there is.

    Minimises |W|^2 / 2 + C sum_i weight_i loss_i, as liblinear does, with the intercept among
    the weights. First by mini-batch subgradients, `downslope.fit` with everything "auto"; then a
    duality gap says how far that can be from the least objective, and Newton steps on the
    smoothed loss close what is left of it. Inputs are not scaled: put a `StandardScaler` before
    it.

    Args:
        loss: "hinge" or "squared_hinge".
        multi_class: "ovr", one class against the rest, or "crammer_singer", which compares the
            classes in one loss (hinge only).
        C: weight of the losses, above 0.
        kernel: "linear", or "rbf" by random Fourier features (Rahimi and Recht 2007).
        gamma: of exp(-gamma |x - x'|^2), above 0; "scale" is 1 / (d var(X)).
        n_components: random features, 1 or more. They are held in memory: n x n_components
            floats of 4 bytes.
        fit_intercept: train an intercept; it is penalised as the weights are.
        gap: relative duality gap at which to stop, above 0; None leaves the descent's weights as
            they are and only says what is known of them.
        max_iter: passes of the descent over the rows, at most; None leaves its end to choose.
        seconds: of the descent, at most.
        random_state: seed of the rows' order, of what is held out, and of the features.

    Attributes:
        certificate_: what is known of the objective, with its sentence as text.
        objective_, dual_objective_, gap_, relative_gap_: from there; `relative_gap_` is None
            where the dual objective proves nothing.
        result_: the descent, as `downslope.fit` gives it.
        coef_: weights [K, d], [1, d] for two classes, of the features where the kernel is rbf.
        intercept_: [K] or [1].
        classes_: the classes, sorted.
        n_iter_: passes of the descent over the rows, 1 or more.

    Example:
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.preprocessing import scale
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> model = SVM(random_state=0).fit(scale(X), y)
        >>> print(f"{model.objective_:.0f}, score {model.score(scale(X), y):.2f}")
        27, score 0.99
        >>> model.relative_gap_ <= 1e-3
        True

    Source: subgradients for this objective: Shalev-Shwartz, Singer, Srebro and Cotter 2011
    (Math. Program. 127), section 2.
    """

    n_features_in_: int

    def __init__(
        self,
        *,
        loss: str = "hinge",
        multi_class: str = "ovr",
        C: float = 1.0,
        kernel: str = "linear",
        gamma: float | str = "scale",
        n_components: int = 500,
        fit_intercept: bool = True,
        gap: float | None = 1e-3,
        max_iter: int | None = None,
        seconds: float | None = None,
        random_state: Any = None,
    ):
        self.loss = loss
        self.multi_class = multi_class
        self.C = C
        self.kernel = kernel
        self.gamma = gamma
        self.n_components = n_components
        self.fit_intercept = fit_intercept
        self.gap = gap
        self.max_iter = max_iter
        self.seconds = seconds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SVM:
        """The estimator, trained and certified.

        Args:
            X: rows [n, d], dense.
            y: classes [n].
            sample_weight: weights [n], zero or more, beside C. Rows of weight 0 are left out.

        Raises:
            UsageError: an argument out of range, or classes of several kinds.
            DataError: a missing class, a feature that is too large for float32, or weights that
                are all zero.
        """
        self._check()
        if np.ndim(y) == 1:
            coded(y, "y")  # missing labels and mixed kinds, of which scikit-learn says less
        checked: Any = validate_data(self, X, y, dtype=FLOATS)
        x, y = checked
        check_classification_targets(y)
        weight = np.ones(len(y))
        if sample_weight is not None:
            if not np.any(sample_weight):
                raise DataError("sample_weight is zero for every row")
            weight = _check_sample_weight(
                sample_weight, x, dtype=np.float64, ensure_non_negative=True
            )
            if not weight.all():
                x, y, weight = x[weight > 0], y[weight > 0], weight[weight > 0]
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"y has only one class, {plain(self.classes_[0])!r}; a classifier needs 2 or more"
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows = self._learn_features(x, seed)
        self.result_ = self._descend(rows, labels.astype(np.int32), weight, seed)
        self.n_iter_ = max(1, round(self.result_.num_epochs or 0))
        self._certify(rows, labels, weight)
        if self.result_.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt  # the model as it stood is kept
        return self

    def _check(self) -> None:
        check_settings(C=self.C, loss=self.loss, multi_class=self.multi_class, gap=self.gap)
        one_of("kernel", self.kernel, KERNELS)
        if not (isinstance(self.gamma, str) and self.gamma == "scale"):
            number("gamma", self.gamma, above=0)
        whole("n_components", self.n_components)
        one_of("fit_intercept", plain(self.fit_intercept), (True, False))
        whole("max_iter", self.max_iter, optional=True)

    def _learn_features(self, x: np.ndarray, seed: int) -> np.ndarray:
        self.features_ = None
        if self.kernel == "rbf":
            gamma: Any = self.gamma
            self.features_ = RBFSampler(
                gamma=gamma, n_components=self.n_components, random_state=seed
            ).fit(np.asarray(x, np.float32))
        return self._features(x)

    def _features(self, x: np.ndarray) -> np.ndarray:
        """The rows as float32, contiguous, mapped where the kernel is rbf."""
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(rows).all():
            raise DataError(
                "X has a value too large for dtype('float32')", remedy="put a scaler before it"
            )
        return rows if self.features_ is None else self.features_.transform(rows)

    def _descend(
        self, rows: np.ndarray, labels: np.ndarray, weight: np.ndarray, seed: int
    ) -> downslope.Result:
        joint = self.multi_class == "crammer_singer"
        count = len(self.classes_)
        outputs = 1 if count == 2 and not joint else count
        model: dict[str, Any] = {"weights": np.zeros((rows.shape[1], outputs), np.float32)}
        if self.fit_intercept:
            model["intercept"] = np.zeros(outputs, np.float32)
        total = weight.sum()
        return downslope.fit(
            RowLoss("crammer_singer" if joint else self.loss),
            model,
            (rows, labels, np.float32(weight * len(weight) / total)),
            l2=1 / (self.C * total),  # the objective over C times the weights' sum
            epochs=self.max_iter,
            seconds=self.seconds,
            validation=HELD_OUT if len(rows) >= HELD_OUT_FROM else None,
            seed=seed,
        )

    def _certify(self, rows: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> None:
        found = self.certificate_ = certify(
            self.result_.params["weights"],
            self.result_.params.get("intercept", 0.0),
            rows,
            labels,
            C=self.C,
            loss=self.loss,
            multi_class=self.multi_class,
            sample_weight=weight,
            fit_intercept=self.fit_intercept,
            gap=self.gap,
        )
        self.objective_, self.dual_objective_ = found.objective, found.dual_objective
        self.gap_, self.relative_gap_ = found.gap, found.relative_gap
        self.coef_, self.intercept_ = found.weights.T, found.intercept
        if len(self.classes_) == 2 and len(self.coef_) == 2:  # their difference decides
            self.coef_ = self.coef_[1:] - self.coef_[:1]
            self.intercept_ = self.intercept_[1:] - self.intercept_[:1]
        if self.gap is not None and (found.relative_gap is None or found.relative_gap > self.gap):
            warnings.warn(
                f"the gap asked for, {self.gap:g}, was not reached. {found}",
                ConvergenceWarning,
                stacklevel=3,
            )

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs: [n] for two classes, positive for the second; else [n, K].

        Args:
            X: rows [n, d].
        """
        check_is_fitted(self)
        x: Any = validate_data(self, X, dtype=FLOATS, reset=False)
        rows = self._features(x)
        out = rows @ np.float32(self.coef_.T) + np.float32(self.intercept_)
        return out[:, 0] if out.shape[1] == 1 else out

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row [n].

        Args:
            X: rows [n, d].
        """
        out = self.decision_function(X)
        chosen = (out > 0).astype(np.intp) if out.ndim == 1 else out.argmax(axis=1)
        return self.classes_[chosen]
