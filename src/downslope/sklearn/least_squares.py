"""Least squares of arrays in memory, solved at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import linalg

from downslope import Result, StopReason

MAX_NUMBERS = 1 << 23  # of a design that is decomposed as a whole, 64 MiB


def least_squares(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, l2: float, intercept: bool
) -> Result:
    """The model of least mean squared error plus l2/2 |w|^2, as the result of a run.

    Of several equally good ones it is that of least norm.

    Args:
        x, y: [n, d] and [n, K], float64.
        weight: [n], with a mean of 1.
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
        measurements={}, validation=None, train_loss=loss, num_steps=0, num_examples=len(x),
        num_epochs=1.0, batch_size=len(x), learning_rate=None, optimizer="solve", seconds=seconds,
        shuffling="the rows are read in stored order", diverged_at_step=None, signal=None, run=None,
    )  # fmt: skip
