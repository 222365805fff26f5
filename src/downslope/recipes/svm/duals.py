"""The hinge losses with their duals: what a row's outputs say about both sides of the gap.

With rows x_i, outputs o_i = x_i W and costs c_i = C times the row's weight, a support vector
machine minimises

    P(W) = |W|^2 / 2 + sum_i c_i phi_i(o_i)

and the dual variables of a row, here `q_i` [K], give W(q) = sum_i c_i x_i q_i' and

    D(q) = sum_i c_i d_i(q_i) - |W(q)|^2 / 2  <=  min P,

so any q that may be used at all proves how low P can still go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the outputs of some rows give, output by output, all [B, K] and without the costs.

    Attributes:
        loss: phi.
        smooth: the smoothed loss; its slope in the output is -q.
        dual: d(q).
        q: dual variables.
        bend: second derivative of the smoothed loss.
    """

    loss: Floats
    smooth: Floats
    dual: Floats
    q: Floats
    bend: Floats


def hinge(outputs: Floats, signs: Floats, width: Floats) -> Rows:
    """Hinge loss max(0, z), z = 1 - s o, with a parabola of `width` at its kink.

    phi(z) = max over 0 <= a <= 1 of a z, smoothed by - width a^2 / 2; d = a, q = a s.
    """
    z = 1 - signs * outputs
    a = np.clip(z / width, 0, 1)
    return Rows(
        loss=np.maximum(z, 0),
        smooth=a * z - width / 2 * a * a,
        dual=a,
        q=a * signs,
        bend=((z > 0) & (z < width)) / width,
    )


def squared_hinge(outputs: Floats, signs: Floats) -> Rows:
    """Squared hinge loss max(0, z)^2 = max over a >= 0 of a z - a^2 / 4: smooth as it is."""
    z = np.maximum(1 - signs * outputs, 0)
    a = 2 * z
    return Rows(
        loss=z * z, smooth=z * z, dual=a - a * a / 4, q=a * signs, bend=np.where(z > 0, 2.0, 0.0)
    )


def crammer_singer(outputs: Floats, y: NDArray[np.intp]) -> Floats:
    """Loss [B] of Crammer and Singer, max_k (o_k + [k != y]) - o_y."""
    own = outputs[np.arange(len(y)), y]
    rivals = outputs + 1
    rivals[np.arange(len(y)), y] -= 1
    return rivals.max(axis=1) - own


def nearest_shares(points: Floats) -> Floats:
    """The nearest points of the simplex: none negative, sum 1.

    Sorted, the largest entries that stay above the common shift are kept (Held, Wolfe and
    Crowder 1974).

    Args:
        points: [B, K].

    Example:
        >>> nearest_shares(np.array([[0.5, 1.5, 0.9]])).round(2).tolist()
        [[0.0, 0.8, 0.2]]
    """
    down = -np.sort(-points, axis=1)
    excess = down.cumsum(axis=1) - 1
    count = np.arange(1, points.shape[1] + 1)
    kept = (down * count > excess).sum(axis=1, keepdims=True)
    shift = np.take_along_axis(excess, kept - 1, axis=1) / kept
    return np.maximum(points - shift, 0.0)
