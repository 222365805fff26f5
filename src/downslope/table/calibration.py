"""Probabilities and classes from a classifier's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def probabilities(outputs: Any, calibration: list[list[float]] | None = None) -> Floats:
    """Probabilities [n, K] from log-odds [n], logits [n, K], or margins with their calibration.

    Margins of more than two classes are calibrated one against the rest, then scaled to add
    up to 1.

    Example:
        >>> probabilities(np.array([0.0])).tolist()
        [[0.5, 0.5]]
    """
    z = np.asarray(outputs, np.float64)
    if calibration is not None:
        slopes, shifts = np.array(calibration, np.float64).T
        z = z * (slopes if z.ndim == 2 else slopes[0]) + (shifts if z.ndim == 2 else shifts[0])
    if z.ndim == 1:
        p = _sigmoid(z)
        return np.stack([1.0 - p, p], axis=1)
    e = np.exp(z - z.max(axis=1, keepdims=True)) if calibration is None else _sigmoid(z)
    return e / np.maximum(e.sum(axis=1, keepdims=True), 1e-300)


def predicted_classes(outputs: np.ndarray) -> NDArray[np.intp]:
    """Class numbers [n] from log-odds or margins [n], or from outputs [n, K]."""
    return (outputs > 0).astype(np.intp) if outputs.ndim == 1 else outputs.argmax(axis=1)


def calibrate(margins: Any, classes: Any, weight: Any) -> list[list[float]]:
    """Slope and shift of a logistic curve per margin (Platt 1999), by Newton's method.

    Targets are drawn in from 0 and 1 as Platt proposes, (n+ + 1)/(n+ + 2) and 1/(n- + 2), so
    that separable classes do not give an infinite slope.

    Args:
        margins: [n] for two classes, [n, K] for more.
        classes: class index [n].
        weight: [n].

    Returns:
        One [slope, shift] for each margin.
    """
    margins = np.asarray(margins, np.float64)
    columns = margins[:, None] if margins.ndim == 1 else margins
    labels = [1] if margins.ndim == 1 else range(columns.shape[1])
    return [
        _platt(columns[:, j], np.asarray(classes) == label, np.asarray(weight, np.float64))
        for j, label in enumerate(labels)
    ]


def _platt(z: Floats, positive: NDArray[np.bool_], weight: Floats) -> list[float]:
    scale = max(float(np.abs(z).max(initial=0.0)), 1e-12)
    num = float(weight[positive].sum()), float(weight[~positive].sum())
    target = np.where(positive, (num[0] + 1) / (num[0] + 2), 1 / (num[1] + 2))
    design = np.stack([z / scale, np.ones_like(z)], axis=1)
    theta = np.array([0.0, np.log((num[0] + 1) / (num[1] + 1))])
    value = _deviance(design @ theta, target, weight)
    for _ in range(100):
        p = _sigmoid(design @ theta)
        gradient = design.T @ (weight * (p - target))
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.trace(curvature) * np.eye(2), gradient)
        size = 1.0
        while size > 1e-8:
            trial = theta - size * step
            new = _deviance(design @ trial, target, weight)
            if new <= value:
                break
            size /= 2
        else:
            break
        done = value - new <= 1e-12 * abs(value)
        theta, value = trial, new
        if done:
            break
    return [float(theta[0] / scale), float(theta[1])]


def _deviance(z: Floats, target: Floats, weight: Floats) -> float:
    return float((weight * (np.logaddexp(0.0, z) - target * z)).sum())


def _sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -z))
