"""What a shuffle leaves of an order, and exact truths of reshuffling in one dimension.

The truths are for steps theta <- theta - eta (theta - a_i) through n items, one at a time: the loss
is the mean of (theta - a_i)^2 / 2. For curvature lambda put eta * lambda for eta.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.order.batches import batch_variance_ratio, label_variance_ratio
from downslope.noise.statistics.delete_one import Floats, as_column
from downslope.noise.statistics.ranges import count, positive
from downslope.noise.tails.index import Indices


def shuffle_buffer_order(num_rows: int, buffer_size: int, seed: int = 0) -> Indices:
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
    n = count("num_rows", num_rows, 0)
    size = min(count("buffer_size", buffer_size), max(n, 1))
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
        return not_estimable("no items", unit="times", num_examples=0)
    ratio = label_variance_ratio if are_labels else batch_variance_ratio
    return ratio(items[index], batch_size).ratio


def variance_with_replacement(learning_rate: float, variance: float = 1.0) -> float:
    """Stationary variance eta sigma^2 / (2 - eta) when each step draws any item.

    Args:
        learning_rate: eta, between 0 and 2.
        variance: sigma^2 of the items a_i (divisor n).

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> round(variance_with_replacement(0.1), 4)
        0.0526
    """
    eta = _stable(learning_rate, 2.0)
    return eta * positive("variance", variance) / (2 - eta)


def variance_reshuffled(learning_rate: float, num_items: int, variance: float = 1.0) -> float:
    """Variance at the end of an epoch when every epoch draws a new order.

    sigma^2 n/(n-1) (sum w^2 - (sum w)^2/n) / (1 - q^2), w_j = eta (1-eta)^(n-1-j), q = (1-eta)^n;
    about (eta n)^2/12 of the variance with replacement while eta n is small.

    Args:
        learning_rate: eta, between 0 and 2.
        num_items: n >= 2.
        variance: sigma^2 of the items a_i (divisor n).

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> ratio = variance_reshuffled(1e-3, 100) / variance_with_replacement(1e-3)
        >>> print(f"{ratio:.2e} {0.1**2 / 12:.2e}")
        8.42e-04 8.33e-04

    Source: Mishchenko, Khaled and Richtarik 2020; this case derived exactly.
    """
    eta = _stable(learning_rate, 2.0)
    return _order_variance(eta, num_items, variance) / _one_minus_power(eta, 2 * num_items)


def shuffled_once_squared_bias(
    learning_rate: float, num_items: int, variance: float = 1.0
) -> float:
    """Mean squared distance from the optimum at the end of an epoch of an order drawn once.

    The numerator of `variance_reshuffled` over (1 - q)^2: the bias never averages out.

    Args:
        learning_rate: eta, between 0 and 2.
        num_items: n >= 2.
        variance: sigma^2 of the items a_i (divisor n).

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> once = shuffled_once_squared_bias(1e-3, 100)
        >>> print(f"{once / variance_reshuffled(1e-3, 100):.1f}")
        20.0
    """
    eta = _stable(learning_rate, 2.0)
    return _order_variance(eta, num_items, variance) / _one_minus_power(eta, num_items) ** 2


def fixed_order_bias(learning_rate: float, items: ArrayLike) -> float:
    """Distance from the optimum at the end of each epoch when the order never changes.

    sum_j w_j (a_j - mean) / (1 - q), with w and q as in `variance_reshuffled`.

    Args:
        learning_rate: eta, between 0 and 2.
        items: a_j in their order [n].

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> round(fixed_order_bias(0.1, [1.0, -1.0]), 6), round(-0.1 / (2 - 0.1), 6)
        (-0.052632, -0.052632)
    """
    eta, a = _stable(learning_rate, 2.0), as_column(items, "items")
    if not len(a) or not np.isfinite(a).all():
        raise UsageError("items must be finite, and at least one; got none, or one that is not")
    return float(_weights(eta, len(a)) @ (a - a.mean())) / _one_minus_power(eta, len(a))


def _order_variance(eta: float, num_items: int, variance: float) -> float:
    """Variance of sum w_j a_pi(j) over all orders pi."""
    n = count("num_items", num_items, 2)
    w = _weights(eta, n)
    return positive("variance", variance) * n / (n - 1) * float(((w - w.mean()) ** 2).sum())


def _weights(eta: float, n: int) -> Floats:
    return np.asarray(eta * (1 - eta) ** np.arange(n - 1, -1, -1), dtype=np.float64)


def _one_minus_power(eta: float, power: int) -> float:
    """1 - (1-eta)^power without loss of digits at small eta."""
    if eta >= 1:
        return 1 - (1 - eta) ** power
    return -math.expm1(power * math.log1p(-eta))


def _stable(learning_rate: float, most: float) -> float:
    if not 0 < learning_rate < most:
        raise UsageError(f"learning_rate must lie between 0 and {most:g}; got {learning_rate}")
    return float(learning_rate)
