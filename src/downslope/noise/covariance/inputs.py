"""Alignment of first-layer gradient noise with the principal components of the inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.noise.statistics.arrays import Floats, array


def input_alignment(weight_gradients: ArrayLike, inputs: ArrayLike, num: int = 3) -> Floats:
    """|cos| between leading directions of first-layer noise and of the inputs.

    Eigenvectors of the covariance over examples of dl/dW[:, o], [p, p], summed over the outputs
    o, against those of the covariance of the inputs. Only first-layer weights live in the space
    of the inputs.

    Args:
        weight_gradients: per-example gradients of the first weight matrix [n, p, outputs], or
            [n, p] for one output.
        inputs: [n, p].
        num: number of eigenvectors of each to compare.

    Returns:
        [num, num], noise eigenvector (row) by principal component (column); NaN where a value is
        not finite or there is one row only.

    Raises:
        UsageError: shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> inputs = rng.normal(size=(300, 3)) * [5.0, 1.0, 0.2]
        >>> gradients = inputs * rng.normal(size=(300, 1))  # linear regression at its optimum
        >>> print(f"{input_alignment(gradients, inputs)[0, 0]:.3f}")
        1.000
    """
    x = array("inputs", inputs, 2)
    grads = np.asarray(weight_gradients, dtype=np.float64)
    grads = grads[:, :, None] if grads.ndim == 2 else grads
    if grads.ndim != 3 or grads.shape[:2] != x.shape:
        raise UsageError(
            f"weight_gradients must have shape [{x.shape[0]}, {x.shape[1]}, outputs]; "
            f"got {list(grads.shape)}"
        )
    num = min(whole("num", num), x.shape[1])
    if not (np.isfinite(x).all() and np.isfinite(grads).all()) or len(x) < 2:
        return np.full((num, num), np.nan)
    noise = grads - grads.mean(axis=0)
    spread = x - x.mean(axis=0)
    sigma = np.einsum("npo,nqo->pq", noise, noise, optimize=True)
    return np.abs(_leading(sigma, num) @ _leading(spread.T @ spread, num).T)


def _leading(matrix: Floats, num: int) -> Floats:
    """Unit eigenvectors [num, p] of the largest eigenvalues, largest first."""
    return np.linalg.eigh(matrix)[1].T[::-1][:num]
