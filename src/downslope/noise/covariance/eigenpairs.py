"""Shape of the gradient noise: eigenpairs, effective rank and tr(Sigma^2) of its covariance.

Sigma is the covariance of per-example gradients. Rows may also be mean gradients of
microbatches of `batch_size` examples: then Sigma = batch_size * Cov(rows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.estimate import Estimate, not_estimable
from downslope.noise.covariance.rank import effective_rank
from downslope.noise.covariance.sketches import sketch_error
from downslope.noise.statistics.delete_one import (
    TOO_LARGE,
    Floats,
    as_rows,
    centred,
    log_interval,
    measured,
)
from downslope.noise.statistics.ranges import count

UNIT = "(loss/param)^2"
STABLE = 10  # rows per effective rank for stable eigenvectors: sheet section 9, assumed


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The largest eigenpairs of the noise covariance, with what the rows can tell about them.

    Attributes:
        eigenvalues: largest first, each with its interval.
        vectors: [k, d], one unit eigenvector a row, its largest entry positive; of a sketch they
            lie in the space of the sketch.
        trace: of Sigma.
        effective_rank: (tr Sigma)^2 / tr(Sigma^2).
        num_visible: directions that the rows can show: no more than rows minus one.
        flags: what else a reader must know.
    """

    eigenvalues: tuple[Estimate, ...]
    vectors: Floats
    trace: Estimate
    effective_rank: Estimate
    num_visible: int
    flags: tuple[str, ...]


def top_eigenpairs(
    gradients: ArrayLike, num: int = 10, *, batch_size: int = 1, sketched: bool = False
) -> Spectrum:
    """The `num` largest eigenvalues and eigenvectors of the noise covariance.

    With J the centred rows, J J'/(n-1) is n x n and has the eigenvalues of S = J'J/(n-1);
    u = J'v / sqrt((n-1) mu). The smaller of the two matrices is solved. Intervals: delete-one
    influence (u.(g_i - mean))^2 - mu on the log scale, Student's t. They hold the spread, not the
    upward bias of the largest eigenvalue when rows are few against the effective rank.

    Args:
        gradients: [n, d], n >= 2; per-example, or mean gradients of microbatches.
        num: eigenpairs asked for, 1 or more; fewer come back where fewer are visible.
        batch_size: examples behind each row.
        sketched: the rows come from `sketch`: intervals take in its sqrt(2/d), the effective rank
            is corrected for it, and vectors stay in the space of the sketch.

    Returns:
        A `Spectrum`; without eigenvalues where the rows have no spread.

    Raises:
        UsageError: gradients are not [n, d], or a count is below 1.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> gradients = rng.normal(size=(400, 1000)) * np.r_[9.0, 5.0, np.full(998, 0.05)]
        >>> spectrum = top_eigenpairs(gradients, 2)  # variances 81 and 25
        >>> print(*spectrum.eigenvalues, sep="; ")
        78.2 (68.9 to 88.8) (loss/param)^2; 26.2 (23.2 to 29.6) (loss/param)^2
        >>> print(f"{abs(spectrum.vectors[0, 0]):.3f}")
        0.999

    Source: snapshots method, Sirovich 1987; influence of an eigenvalue, Critchley 1985.
    """
    rows = as_rows(gradients)
    num, batch_size = count("num", num), count("batch_size", batch_size)
    fields: dict[str, Any] = {"num_examples": len(rows) * batch_size}
    rank = effective_rank(rows, batch_size=batch_size, sketched=sketched)
    deviation = centred(rows)
    if isinstance(deviation, str):
        none = not_estimable(deviation, unit=UNIT, **fields)
        return Spectrum(
            eigenvalues=(), vectors=np.zeros((0, rows.shape[1])), trace=none,
            effective_rank=rank, num_visible=0, flags=(deviation,),
        )  # fmt: skip
    size = rows.shape[1] if sketched else None
    flags = _flags(rows, rank, batch_size=batch_size, sketched=sketched)
    values, vectors = _eigenpairs(deviation, num)
    visible = min(len(rows) - 1, rows.shape[1])
    if len(values) < num:
        flags += (f"{num} eigenpairs were asked for; {len(values)} are visible",)
    with np.errstate(over="ignore"):
        squares, norms = (deviation @ vectors.T) ** 2, (deviation**2).sum(axis=1)
    return Spectrum(
        eigenvalues=tuple(
            _mean_square(s, value, batch_size, size, "Gram matrix", fields)
            for s, value in zip(squares.T, values, strict=True)
        ),
        vectors=vectors,
        trace=_mean_square(norms, None, batch_size, size, "trace", fields),
        effective_rank=rank,
        num_visible=visible,
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


def _mean_square(
    squares: Floats, value: float | None, batch_size: int, size: int | None, what: str, fields
) -> Estimate:
    """Sum of squares over n-1 with an interval from its spread over the rows."""
    n = len(squares)
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(squares.sum()) / (n - 1) if value is None else float(value)
        if not 0 < value < math.inf:
            return not_estimable(TOO_LARGE, unit=UNIT, **fields)
        error = float((squares / value).std(ddof=1)) / math.sqrt(n)
    method = f"{what}; spread over rows, log scale"
    if size is not None:
        error = math.hypot(error, sketch_error(size))
        method += "; from a random projection"
    interval = log_interval(value * batch_size, error, n - 1) if n > 2 else None
    return measured(value * batch_size, interval, unit=UNIT, method=method, **fields)


def _flags(rows: Floats, rank: Estimate, *, batch_size: int, sketched: bool) -> tuple[str, ...]:
    flags = []
    n, d = rows.shape
    least = rank.value if rank.value is not None else rank.lo
    if least is None:
        flags.append("the effective rank is not known: eigenvectors may be those of chance")
    elif n < STABLE * least:
        flags.append(
            f"{n} rows are fewer than 10 times the effective rank {least:.3g}: "
            "large eigenvalues come out too large and eigenvectors are not stable"
        )
    if batch_size > 1:
        flags.append(
            f"rows are means over {batch_size} examples: "
            f"only {min(n - 1, d)} directions are visible"
        )
    if sketched:
        flags.append(
            f"from a random projection to {d} columns: norms and inner products to "
            f"{sketch_error(d):.1%} either way; eigenvalues are raised by about the trace over {d}"
        )
    return tuple(flags)
