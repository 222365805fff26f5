"""The autoencoder: a few numbers of a window, from which it is rebuilt."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import downslope
from downslope import Result

HIDDEN = 32  # units that bend what is rebuilt. Assumed
MOST_CODE = 1 / 4  # of a window's samples. Assumed: a wider code rebuilds anything


def initial(windows: np.ndarray, *, code: int | None, seed: int) -> dict[str, np.ndarray]:
    """The autoencoder before training: principal components, the best that is linear.

    Rebuilt is `z D + tanh(z A + a) B + b` of the code `z = x E`. E and D begin at the components
    of the windows, which a closed form gives, and B at zero. So training begins where a linear
    autoencoder would end, and may only bend it.

    Args:
        windows: [n, L] normal ones, in units of the signal's spread.
        code: numbers in a code; None for as many components as stand above noise.
        seed: of the weights A.

    Source:
        Baldi and Hornik (1989), "Neural networks and principal component analysis";
        Gavish and Donoho (2014), "The optimal hard threshold for singular values is 4/sqrt(3)",
        equation 11 and table IV for their threshold at an unknown noise.
    """
    count, length = windows.shape
    values, vectors = np.linalg.eigh(windows.T @ windows / count)
    values, vectors = values[::-1], vectors[:, ::-1]
    if code is None:
        code = _above_noise(values, count)
    draw = np.random.default_rng(seed)
    basis = vectors[:, :code]
    spread = np.sqrt(np.maximum(values[:code], 1e-12))[:, None]
    model = {
        "encode": basis,
        "decode": basis.T,
        # codes in units of their own spread, so that tanh bends within their range
        "bend_in": draw.normal(size=(code, HIDDEN)) / spread / np.sqrt(code),
        "bend_bias": np.zeros(HIDDEN),
        "bend_out": np.zeros((HIDDEN, length)),
        "bias": np.zeros(length),
    }
    return {name: np.ascontiguousarray(value, np.float32) for name, value in model.items()}


def rebuild(model: Any, x: Any, module: Any = np) -> Any:
    """Windows [B, L] as the autoencoder rebuilds them.

    Args:
        model: from `initial`, or trained.
        x: windows [B, L].
        module: `numpy` or `jax.numpy`.
    """
    code = x @ model["encode"]
    bent = module.tanh(code @ model["bend_in"] + model["bend_bias"])
    return code @ model["decode"] + bent @ model["bend_out"] + model["bias"]


def loss(model: Any, batch: Any, key: Any) -> Any:
    """Half the mean squared error [B] of rebuilt windows."""
    return 0.5 * jnp.mean(jnp.square(rebuild(model, batch, jnp) - batch), axis=-1)


def train(
    windows: np.ndarray,
    validation: np.ndarray,
    *,
    code: int | None = None,
    epochs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> Result:
    """The autoencoder trained by `downslope.fit`, which chooses batch size, rate and end.

    Args:
        windows: [n, L] normal ones, in units of the signal's spread.
        validation: [m, L] normal ones of another stretch, to stop by.
        code: numbers in a code; None for as many as stand above noise.
        epochs: passes over the windows, at most; None leaves it to choose.
        seconds: time budget.
        seed: of every random choice.
    """
    return downslope.fit(
        loss,
        initial(windows, code=code, seed=seed),
        np.ascontiguousarray(windows, np.float32),
        validation=np.ascontiguousarray(validation, np.float32),
        epochs=epochs,
        seconds=seconds,
        seed=seed,
    )


def _above_noise(values: np.ndarray, count: int) -> int:
    """Components whose singular value stands above noise of unknown size."""
    ratio = min(1.0, len(values) / count)
    edge = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    singular = np.sqrt(np.maximum(values, 0))
    above = int((singular > edge * np.median(singular)).sum())
    return int(np.clip(above, 1, max(1, round(MOST_CODE * len(values)))))
