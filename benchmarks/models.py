"""Models and losses of the benchmarks, and times of a run of `downslope.fit`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import downslope
from downslope.losses import logistic, softmax


def linear_model(width: int) -> dict[str, np.ndarray]:
    return {"w": np.zeros(width, np.float32), "b": np.zeros((), np.float32)}


def hinge(model: Any, batch: Any, key: Any) -> Any:
    """max(0, 1 - s z) for a label 0 or 1, s being -1 or 1."""
    x, y = batch
    return jnp.maximum(0, 1 - (2 * y - 1) * (x @ model["w"] + model["b"]))


def table_logistic(model: Any, batch: Any, key: Any) -> Any:
    """Logistic loss on rows of a converted table."""
    return logistic(batch.x @ model["w"] + model["b"], batch.y)


def mlp_model(sizes: tuple[int, ...], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(seed)
    return [
        (
            (draw.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32),
            np.zeros(b, np.float32),
        )
        for a, b in itertools.pairwise(sizes)
    ]


def mlp_loss(model: Any, batch: Any, key: Any) -> Any:
    """Cross-entropy of a net with rectified hidden layers."""
    x, y = batch
    for weight, bias in model[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = model[-1]
    return softmax(x @ weight + bias, y)


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """Times of a run.

    Attributes:
        seconds: of each epoch but the first.
        first_seconds: of the first, which contains compilation.
        before_seconds: checks, the gathering of the rows into random order, the first state.
        result: what `fit` returned.
    """

    seconds: list[float]
    first_seconds: float
    before_seconds: float
    result: downslope.Result


def timed_fit(
    loss: Any,
    model: Any,
    data: Any,
    *,
    epochs: int,
    between: Callable[[], Any] = lambda: None,
    **options: Any,
) -> Epochs:
    """Run `downslope.fit` and time its epochs by a reader of its journal.

    The record that ends an epoch is written once the device has finished the epoch.

    Args:
        between: called after each epoch; its time is not counted.
    """
    begin = time.perf_counter()
    begins, ends = [begin], []

    def note(record: dict[str, Any]) -> None:
        if record["event"] == "started":
            begins[0] = time.perf_counter()
        if record["event"] == "progress" and record["epoch"] > len(ends):
            ends.append(time.perf_counter())
            between()
            begins.append(time.perf_counter())

    result = downslope.fit(
        loss, model, data, epochs=epochs, readers=(note,), checkpoint_seconds=3600.0, **options
    )
    seconds = [stop - start for start, stop in zip(begins, ends, strict=False)]
    return Epochs(
        seconds=seconds[1:],
        first_seconds=seconds[0],
        before_seconds=begins[0] - begin,
        result=result,
    )
