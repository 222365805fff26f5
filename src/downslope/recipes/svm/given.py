"""What a certificate is asked for, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope.arguments import number, one_of
from downslope.errors import DataError, UsageError
from downslope.recipes.svm.duals import Floats
from downslope.recipes.svm.problem import Problem

LOSSES = ("hinge", "squared_hinge")
WAYS = ("ovr", "crammer_singer")


def make_problem(
    x: Any,
    y: Any,
    *,
    C: float,
    loss: str,
    multi_class: str,
    sample_weight: Any,
    fit_intercept: bool,
) -> Problem:
    """The problem, its rows checked."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(y):
        raise UsageError(
            f"x must be rows [n, d] and y class numbers [n], n at least 1; got shapes {x.shape} "
            f"and {y.shape}"
        )
    if y.dtype.kind not in "iub" or y.min() < 0:
        raise UsageError(f"y must be class numbers 0, 1, ...; got {y.dtype} values")
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weight.shape != y.shape or not (np.isfinite(weight).all() and weight.min() >= 0):
        raise UsageError("sample_weight must be n finite numbers of zero or more")
    if x.dtype.kind not in "fiub":
        raise UsageError(f"x must be numbers; got {x.dtype}")
    _check_size("x", x)
    num_classes = max(2, int(y.max()) + 1)
    joint = multi_class == "crammer_singer"
    return Problem(
        x=x,
        y=y.astype(np.intp),
        cost=C * weight,
        loss=loss,
        joint=joint,
        intercept=fit_intercept,
        num_outputs=1 if num_classes == 2 and not joint else num_classes,
    )


def check_settings(*, C: float, loss: str, multi_class: str, gap: float | None) -> None:
    """Raises UsageError for what no support vector machine can have."""
    one_of("loss", loss, LOSSES)
    one_of("multi_class", multi_class, WAYS)
    if multi_class == "crammer_singer" and loss != "hinge":
        raise UsageError(f"multi_class crammer_singer has the hinge loss only; got {loss!r}")
    number("C", C, above=0)
    number("gap", gap, above=0, optional=True)


def stacked(problem: Problem, weights: Any, intercept: Any) -> Floats:
    """Weights [d + 1, K], that of the column of ones last."""
    weights = np.asarray(weights, np.float64)
    weights = weights[:, None] if weights.ndim == 1 else weights
    shape = (problem.x.shape[1], problem.num_outputs)
    if weights.shape != shape:
        raise UsageError(f"weights must have the shape {shape}; got {weights.shape}")
    bias = np.asarray(intercept, np.float64)
    _check_size("weights", weights)
    _check_size("intercept", bias)
    if bias.size not in (1, problem.num_outputs):
        raise UsageError(f"intercept must be {problem.num_outputs} numbers; got {bias.size}")
    if not problem.intercept:
        if bias.any():
            raise UsageError("intercept must be 0 where fit_intercept is False")
        return weights
    return np.vstack([weights, np.broadcast_to(bias.ravel(), (1, shape[1]))])


def _check_size(name: str, values: np.ndarray) -> None:
    """Larger ones have products that float64 cannot hold."""
    most = np.finfo(np.float32).max
    if not (-most <= values.min(initial=0) and values.max(initial=0) <= most):  # nor NaN
        raise DataError(f"{name} has values that are not finite, or that float32 cannot hold")
