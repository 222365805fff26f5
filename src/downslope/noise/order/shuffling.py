"""Order that a shuffle buffer leaves in a data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.order.batches import UNIT, batch_variance_ratio, label_variance_ratio


def shuffle_buffer_order(num_rows: int, buffer_size: int, seed: int = 0) -> NDArray[np.int64]:
    """Order in which a streaming shuffle buffer gives out the rows 0, 1, ..., n-1.

    The buffer holds K rows; each time a random one of them leaves and the next of the stream takes
    its place. K = 1 changes nothing, K >= n is a full shuffle.

    Args:
        num_rows: n, 0 or more.
        buffer_size: K, 1 or more.
        seed: of the draws.

    Returns:
        A permutation [n].

    Raises:
        UsageError: a count is out of range.

    Example:
        >>> order = shuffle_buffer_order(20000, 1000)
        >>> moved = order - np.arange(20000)
        >>> print(f"{moved.std():.0f}")  # near K
        979
    """
    n = whole("num_rows", num_rows, least=0)
    size = min(whole("buffer_size", buffer_size), max(n, 1))
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, size, max(n - size, 0)).tolist()
    buffer, out = list(range(size if n else 0)), []
    for row, pick in enumerate(picks, start=size):
        out.append(buffer[pick])
        buffer[pick] = row
    rest = rng.permutation(np.array(buffer, dtype=np.int64))
    return np.concatenate([np.array(out, dtype=np.int64), rest])


def order_after(
    values: ArrayLike, order: ArrayLike, batch_size: int, *, are_labels: bool = False
) -> Estimate:
    """Batch variance ratio F of a data set read in another order, such as a buffer's.

    Args:
        values: numbers [n] or [n, k], or labels [n]. Class numbers taken as numbers overstate F
            after a partial shuffle: a mix of classes 3 and 4 still has a mean near 3.5.
        order: permutation of 0 to n-1; item order[0] comes first.
        batch_size: B >= 2; n >= 20 B.
        are_labels: values are classes, of any type.

    Returns:
        F, as `batch_variance_ratio` gives it.

    Raises:
        UsageError: order is no permutation of the rows.

    Example:
        >>> labels = np.repeat(np.arange(10), 2000)  # sorted by class
        >>> small = shuffle_buffer_order(20000, 1000)  # a buffer of 5 % of the data
        >>> print(f"{order_after(labels, small, 50).value:.0f}")  # sorted: 50
        48

    Source: simulation, not a formula: the file's own values are read in that order.
    """
    items = np.asarray(values)
    index = np.asarray(order)
    if index.ndim != 1 or not np.array_equal(np.sort(index), np.arange(len(items))):
        raise UsageError(f"order must be a permutation of 0 to {len(items) - 1}; got another")
    if not len(items):
        return not_estimable("no items", unit=UNIT, num_examples=0)
    ratio = label_variance_ratio if are_labels else batch_variance_ratio
    return ratio(items[index], batch_size).ratio
