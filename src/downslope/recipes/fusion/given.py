"""What the estimators of two branches may be asked for, and given beside their table."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope.arguments import number, one_of, whole
from downslope.errors import UsageError


def check(given: dict[str, Any]) -> None:
    """Raises for a parameter out of range; `downslope.fit` checks those of training."""
    one_of("words", given["words"], ("vocabulary", "hashed", "embedding"))
    for name in ("text", "numbers", "categories"):
        value = given[name]
        names = [value] if name == "text" and isinstance(value, str) else value
        if not ((value is None and name != "text") or _are_names(names)):
            raise UsageError(f"{name} must be names of columns; got {value!r}")
    if given["words"] == "embedding" and not isinstance(given["text"], str):
        raise UsageError(f"an embedding is one column; got text {given['text']!r}")
    for name in ("num_words", "max_terms", "width"):
        whole(name, given[name])
    number("num_words", given["num_words"], below=np.iinfo(np.int32).max)  # codes are int32
    number("branch_dropout", given["branch_dropout"], least=0, most=0.5)
    number("validation_fraction", given["validation_fraction"], least=0, below=1)
    number("alpha", given["alpha"], least=0)
    whole("max_iter", given["max_iter"], optional=True)


def _are_names(values: Any) -> bool:
    return np.ndim(values) == 1 and all(isinstance(name, str) for name in values)


def of_length(name: str, values: Any, num: int) -> np.ndarray:
    """The values as an array [num], or UsageError."""
    values = np.asarray(values)
    if values.shape != (num,):
        raise UsageError(f"{name} must have one value a row, ({num},); got {values.shape}")
    return values


def weights(weight: np.ndarray) -> np.ndarray:
    """Weights of rows in float64, or UsageError."""
    weight = np.asarray(weight, np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise UsageError("sample_weight must be finite, zero or more, and not zero for every row")
    return weight
