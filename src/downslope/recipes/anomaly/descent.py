"""The autoencoder descended: by `downslope.fit` on all windows, or on windows as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

import downslope
from downslope import Result, Stepper, Training
from downslope.recipes.anomaly.model import Model, rebuild

STEP_RATE = 1e-3  # of Adam in `Trainer`: small, since the model is trained. Assumed
BATCH = 64  # windows in its updates. Assumed


@dataclass(frozen=True)
class RebuildLoss:
    """Half the mean squared error of rebuilt windows. Its programs outlive a fit."""

    def __call__(self, model: Any, batch: Any, key: Any) -> Any:
        """Losses [B]."""
        return 0.5 * jnp.mean(jnp.square(rebuild(model, batch, jnp) - batch), axis=-1)


def descend(
    model: Model,
    windows: np.ndarray,
    validation: np.ndarray,
    *,
    epochs: int | None,
    seconds: float | None,
    seed: int,
) -> Result:
    """The run that trains all weights from where they are; `downslope.fit` chooses the rest.

    Args:
        model: the autoencoder to begin with.
        windows: [n, L] normal ones, in units of the signal's spread.
        validation: [m, L] normal ones of another stretch, to stop by.
        epochs: passes over the windows, at most; None leaves it to choose.
        seconds: time budget.
        seed: of every random choice.
    """
    return downslope.fit(
        RebuildLoss(),
        model,
        np.ascontiguousarray(windows, np.float32),
        validation=np.ascontiguousarray(validation, np.float32),
        weight_decay=None,  # what is anomalous stands out by the error of a close fit
        epochs=epochs,
        seconds=seconds,
        seed=seed,
    )


class Trainer:
    """Goes on training an autoencoder on windows as they come.

    Args:
        model: where it begins.
        seed: of the order of the windows.
    """

    def __init__(self, model: Model, seed: int):
        training = Training(learning_rate=STEP_RATE, batch_size=BATCH, seed=seed)
        self._stepper = Stepper(RebuildLoss(), model, training)
        self._draw = np.random.default_rng(seed)

    def step(self, windows: np.ndarray) -> Model:
        """The autoencoder after one pass over windows [n, L], in a random order."""
        order = self._draw.permutation(len(windows))
        self._stepper.step(windows[order].astype(np.float32))
        return arrays_of(self._stepper.params)


def arrays_of(params: Any) -> Model:
    """The weights as NumPy arrays."""
    return {name: np.asarray(value) for name, value in params.items()}
