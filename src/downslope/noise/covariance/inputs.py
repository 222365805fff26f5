"""First-layer gradient noise against the principal components of the inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.covariance.profile import correlations
from downslope.noise.statistics.delete_one import Floats, as_rows, measured
from downslope.noise.statistics.ranges import count

LEAST_INPUTS = 3


def direction_cosines(first: ArrayLike, second: ArrayLike) -> Floats:
    """|cos| of the angle between each vector of one set and each of another.

    Args:
        first: [k, p], one vector a row.
        second: [m, p].

    Returns:
        [k, m], from 0 to 1; NaN for a zero or non-finite vector.

    Raises:
        UsageError: the vectors differ in length.

    Example:
        >>> direction_cosines([[1, 0]], [[3, 4], [0, 2]]).round(3).tolist()
        [[0.6, 0.0]]
    """
    a, b = as_rows(first, "first"), as_rows(second, "second")
    if a.shape[1] != b.shape[1]:
        raise UsageError(f"vectors must be of one length; got {a.shape[1]} and {b.shape[1]}")
    return np.abs(_units(a) @ _units(b).T)


@dataclass(frozen=True, kw_only=True)
class InputAlignment:
    """First-layer gradient noise against the inputs' principal components.

    Attributes:
        cosines: [k, k], |cos| of noise eigenvector (row) with principal component (column).
        noise_variances: [k], largest eigenvalues of the noise covariance over inputs.
        input_variances: [k], largest eigenvalues of the input covariance.
        log_correlation: correlation of the logarithms of both diagonals, input by input.
    """

    cosines: Floats
    noise_variances: Floats
    input_variances: Floats
    log_correlation: Estimate


def input_alignment(weight_gradients: ArrayLike, inputs: ArrayLike, num: int = 3) -> InputAlignment:
    """Whether the first layer's gradient noise follows the principal components of the inputs.

    Cov over examples of dl/dW[:, o], [p, p], summed over the outputs o, against Cov of the inputs.
    Only first-layer weights live in the space of the inputs.

    Args:
        weight_gradients: per-example gradients of the first weight matrix [n, p, outputs], or
            [n, p] for one output.
        inputs: [n, p].
        num: how many eigenvectors of each to compare.

    Returns:
        An `InputAlignment`; cosines are NaN where rows have no spread.

    Raises:
        UsageError: shapes do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> inputs = rng.normal(size=(300, 3)) * [5.0, 1.0, 0.2]
        >>> gradients = inputs * rng.normal(size=(300, 1))  # linear regression at its optimum
        >>> print(f"{input_alignment(gradients, inputs).cosines[0, 0]:.3f}")
        1.000
    """
    x = as_rows(inputs, "inputs")
    grads = np.asarray(weight_gradients, dtype=np.float64)
    grads = grads[:, :, None] if grads.ndim == 2 else grads
    if grads.ndim != 3 or grads.shape[:2] != x.shape:
        raise UsageError(
            f"weight_gradients must have shape [{x.shape[0]}, {x.shape[1]}, outputs]; "
            f"got {list(grads.shape)}"
        )
    num = min(count("num", num), x.shape[1])
    if not (np.isfinite(x).all() and np.isfinite(grads).all()) or len(x) < 2:
        none = np.full(num, np.nan)
        return InputAlignment(
            cosines=np.full((num, num), np.nan), noise_variances=none, input_variances=none,
            log_correlation=not_estimable("a value is not finite, or one row", unit=""),
        )  # fmt: skip
    noise = grads - grads.mean(axis=0)
    spread = x - x.mean(axis=0)
    sigma = np.einsum("npo,nqo->pq", noise, noise, optimize=True) / (len(x) - 1)
    cov = spread.T @ spread / (len(x) - 1)
    (noise_values, noise_vectors), (input_values, input_vectors) = _top(sigma, num), _top(cov, num)
    return InputAlignment(
        cosines=direction_cosines(noise_vectors, input_vectors),
        noise_variances=noise_values,
        input_variances=input_values,
        log_correlation=_log_correlation(np.diag(sigma), np.diag(cov), len(x)),
    )


def _log_correlation(noise: Floats, spread: Floats, n: int) -> Estimate:
    both = (noise > 0) & (spread > 0)
    if both.sum() < LEAST_INPUTS:
        return not_estimable("needs 3 inputs that vary", unit="", num_examples=n)
    one = correlations(np.log(noise[both])[None], np.log(spread[both]))[0]
    if not math.isfinite(one):
        return not_estimable("all inputs vary alike", unit="", num_examples=n)
    return measured(float(one), unit="", num_examples=n, method="Pearson, over inputs")


def _top(matrix: Floats, num: int) -> tuple[Floats, Floats]:
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:num], vectors.T[::-1][:num]


def _units(vectors: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        vectors = vectors / np.abs(vectors).max(axis=1, keepdims=True)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
