"""Random projections that keep norms and inner products, without ever holding the matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.noise.statistics.delete_one import Floats, as_rows
from downslope.noise.statistics.ranges import count

BLOCK_ENTRIES = 2**20  # of the random matrix in memory at once: 8 MB


def sketch(gradients: ArrayLike, size: int, seed: int = 0) -> Floats:
    """Rows projected onto `size` random directions; inner products stay right on average.

    Y = J R with R [d, size] of independent N(0, 1/size) entries, drawn block by block from
    `seed` and the block's number. E[Y_i . Y_j] = g_i . g_j; the standard deviation of |Y_i|^2 is
    sqrt(2/size) |g_i|^2 (`sketch_error`), that of Y_i . Y_j at most as much of |g_i||g_j|. Rows
    projected in several calls with one seed fit together, so J need not be held at once.

    Args:
        gradients: [n, d].
        size: number of columns to keep, 1 or more; 200 keeps norms within 10 %.
        seed: of the projection, 0 or more.

    Returns:
        [n, size].

    Raises:
        UsageError: gradients are not [n, d], or size < 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gradients = rng.normal(size=(20, 5000))
        >>> ratio = (sketch(gradients, 200) ** 2).sum(1) / (gradients**2).sum(1)
        >>> bool(abs(ratio - 1).max() < 3.5 * sketch_error(200))
        True

    Source: Johnson and Lindenstrauss 1984; variance of a chi-square with `size` degrees.
    """
    rows = as_rows(gradients)
    size = count("size", size)
    total = np.zeros((len(rows), size))
    with np.errstate(over="ignore", invalid="ignore"):
        for part, block in _blocks(rows.shape[1], size, seed):
            total += rows[:, part] @ block
    return total / math.sqrt(size)


def sketch_error(size: int) -> float:
    """Relative standard deviation sqrt(2/size) of a squared norm after projection.

    Example:
        >>> sketch_error(200)
        0.1
    """
    return math.sqrt(2 / count("size", size))


def random_projections(gradients: ArrayLike, num_directions: int, seed: int = 0) -> Floats:
    """Coordinates of each row along random unit directions, one column a direction.

    The marginal of a batch gradient along a direction drawn without looking at the data; use it
    for the tail over batches, where pooled coordinates would mix scales.

    Args:
        gradients: [m, d], one batch gradient a row.
        num_directions: number of columns, 1 or more.
        seed: of the directions, 0 or more.

    Returns:
        [m, num_directions].

    Raises:
        UsageError: gradients are not [m, d], or num_directions < 1.

    Example:
        >>> along = random_projections(np.eye(100), 3)  # the directions themselves
        >>> (along**2).sum(axis=0).round(12).tolist()
        [1.0, 1.0, 1.0]
    """
    rows = as_rows(gradients)
    num = count("num_directions", num_directions)
    total, squares = np.zeros((len(rows), num)), np.zeros(num)
    with np.errstate(over="ignore", invalid="ignore"):
        for part, block in _blocks(rows.shape[1], num, seed):
            total += rows[:, part] @ block
            squares += (block**2).sum(axis=0)
    return total / np.sqrt(np.maximum(squares, np.finfo(float).tiny))


def _blocks(num_rows: int, num_columns: int, seed: int) -> Iterator[tuple[slice, Floats]]:
    """Slices of a random matrix's rows, standard normal, the same whoever asks."""
    if seed < 0:
        raise UsageError(f"seed must be 0 or more; got {seed}")
    height = max(1, BLOCK_ENTRIES // num_columns)
    for number, start in enumerate(range(0, num_rows, height)):
        stop = min(start + height, num_rows)
        rng = np.random.default_rng([seed, num_columns, number])
        yield slice(start, stop), rng.standard_normal((stop - start, num_columns))
