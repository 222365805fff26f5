"""Estimators and files: tables to train on and predict from, and the safe format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from downslope import ModelOptions, TableOptions, UsageError
from downslope.data.ingest.tabular import open_table
from downslope.data.stored import TableBatch
from downslope.storage import (
    atomic_folder,
    write_json,
    write_tensors,
)
from downslope.table import fit as table

FORMAT = "downslope estimator 1"
TENSORS, DOCUMENT = "tensors.safetensors", "document.json"
LOSSES = {"squared_error": "squared", "absolute_error": "absolute", "huber": "huber"}
KINDS = {"LinearSVC": "svm", "MLPClassifier": "mlp", "MLPRegressor": "mlp"}


def fit_table(estimator: Any, path: Any, target: Any, weight: Any) -> None:
    """Trains the estimator on a table of any size, by downslope's recipe for tables."""
    for name, value in (("y", target), ("sample_weight", weight)):
        if not (isinstance(value, str) or (name == "sample_weight" and value is None)):
            raise UsageError(
                f"{name} must be the name of a column, since X is a path; got {value!r}"
            )
    if getattr(estimator, "class_weight", None) is not None:
        raise UsageError("class_weight is for arrays; give the table a column of weights")
    for name, plain in (("fit_intercept", True), ("warm_start", False)):
        if getattr(estimator, name, plain) is not plain:
            raise UsageError(f"{name} must be {plain} for a file; the rest is for arrays")
    classifies = hasattr(estimator, "decision_function")
    training = estimator._training(1 << 20)
    held_out = estimator._held_out(1 << 20)
    loss = getattr(estimator, "loss", None)
    found = table.fit(
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
    scale = 1.0 if classifies or loss == "huber" else found.model.encoding.target_scale
    estimator._note(found.result, scale**2 if loss == "squared_error" else scale)


def table_outputs(estimator: Any, rows: Any) -> np.ndarray:
    """Outputs [n, K] for a table: a path, or a data frame with the columns of training."""
    import jax

    model, params = estimator.table_, estimator._table_params
    encoding = model.encoding
    is_frame = hasattr(rows, "columns") or hasattr(rows, "__arrow_c_stream__")
    if not is_frame and not isinstance(rows, (str, os.PathLike)):
        raise UsageError(
            "X must be a path or a data frame with the columns of training, since the estimator "
            f"was trained on a file; got {type(rows).__name__}"
        )
    opened = open_table(rows, encoding.string_columns)
    encoding.check_columns(opened)
    forward, found, row = jax.jit(model.outputs), [], 1
    for batch in opened.batches(encoding.names):
        numbers, _ = encoding.encode(batch, row)
        row += batch.num_rows
        count = encoding.num_numeric
        codes = numbers[:, count:].astype(np.int32)
        out = np.asarray(forward(params, TableBatch(numbers[:, :count], codes, None, None)))
        found.append(out.reshape(len(out), -1).astype(np.float64))
    out = np.concatenate(found)
    if encoding.task == "regress":
        out = encoding.target_mean + encoding.target_scale * out
    return out


def save(estimator: Any, path: Path) -> None:
    """Writes a trained estimator as a folder that is either whole or absent."""
    params = estimator.get_params(deep=False)
    document: dict[str, Any] = {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "params": {name: _plain(name, value) for name, value in params.items()},
        "fitted": {},
    }
    for name in ("n_features_in_", "n_iter_", "loss_", "loss_curve_", "validation_curve_"):
        document["fitted"][name] = getattr(estimator, name)
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
        write_tensors(folder / TENSORS, _named(tree))
        write_json(folder / DOCUMENT, document)


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON; a dict as pairs, since its keys may be numbers."""
    if isinstance(value, dict):
        pairs = [[_plain(name, k), _plain(name, v)] for k, v in value.items()]
        return {"pairs": pairs}
    if isinstance(value, (list, tuple)):
        return [_plain(name, each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(f"{name} cannot be saved: it is an object of {type(value).__name__}")


def _named(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of nested dicts and lists, by path."""
    if not isinstance(tree, (dict, list)):
        return {prefix: np.asarray(tree)}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: dict[str, np.ndarray] = {}
    for key, value in items:
        found |= _named(value, f"{prefix}/{key}" if prefix else str(key))
    return found
