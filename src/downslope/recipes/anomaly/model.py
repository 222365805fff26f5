"""The autoencoder: a few numbers of a window, from which it is rebuilt.

Rebuilt is `z D + tanh(z A + a) B + b` of the code `z = x E`: a straight part and a bend. The best
straight part and, for given A and a, the best bend have closed forms, which are here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh, solve

from downslope.estimate import Estimate, not_estimable, t_quantile

HIDDEN = 32  # units that bend what is rebuilt. Assumed
MOST_CODE = 1 / 4  # of a window's samples. Assumed: a wider code rebuilds anything
RIDGE = 1e-3  # weight of the bend's squares beside the mean squared error. Assumed
LEAST_WINDOWS = 16  # for each component; fewer say more of their noise than of it. Assumed
FEWEST = 30  # held-out windows without a common sample that a gain is measured on. Assumed
GAIN = "share of the held-out error"
METHOD = "bend solved for random features on training windows; paired errors of held-out windows"

Model = dict[str, np.ndarray]


def straight(windows: np.ndarray, *, code: int | None, seed: int) -> Model:
    """The best autoencoder that is linear: principal components, and no bend yet.

    Args:
        windows: [n, L] normal ones, in units of the signal's spread.
        code: numbers in a code; None for as many components as stand above noise, at most a
            quarter of L and a sixteenth of n.
        seed: of the weights A and a.

    Source:
        Baldi and Hornik (1989), "Neural networks and principal component analysis";
        Gavish and Donoho (2014), "The optimal hard threshold for singular values is 4/sqrt(3)",
        equation 11 and table IV for their threshold at an unknown noise.
    """
    count, length = windows.shape
    values, basis = _components(windows)
    code = min(len(values), _above_noise(values, count, length) if code is None else code)
    values, basis = np.maximum(values[:code], 1e-12), basis[:, :code]
    draw = np.random.default_rng(seed)
    model = {
        "encode": basis,
        "decode": basis.T,
        # codes in units of their own spread, so that tanh bends within their range
        "bend_in": draw.normal(size=(code, HIDDEN)) / np.sqrt(values)[:, None] / np.sqrt(code),
        # without it all bends are odd: an overtone, which is even in the tone, would be missed
        "bend_bias": draw.normal(size=HIDDEN),
        "bend_out": np.zeros((HIDDEN, length)),
        "bias": np.zeros(length),
    }
    return _floats(model)


def bent(model: Model, windows: np.ndarray) -> Model:
    """The autoencoder with the straight part and the bend that fit windows best, A as it is.

    Least squares in D, B and b, with a small ridge on B (and 1e-9 on the rest): one system of
    `code + 33` unknowns, solved for all samples of a window together.

    Args:
        model: from `straight`.
        windows: [n, L] those it was made from.
    """
    code = windows @ model["encode"]
    width = code.shape[1]
    bends = np.tanh(code @ model["bend_in"] + model["bend_bias"])
    inputs = np.concatenate([code, bends, np.ones((len(code), 1))], axis=1)
    ridge = np.r_[np.zeros(width), np.full(HIDDEN, RIDGE), 0] + 1e-9
    squares = inputs.T @ inputs / len(inputs) + np.diag(ridge)
    moves = solve(squares, inputs.T @ (windows - rebuild(model, windows)) / len(inputs))
    return _floats(
        model
        | {
            "decode": model["decode"] + moves[:width],
            "bend_out": model["bend_out"] + moves[width:-1],
            "bias": model["bias"] + moves[-1],
        }
    )


def gain(before: Model, after: Model, windows: np.ndarray, *, overlap: int) -> Estimate:
    """The share of the error on held-out windows that one autoencoder has less than another.

    Args:
        before, after: the two.
        windows: [m, L] that trained neither, in the order of time.
        overlap: windows in a row until two share no sample; the interval counts one of them.

    Returns:
        The share, below 0 where `after` is worse, or a reason: fewer than 30 windows without a
        common sample.
    """
    independent = len(windows) // overlap
    if independent < FEWEST:
        reason = f"{independent} held-out windows share no sample; {FEWEST} are needed"
        return not_estimable(reason, unit=GAIN, num_examples=len(windows), method=METHOD)
    old, new = (((windows - rebuild(m, windows)) ** 2).mean(1) for m in (before, after))
    whole = max(old.mean(), 1e-12)
    share = 1 - new.mean() / whole
    spread = (old - new - share * old).std(ddof=1) / whole  # of a ratio, to first order
    reach = t_quantile(independent - 1) * spread / np.sqrt(independent)
    low, high = float(share - reach), float(share + reach)
    return Estimate(
        value=float(share), lo=low, hi=high, unit=GAIN, num_examples=len(windows), method=METHOD
    )


def rebuild(model: Any, x: Any, module: Any = np) -> Any:
    """Windows [B, L] as the autoencoder rebuilds them.

    Args:
        model: the autoencoder.
        x: windows [B, L].
        module: `numpy` or `jax.numpy`.
    """
    code = x @ model["encode"]
    bends = module.tanh(code @ model["bend_in"] + model["bend_bias"])
    return code @ model["decode"] + bends @ model["bend_out"] + model["bias"]


def _components(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances, largest first, and the directions [L, k] that they belong to, in columns."""
    count, length = windows.shape
    if count >= length:
        values, vectors = eigh(windows.T @ windows / count)
        return values[::-1], vectors[:, ::-1]
    values, vectors = eigh(windows @ windows.T / count)  # the same values, in the smaller square
    values, vectors = values[::-1], vectors[:, ::-1]
    basis = windows.T @ vectors / np.sqrt(np.maximum(values, 1e-12) * count)
    return values, basis


def _above_noise(values: np.ndarray, count: int, length: int) -> int:
    """Components whose singular value stands above noise of unknown size."""
    ratio = min(count, length) / max(count, length)
    edge = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    singular = np.sqrt(np.maximum(values, 0))
    above = int((singular > edge * np.median(singular)).sum())
    most = min(round(MOST_CODE * length), count // LEAST_WINDOWS)
    return int(np.clip(above, 1, max(1, most)))


def _floats(model: Model) -> Model:
    return {name: np.ascontiguousarray(value, np.float32) for name, value in model.items()}
