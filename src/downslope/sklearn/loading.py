"""Trained estimators from the folders that their `save` wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from downslope import DataError
from downslope.sklearn.files import DOCUMENT, FORMAT, TENSORS
from downslope.sklearn.linear import LinearClassifier, LinearRegressor, LinearSVC
from downslope.sklearn.mlp import MLPClassifier, MLPRegressor
from downslope.storage import read_json, read_tensors, verify
from downslope.train.checkpoint import restore_leaves

CLASSES: dict[str, Any] = {
    each.__name__: each
    for each in (LinearClassifier, LinearRegressor, LinearSVC, MLPClassifier, MLPRegressor)
}


def load(path: str | os.PathLike[str]) -> Any:
    """A trained estimator from the folder that its `save` wrote; nothing in it is executed.

    Its `result_` is None: what was measured while training is not kept.

    Args:
        path: the folder.

    Raises:
        DataError: the folder is missing, damaged, or holds something else.

    Example:
        >>> import os, tempfile
        >>> from downslope.sklearn import LinearRegressor
        >>> folder = os.path.join(tempfile.mkdtemp(), "model")
        >>> LinearRegressor().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).save(folder)
        >>> load(folder).predict([[10.0]]).round(6).tolist()
        [21.0]
    """
    path = Path(path)
    verify(path)
    document = read_json(path / DOCUMENT)
    name = document.get("class") if isinstance(document, dict) else None
    if not isinstance(name, str) or document.get("format") != FORMAT or name not in CLASSES:
        raise DataError("not a saved estimator", path=path, remedy="name a folder made by save")
    params = {k: _restored(v) for k, v in document["params"].items()}
    estimator = CLASSES[name](**params)
    vars(estimator).update(document["fitted"], result_=None, _stepper=None)
    estimator._one_number = document["one_number"]
    for each in ("classes_", "feature_names_in_"):
        if each in document:
            kind, values = document[each]["type"], document[each]["values"]
            setattr(estimator, each, np.array(values, dtype=np.dtype(kind)))
    tensors = read_tensors(path / TENSORS)
    if "table" in document:
        from downslope.table.model import TableModel  # here: arrays need none of it

        estimator.table_ = TableModel.from_json(document["table"])
        start = estimator.table_.init(0)
        estimator._table_params = restore_leaves(start, tensors, str(path))
    else:
        estimator._model = _layers(tensors)
        estimator._set_attributes()
    return estimator


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _restored(v) for k, v in value["pairs"]}
    return tuple(value) if isinstance(value, list) else value


def _layers(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The model whose tensors are named `layers/0/weights` and so on."""
    count = 1 + max(int(name.split("/")[1]) for name in tensors)
    layers: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, values in tensors.items():
        _, number, kind = name.split("/")
        layers[int(number)][kind] = values
    return {"layers": layers}
