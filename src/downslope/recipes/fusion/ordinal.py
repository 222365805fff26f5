"""Ordered classes by cumulative links: one score, and thresholds that cannot cross.

`P(y <= k) = sigmoid(cut_k - score)` for the classes 0 to K-1, with K-1 cuts in ascending order
(McCullagh 1980, the proportional odds model; Agresti 2010, section 3.2). What is trained is
the first cut and a number for each gap, `gap = MIN_GAP + softplus(raw)`, so that no cut can cross
another.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import expit, log_expit

MIN_GAP = 1e-3  # a class without training rows keeps a finite loss; assumed, far below any data's


def initial_cuts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Cuts that give each class its share of the rows at score 0; half a row is added to each.

    Args:
        counts: rows of each class, [K].

    Example:
        >>> import numpy as np
        >>> at = cuts(initial_cuts(np.array([25, 50, 25])))
        >>> bool(abs(at[1]) > 1.0 and abs(at[0] + at[1]) < 1e-6)
        True
    """
    share = np.cumsum(counts + 0.5)[:-1] / np.sum(counts + 0.5)
    at = np.log(share / (1 - share))
    gaps = np.maximum(np.diff(at) - MIN_GAP, 1e-6)
    raw = gaps + np.log(-np.expm1(-gaps))  # the inverse of softplus
    return {"bias": at[:1].astype(np.float32), "gaps_bias": raw.astype(np.float32)}


def cuts(model: Any) -> np.ndarray:
    """The thresholds [K-1], ascending, in the unit of the score (log-odds)."""
    gaps = MIN_GAP + np.logaddexp(0, np.float64(model["gaps_bias"]))
    return np.concatenate([model["bias"], model["bias"] + np.cumsum(gaps)]).astype(np.float64)


def losses(score: Array, model: Any, target: Array) -> Array:
    """Negative log likelihood [B] of the classes, in nats.

    A class between cuts l < u has `sigmoid(u - s) - sigmoid(l - s)`, which is the product
    `sigmoid(u - s) sigmoid(s - l) (1 - exp(l - u))`: no difference of near numbers, so neither
    it nor its gradient is lost in float32 where the score is far off.

    Args:
        score: [B], in log-odds.
        model: the cuts as trained: `bias` [1] and `gaps_bias` [K-2].
        target: class numbers [B], 0 to K-1.
    """
    gaps = MIN_GAP + jax.nn.softplus(model["gaps_bias"])
    at = jnp.concatenate([model["bias"], model["bias"] + jnp.cumsum(gaps)])
    inner = jnp.concatenate([jnp.zeros(1), jnp.log(-jnp.expm1(-gaps)), jnp.zeros(1)])
    last = len(at)
    # by comparison and not by index: the gradient is a product, not a slow scatter
    is_class = target[:, None] == jnp.arange(last + 1)
    upper = (is_class[:, :-1] * at).sum(-1)
    lower = (is_class[:, 1:] * at).sum(-1)
    below = jnp.where(target < last, jax.nn.log_sigmoid(upper - score), 0.0)
    above = jnp.where(target > 0, jax.nn.log_sigmoid(score - lower), 0.0)
    return -(below + above + (is_class * inner).sum(-1))


def log_probabilities(score: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Logarithms of the classes' probabilities [n, K], in float64.

    Args:
        score: [n].
        at: cuts [K-1], ascending.

    Example:
        >>> import numpy as np
        >>> np.exp(log_probabilities(np.zeros(1), np.array([-1.0, 1.0]))).round(3).tolist()
        [[0.269, 0.462, 0.269]]
    """
    below = np.pad(log_expit(at - score[:, None]), ((0, 0), (0, 1)))
    above = np.pad(log_expit(score[:, None] - at), ((0, 0), (1, 0)))
    inner = np.log(-np.expm1(-np.diff(at)))
    return below + above + np.pad(inner, 1)


def at_most(score: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Probabilities [n, K-1] of a class up to each but the last."""
    return expit(at - score[:, None])
