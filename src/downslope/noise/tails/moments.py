"""How heavy a tail is: the moment estimator, max-to-sum ratios, and what averaging does to it."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.delete_one import as_column, linear_interval, measured
from downslope.noise.statistics.ranges import positive
from downslope.noise.tails.index import GIVEN_K, checked_tail, tail_logs, unusable


def moment_index(x: ArrayLike, num_tail: int) -> Estimate:
    """Extreme-value index xi = 1/alpha by moments; also for light tails, where xi <= 0.

    xi = M1 + 1 - (1/2) / (1 - M1^2/M2), M_j = mean over i <= k of ln(x_(i)/x_(k+1))^j. Variance
    over k: 1 + xi^2 for xi >= 0, else (1-xi)^2 (1-2xi) times a bracket of xi.

    Args:
        x: [n], 0 or more.
        num_tail: k, from 2 to n - 1.

    Returns:
        Unit ""; 0 for Gaussian or log-normal tails in the limit, below 0 for a finite end.

    Raises:
        UsageError: x is not [n], or num_tail is out of range.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).pareto(2.0, 20000) + 1
        >>> print(moment_index(x, 2000))  # truth: 0.5
        0.494 (0.445 to 0.542)

    Source: Dekkers, Einmahl and de Haan 1989, equation 1.7 and corollary 3.2.
    """
    values = as_column(x, "x")
    fields = {"unit": "", "num_examples": len(values), "method": f"moments, k = {num_tail}"}
    if reason := unusable(values):
        return not_estimable(reason, **fields)
    k = checked_tail(num_tail, len(values))
    logs = tail_logs(values, k)
    if isinstance(logs, str):
        return not_estimable(logs, **fields)
    m1, m2 = float(logs.mean()), float((logs**2).mean())
    if not m1**2 < m2 * (1 - 1e-12):
        return not_estimable("the tail values are all the same", **fields)
    xi = m1 + 1 - 0.5 / (1 - m1**2 / m2)
    interval = linear_interval(xi, math.sqrt(_moment_variance(xi) / k), math.inf)
    return measured(xi, interval, flags=(GIVEN_K,), **fields)


def max_to_sum(x: ArrayLike, power: float = 2.0) -> Estimate:
    """Share of the largest term in a sum of powers: R_n(p) = max x^p / sum x^p.

    It goes to 0 as n grows if and only if E x^p is finite; for a tail alpha < p it settles at
    random values with E[1/R] -> 1/(1 - alpha/p).

    Args:
        x: [n], 0 or more.
        power: p > 0.

    Returns:
        A share without interval.

    Raises:
        UsageError: x is not [n], or power is not positive.

    Example:
        >>> import numpy as np
        >>> print(max_to_sum([1.0, 2.0, 7.0], 2), max_to_sum(np.ones(1000), 2))
        0.907 share 0.001 share

    Source: Maller and Resnick 1984; limit of the mean: Darling 1952, theorem 5.1.
    """
    values, p = as_column(x, "x"), positive("power", power)
    fields = {
        "unit": "share",
        "num_examples": len(values),
        "method": f"largest over sum, p = {p:g}",
    }
    if reason := unusable(values):
        return not_estimable(reason, **fields)
    return measured(1 / float(((values / values.max()) ** p).sum()), **fields)


def stable_mean_scale(batch_size: float, alpha: float) -> float:
    """Factor B^(1/alpha - 1) by which averaging B alpha-stable terms changes their scale.

    alpha = 2: B^-1/2. alpha = 1.5: only B^-1/3. alpha = 1: averaging does not help at all.

    Args:
        batch_size: B, 1 or more.
        alpha: from 0 (left out) to 2.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> round(stable_mean_scale(64, 2.0), 4), round(stable_mean_scale(64, 1.5), 4)
        (0.125, 0.25)

    Source: Samorodnitsky and Taqqu 1994, property 1.2.1.
    """
    if not 0 < alpha <= 2:
        raise UsageError(f"alpha must be above 0 and at most 2; got {alpha}")
    if not (math.isfinite(batch_size) and batch_size >= 1):
        raise UsageError(f"batch_size must be 1 or more; got {batch_size}")
    return float(batch_size ** (1 / alpha - 1))


def _moment_variance(xi: float) -> float:
    if xi >= 0:
        return 1 + xi**2
    bracket = 4 - 8 * (1 - 2 * xi) / (1 - 3 * xi)
    bracket += (5 - 11 * xi) * (1 - 2 * xi) / ((1 - 3 * xi) * (1 - 4 * xi))
    return (1 - xi) ** 2 * (1 - 2 * xi) * bracket
