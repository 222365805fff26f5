"""Estimators and files: tables to train on and predict from, and saved estimators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from downslope import ModelOptions, TableOptions, UsageError
from downslope.arguments import plain
from downslope.sklearn.network import LOSSES
from downslope.storage import atomic_folder, write_json, write_tensors
from downslope.train.checkpoint import host_tensors

FORMAT = "downslope estimator 1"
TENSORS, DOCUMENT = "tensors.safetensors", "document.json"
KINDS = {"LinearSVC": "svm", "MLPClassifier": "mlp", "MLPRegressor": "mlp"}


def fit_table(estimator: Any, path: Any, target: Any, weight: Any) -> None:
    """Train the estimator on a table of any size, as `downslope fit` does."""
    from downslope.table.fit import fit  # here: arrays need none of it

    for name, value in (("y", target), ("sample_weight", weight)):
        if not (isinstance(value, str) or (name == "sample_weight" and value is None)):
            raise UsageError(
                f"{name} must be the name of a column, since X is a path; got {value!r}"
            )
    if getattr(estimator, "class_weight", None) is not None:
        raise UsageError("class_weight is for arrays; give the table a column of weights")
    for name, only in (("fit_intercept", True), ("warm_start", False)):
        if getattr(estimator, name, only) is not only:
            raise UsageError(f"{name} must be {only} for a file; {not only} is for arrays")
    classifies = hasattr(estimator, "decision_function")
    training = estimator._training(1 << 20)
    held_out = estimator._held_out(1 << 20)
    loss = getattr(estimator, "loss", None)
    found = fit(
        path,
        TableOptions(
            target=target,
            task="classify" if classifies else "regress",
            weight=weight,
            validation=held_out or 0.0,
            seed=training.seed,
        ),
        ModelOptions(
            model=KINDS.get(type(estimator).__name__, "linear"),  # type: ignore[arg-type]
            hidden=estimator._hidden() or (64,),
            loss=LOSSES.get(loss, loss),  # type: ignore[arg-type]
        ),
        training,
    )
    for name in ("_model", "coef_", "intercept_", "coefs_", "intercepts_"):
        estimator.__dict__.pop(name, None)  # of an earlier fit
    estimator._stepper, estimator._one_number = None, True
    estimator.table_, estimator._table_params = found.model, found.result.params
    estimator.feature_names_in_ = np.array(found.model.encoding.names, dtype=object)
    estimator.n_features_in_ = len(estimator.feature_names_in_)
    if classifies:
        estimator.classes_ = np.array(found.model.encoding.classes)
    scale = 1.0 if classifies or loss == "huber" else found.model.encoding.target.scale
    estimator._keep_result(found.result, scale**2 if loss == "squared_error" else scale)


def table_outputs(estimator: Any, rows: Any) -> np.ndarray:
    """Outputs [n, K] for a table: a path, or a data frame with the columns of training."""
    from downslope.table.predict import outputs_of

    model, params = estimator.table_, estimator._table_params
    is_frame = hasattr(rows, "columns") or hasattr(rows, "__arrow_c_stream__")
    if not is_frame and not isinstance(rows, (str, os.PathLike)):
        raise UsageError(
            "X must be a path or a data frame with the columns of training, since the estimator "
            f"was trained on a file; got {type(rows).__name__}"
        )
    found = [out.reshape(len(out), -1) for out, _ in outputs_of(model, params, rows)]
    out = np.concatenate(found).astype(np.float64)
    return model.in_target_unit(out) if model.encoding.task == "regress" else out


def save(estimator: Any, path: Path) -> None:
    """Write a trained estimator as a folder that is either whole or absent."""
    params = estimator.get_params(deep=False)
    fitted = ("n_features_in_", "n_iter_", "loss_", "loss_curve_", "validation_curve_")
    document: dict[str, Any] = {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "params": {name: _plain(name, value) for name, value in params.items()},
        "fitted": {name: getattr(estimator, name) for name in fitted},
    }
    for name in ("classes_", "feature_names_in_"):
        if hasattr(estimator, name):
            values = getattr(estimator, name)
            document[name] = {"type": values.dtype.str, "values": values.tolist()}
    document["one_number"] = getattr(estimator, "_one_number", None)
    tree = getattr(estimator, "_model", None)
    if tree is None:
        document["table"] = estimator.table_.to_json()
        tree = estimator._table_params
    with atomic_folder(path) as folder:
        write_tensors(folder / TENSORS, host_tensors(tree))
        write_json(folder / DOCUMENT, document)


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON; a dict as pairs, since its keys may be numbers."""
    if isinstance(value, dict):
        pairs = [[_plain(name, k), _plain(name, v)] for k, v in value.items()]
        return {"pairs": pairs}
    if isinstance(value, (list, tuple)):
        return [_plain(name, each) for each in value]
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(f"{name} cannot be saved: it is an object of {type(value).__name__}")
