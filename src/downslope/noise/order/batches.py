"""Factor by which the order of a data set, or of a shuffle buffer, inflates batch variances."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import NOT_FINITE, centred
from downslope.noise.statistics.intervals import measured

MIN_BATCHES = 20  # for the chi-square interval; assumed
UNIT = "times"


class VarianceRatio(NamedTuple):
    """F with its interval, and its two-sided p-value under a random order."""

    ratio: Estimate
    p_value: float | None


def batch_variance_ratio(values: ArrayLike, batch_size: int) -> VarianceRatio:
    """Batch variance ratio F, by which the order inflates the variance of a batch mean.

    F = B Var(means of consecutive batches) / Var(items): exactly 1 on average in random order,
    1 + (B-1) rho for batches of correlated items, about B for sorted data, below 1 where batches
    are balanced. For columns of a matrix, variances are summed (traces). Under a random order the
    sum of squares between batches over the total is near Beta(r(m-1)/2, r m(B-1)/2), r the
    effective rank of the columns: sd of F near sqrt(2/(r(m-1))). The interval takes batch means
    as independent.

    Args:
        values: numbers [n], or projected gradients [n, k]; labels go to `label_variance_ratio`.
        batch_size: B >= 2; n >= 20 B. A partial last batch is left out.

    Raises:
        UsageError: values have another shape, or batch_size < 1.

    Example:
        >>> found = batch_variance_ratio(np.sort(np.random.default_rng(0).normal(size=5000)), 50)
        >>> print(found.ratio)
        50 (39 to 68) times
        >>> print(batch_variance_ratio(np.random.default_rng(0).normal(size=5000), 50).ratio)
        1.07 (0.82 to 1.44) times

    Source: one-way analysis of variance; Cochran 1977, section 8.3 (systematic samples).
    """
    items = np.asarray(values, dtype=np.float64)
    items = items[:, None] if items.ndim == 1 else items
    if items.ndim != 2:
        raise UsageError(f"values must have shape [n] or [n, k]; got {list(items.shape)}")
    size = whole("batch_size", batch_size)
    if reason := _too_few(len(items), size):
        return _not_estimable(reason, len(items))
    if not np.isfinite(items).all():
        return _not_estimable(NOT_FINITE, len(items))
    num = len(items) // size
    deviation = centred(items[: num * size])
    if isinstance(deviation, str):
        return _not_estimable("every value is the same", len(items))
    deviation = deviation / np.abs(deviation).max()  # squares stay within range
    means = deviation.reshape(num, size, -1).mean(axis=1)
    between, total = size * float((means**2).sum()), float((deviation**2).sum())
    scatter = deviation.T @ deviation
    rank = float(np.trace(scatter)) ** 2 / float((scatter**2).sum())
    return _tested(between / total, num, size, rank, len(items))


def label_variance_ratio(labels: ArrayLike, batch_size: int) -> VarianceRatio:
    """Batch variance ratio F of class labels: of their indicator columns, variances summed.

    F = B Var(class shares of batches) / Var(indicators); see `batch_variance_ratio`.

    Args:
        labels: [n], of any type that sorts.
        batch_size: B >= 2; n >= 20 B.

    Raises:
        UsageError: labels are not [n], or batch_size < 1.

    Example:
        >>> sorted_by_class = np.repeat(list("abcdefghij"), 2000)
        >>> print(f"{label_variance_ratio(sorted_by_class, 50).ratio.value:.1f}")
        50.1
    """
    codes, counts = class_codes(labels)
    size = whole("batch_size", batch_size)
    if reason := _too_few(len(codes), size):
        return _not_estimable(reason, len(codes))
    num = len(codes) // size
    used = codes[: num * size]
    counts = np.bincount(used, minlength=len(counts)).astype(np.float64)
    if np.count_nonzero(counts) < 2:
        return _not_estimable("one class only", len(codes))
    # sum over batches and classes of the squared count, from the pairs that occur
    pairs = np.unique(np.repeat(np.arange(num), size) * len(counts) + used, return_counts=True)[1]
    p = counts / counts.sum()
    within = float((pairs.astype(np.float64) ** 2).sum()) / size
    between = within - num * size * float((p**2).sum())  # counts: exact in doubles
    total = num * size * (1 - float((p**2).sum()))
    square = float((p**2).sum() - 2 * (p**3).sum() + (p**2).sum() ** 2)
    rank = (1 - float((p**2).sum())) ** 2 / square
    return _tested(between / total, num, size, rank, len(codes))


def shuffle_buffer_order(num_rows: int, buffer_size: int, seed: int = 0) -> NDArray[np.int64]:
    """Order in which a streaming shuffle buffer gives out the rows 0, 1, ..., n-1.

    The buffer holds K rows; each time a random one of them leaves and the next of the stream takes
    its place. K = 1 changes nothing, K >= n is a full shuffle.

    Args:
        num_rows: n, 0 or more.
        buffer_size: K, 1 or more.
        seed: of the draws.

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


def class_codes(labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Classes numbered from 0, with the number of items in each."""
    names = np.asarray(labels)
    if names.ndim != 1:
        raise UsageError(f"labels must have shape [n]; got {list(names.shape)}")
    if not len(names):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    _, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    return codes.astype(np.int64), counts


def _tested(share: float, num: int, size: int, rank: float, n: int) -> VarianceRatio:
    """F and its p-value from the share of the sum of squares that lies between batches."""
    ratio = share * (num * size - 1) / (num - 1)
    freedom = rank * (num - 1)
    shape = freedom / 2, rank * num * (size - 1) / 2  # of the beta law of the share
    share = min(max(share, 0.0), 1.0)  # rounding
    tails = special.betainc(*shape, share), special.betaincc(*shape, share)
    p_value = min(1.0, 2 * float(min(tails)))
    interval = (
        ratio * freedom / float(special.chdtri(freedom, 0.025)),
        ratio * freedom / float(special.chdtri(freedom, 0.975)),
    )
    flags = (f"random order: 1 with standard deviation {math.sqrt(2 / freedom):.2g}",)
    if n % size:
        flags += (f"the last {n % size} items, a partial batch, are left out",)
    return VarianceRatio(
        measured(
            ratio, interval, unit=UNIT, num_examples=n, num_steps=num, flags=flags,
            method="variance between consecutive batches; chi-square interval",
        ),
        p_value,
    )  # fmt: skip


def _too_few(n: int, size: int) -> str | None:
    if size < 2:
        return "a batch of one example has no order"
    if n < MIN_BATCHES * size:
        return f"needs at least {MIN_BATCHES} batches, {MIN_BATCHES * size} items; got {n}"
    return None


def _not_estimable(reason: str, n: int) -> VarianceRatio:
    return VarianceRatio(not_estimable(reason, unit=UNIT, num_examples=n), None)
