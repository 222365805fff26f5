"""Largest eigenvalues and eigenvectors of the noise covariance.

Sigma is the covariance of per-example gradients. Rows may also be mean gradients of
microbatches of `batch_size` examples: then Sigma = batch_size * Cov(rows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.estimate import Estimate, not_estimable
from downslope.noise.covariance.rank import effective_rank
from downslope.noise.statistics.arrays import TOO_LARGE, Floats, array, centred
from downslope.noise.statistics.intervals import log_interval, measured

UNIT = "(loss/param)^2"
STABLE_ROWS = 10  # rows per effective rank for stable eigenvectors; assumed


@dataclass(frozen=True, kw_only=True)
class NoiseEigenpairs:
    """The largest eigenpairs of the noise covariance, with what limits them.

    Attributes:
        eigenvalues: largest first, each with its interval.
        vectors: [k, d], one unit eigenvector a row, its largest entry positive.
        effective_rank: (tr Sigma)^2 / tr(Sigma^2).
        flags: what else a reader must know.
    """

    eigenvalues: tuple[Estimate, ...]
    vectors: Floats
    effective_rank: Estimate
    flags: tuple[str, ...]


def top_eigenpairs(gradients: ArrayLike, num: int = 10, *, batch_size: int = 1) -> NoiseEigenpairs:
    """The `num` largest eigenvalues and eigenvectors of the noise covariance.

    With J the centred rows, J J'/(n-1) is n x n and has the eigenvalues of S = J'J/(n-1);
    u = J'v / sqrt((n-1) mu). The smaller of the two matrices is solved. Intervals: delete-one
    influence (u.(g_i - mean))^2 - mu on the log scale, Student's t. They hold the spread, not the
    upward bias of the largest eigenvalue when rows are few against the effective rank.

    Args:
        gradients: [n, d], n >= 2; per-example, or mean gradients of microbatches.
        num: eigenpairs asked for, 1 or more; fewer come back where fewer are visible.
        batch_size: examples behind each row.

    Raises:
        UsageError: gradients are not [n, d], or a count is below 1.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> gradients = rng.normal(size=(400, 1000)) * np.r_[9.0, 5.0, np.full(998, 0.05)]
        >>> found = top_eigenpairs(gradients, 2)  # variances 81 and 25
        >>> print(*found.eigenvalues, sep="; ")
        78.2 (68.9 to 88.8) (loss/param)^2; 26.2 (23.2 to 29.6) (loss/param)^2
        >>> print(f"{abs(found.vectors[0, 0]):.3f}")
        0.999

    Source: snapshots method, Sirovich 1987; influence of an eigenvalue, Critchley 1985.
    """
    rows = array("gradients", gradients, 2)
    num, batch_size = whole("num", num), whole("batch_size", batch_size)
    rank = effective_rank(rows, batch_size=batch_size)
    deviation = centred(rows)
    if isinstance(deviation, str):
        return NoiseEigenpairs(
            eigenvalues=(), vectors=np.zeros((0, rows.shape[1])), effective_rank=rank,
            flags=(deviation,),
        )  # fmt: skip
    values, vectors = _eigenpairs(deviation, num)
    flags = _flags(rows, rank, batch_size)
    if len(values) < num:
        flags += (f"{num} eigenpairs were asked for; {len(values)} are visible",)
    with np.errstate(over="ignore"):
        squares = (deviation @ vectors.T) ** 2
    return NoiseEigenpairs(
        eigenvalues=tuple(
            _eigenvalue(value, along, batch_size)
            for value, along in zip(values, squares.T, strict=True)
        ),
        vectors=vectors,
        effective_rank=rank,
        flags=flags,
    )


def _eigenpairs(deviation: Floats, num: int) -> tuple[Floats, Floats]:
    """Largest eigenvalues [k] of S and unit eigenvectors [k, d]; none below rounding."""
    n, d = deviation.shape
    scale = float(np.abs(deviation).max())  # so that squares neither overflow nor vanish
    small = deviation / scale
    if d <= n:
        values, vectors = np.linalg.eigh(small.T @ small / (n - 1))
        vectors = vectors.T
    else:
        values, mixing = np.linalg.eigh(small @ small.T / (n - 1))
        vectors = mixing.T @ small
    order = np.argsort(values)[::-1][: min(num, n - 1)]
    order = order[values[order] > values.max() * max(n, d) * np.finfo(float).eps]
    vectors = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
    peak = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    with np.errstate(over="ignore", under="ignore"):
        return values[order] * scale * scale, vectors * np.sign(peak)


def _eigenvalue(value: float, squares: Floats, batch_size: int) -> Estimate:
    """An eigenvalue with an interval from the spread of the squared projections of the rows."""
    n = len(squares)
    fields: dict[str, Any] = {"unit": UNIT, "num_examples": n * batch_size}
    if not 0 < value < math.inf:
        return not_estimable(TOO_LARGE, **fields)
    with np.errstate(over="ignore", invalid="ignore"):
        error = float((squares / value).std(ddof=1)) / math.sqrt(n)
    interval = log_interval(value * batch_size, error, n - 1) if n > 2 else None
    method = "Gram matrix; spread over rows, log scale"
    return measured(value * batch_size, interval, method=method, **fields)


def _flags(rows: Floats, rank: Estimate, batch_size: int) -> tuple[str, ...]:
    flags = []
    n, d = rows.shape
    least = rank.value if rank.value is not None else rank.lo
    if least is None:
        flags.append("the effective rank is not known: eigenvectors may be those of chance")
    elif n < STABLE_ROWS * least:
        flags.append(
            f"{n} rows are fewer than {STABLE_ROWS} times the effective rank {least:.3g}: "
            "large eigenvalues come out too large and eigenvectors are not stable"
        )
    if batch_size > 1:
        flags.append(
            f"rows are means over {batch_size} examples: "
            f"only {min(n - 1, d)} directions are visible"
        )
    return tuple(flags)
