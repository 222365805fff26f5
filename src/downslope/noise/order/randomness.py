"""Is a sequence in random order? Neighbours of one class, autocorrelation, runs, and Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from downslope.errors import UsageError
from downslope.noise.order.batches import class_codes
from downslope.noise.statistics.delete_one import Floats, as_column, centred
from downslope.noise.statistics.ranges import count

LEAST_ITEMS = 20  # for the normal limits below; assumed
MOST_PERMUTED = 20_000  # items up to which neighbours are permuted; above, the limit is exact
NUM_PERMUTATIONS = 999
# Kurtosis of ranks; a value held by the share p alone has some 1/p. Measured: see ljung_box_test.
MOST_PEAKED = 5.0
LEAST_PRODUCTS = 5.0  # n / kurtosis^2: terms that really count in the sum of one lag; assumed


@dataclass(frozen=True, kw_only=True)
class OrderTest:
    """One test of "the order is random".

    Attributes:
        name: what was tested, by which test.
        statistic: the number seen.
        expected: its mean in a random order.
        p_value: two-sided; None where the test cannot be done, with the `reason`.
        adjusted: p-value after Holm's correction for all tests of a report.
        reason: why there is no p-value.
        detail: what else was found ("period 10").
    """

    name: str
    statistic: float | None = None
    expected: float | None = None
    p_value: float | None = None
    adjusted: float | None = None
    reason: str | None = None
    detail: str = ""


def expected_neighbours(counts: ArrayLike) -> float:
    """Mean number of neighbouring pairs of one class in a random order: sum n_c (n_c - 1) / n.

    Args:
        counts: items in each class.

    Raises:
        UsageError: counts are not [classes], or not all 0 or more.

    Example:
        >>> expected_neighbours([500] * 10)
        499.0
    """
    c = as_column(counts, "counts")
    if not (np.isfinite(c).all() and (c >= 0).all()):
        raise UsageError("counts must be finite and 0 or more; got one that is not")
    return float((c * (c - 1)).sum() / c.sum()) if c.sum() else 0.0


def neighbours_test(labels: ArrayLike, seed: int = 0, name: str = "neighbours") -> OrderTest:
    """Whether neighbours share a class more often, or less, than in a random order.

    p-value from 999 permutations up to 20,000 items, above from the normal limit with the exact
    variance of the number of runs.

    Args:
        labels: [n].
        seed: of the permutations.
        name: goes into the result.

    Raises:
        UsageError: labels are not [n].

    Example:
        >>> found = neighbours_test(np.repeat([0, 1], 100))
        >>> found.statistic, found.expected, found.p_value
        (198.0, 99.0, 0.001)

    Source: Barton and David 1957; permutation p-values: Phipson and Smyth 2010.
    """
    codes, counts = class_codes(labels)
    if len(codes) < LEAST_ITEMS or len(counts) < 2:
        reason = f"needs {LEAST_ITEMS} items of two classes; got {len(codes)} of {len(counts)}"
        return OrderTest(name=name, reason=reason)
    seen, mean = float((codes[1:] == codes[:-1]).sum()), expected_neighbours(counts)
    if len(codes) <= MOST_PERMUTED:
        rng = np.random.default_rng(seed)
        small = codes.astype(np.int32)
        gaps = np.empty(NUM_PERMUTATIONS)
        for i in range(NUM_PERMUTATIONS):
            rng.shuffle(small)
            gaps[i] = abs(float(np.count_nonzero(small[1:] == small[:-1])) - mean)
        at_least = np.count_nonzero(gaps >= abs(seen - mean) - 1e-9)
        p_value = (1 + float(at_least)) / (1 + NUM_PERMUTATIONS)
    else:
        variance = _runs_variance(counts)
        if variance <= 0:
            return OrderTest(name=name, reason="every order has the same number of neighbours")
        p_value = math.erfc(abs(seen - mean) / math.sqrt(2 * variance))
    return OrderTest(name=name, statistic=seen, expected=mean, p_value=p_value)


def runs_test(values: ArrayLike, name: str = "runs") -> OrderTest:
    """Number of runs in a sequence of two values, against a random order (Wald and Wolfowitz).

    Mean 2 n1 n2 / n + 1; few runs: clustered, many: alternating. Normal limit, exact variance.

    Args:
        values: [n], of two different values.
        name: goes into the result.

    Raises:
        UsageError: values are not [n].

    Example:
        >>> found = runs_test([0, 1] * 50)
        >>> found.statistic, found.expected, found.p_value < 1e-6
        (100.0, 51.0, True)

    Source: Wald and Wolfowitz 1940.
    """
    codes, counts = class_codes(values)
    if len(codes) < LEAST_ITEMS or len(counts) != 2:
        reason = f"needs {LEAST_ITEMS} items of two values; got {len(codes)} of {len(counts)}"
        return OrderTest(name=name, reason=reason)
    runs, n = 1.0 + float((codes[1:] != codes[:-1]).sum()), len(codes)
    mean = 2 * float(counts[0]) * float(counts[1]) / n + 1
    variance = _runs_variance(counts)
    if variance <= 0:
        return OrderTest(name=name, reason="every order has the same number of runs")
    p_value = math.erfc(abs(runs - mean) / math.sqrt(2 * variance))
    return OrderTest(name=name, statistic=runs, expected=mean, p_value=p_value)


def autocorrelations(values: ArrayLike, num_lags: int | None = None) -> Floats:
    """Autocorrelation at lags 1, 2, ...; mean -1/n and standard deviation 1/sqrt(n) at random.

    rho_k = sum_{t} (x_t - mean)(x_{t+k} - mean) / sum (x_t - mean)^2, by fast Fourier transform.

    Args:
        values: [n].
        num_lags: how many; None for n/10.

    Returns:
        [num_lags]; NaN throughout where the values do not vary or are not finite.

    Raises:
        UsageError: values are not [n], or num_lags is out of range.

    Example:
        >>> autocorrelations(np.tile([0.0, 0.0, 1.0], 100), 3).round(2).tolist()
        [-0.5, -0.5, 0.99]
    """
    x = as_column(values)
    most = max(1, len(x) // 10) if num_lags is None else count("num_lags", num_lags)
    if most >= max(len(x), 2):
        raise UsageError(f"num_lags must be below the {len(x)} values; got {num_lags}")
    deviation = centred(x[:, None])
    if isinstance(deviation, str):
        return np.full(most, np.nan)
    deviation = deviation[:, 0] / np.abs(deviation).max()
    size = 2 ** math.ceil(math.log2(len(x) + most))
    power = np.abs(np.fft.rfft(deviation, size)) ** 2
    return np.fft.irfft(power, size)[1 : most + 1] / float(deviation @ deviation)


def ljung_box_test(
    values: ArrayLike, num_lags: int | None = None, name: str = "autocorrelation"
) -> OrderTest:
    """Whether any lag up to n/10 is correlated; finds clusters as well as periods.

    Q = n(n+2) sum_k rho_k^2 / (n-k) is chi-square with `num_lags` degrees in a random order. One
    strong lag among many drowns in Q, so the largest |rho_k| sqrt(n), corrected for the number of
    lags (Sidak), is tested too, and the smaller p-value doubled.

    Of the ranks, so that a few large values do not decide. Ranks that nearly all are equal leave
    the limits void: where more than about 85 % of the values are the same it is not estimable. In
    simulation 5 % tests then rejected 4 to 8 % of random orders, of values Gaussian, log-normal,
    Student t2 and with 15 to 50 % other than 0; without ranks, up to 90 % of the skewed ones.

    Args:
        values: [n].
        num_lags: lags to scan; None for n/10.
        name: goes into the result.

    Returns:
        The statistic is the largest |rho| of the ranks; `detail` names its lag.

    Raises:
        UsageError: values are not [n], or num_lags is out of range.

    Example:
        >>> found = ljung_box_test(np.tile(np.arange(10.0), 100))
        >>> found.detail, found.p_value
        ('largest at lag 10', 0.0)

    Source: Ljung and Box 1978.
    """
    x = as_column(values)
    if len(x) < LEAST_ITEMS:
        return OrderTest(name=name, reason=f"needs {LEAST_ITEMS} values; got {len(x)}")
    if not np.isfinite(x).all() or not np.ptp(x):
        return OrderTest(name=name, reason="the values do not vary, or are not finite")
    ranks, peakedness = _ranks(x)
    if peakedness > min(MOST_PEAKED, math.sqrt(len(x) / LEAST_PRODUCTS)):
        return OrderTest(name=name, reason="nearly all values are the same")
    rho = autocorrelations(ranks, num_lags)
    n, lags = len(x), np.arange(1, len(rho) + 1)
    scaled = rho**2 * n * (n + 2) / (n - lags)
    p_all = float(special.chdtrc(len(rho), scaled.sum()))
    peak = int(scaled.argmax())
    single = math.erfc(math.sqrt(scaled[peak] / 2))
    p_one = -math.expm1(len(rho) * math.log1p(-single)) if single < 1 else 1.0
    return OrderTest(
        name=name, statistic=float(abs(rho[peak])), expected=0.0,
        p_value=min(1.0, 2 * min(p_all, p_one)), detail=f"largest at lag {lags[peak]}",
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm): the share of false alarms stays below alpha.

    The i-th smallest of m is multiplied by m - i + 1, and none may fall below the one before.

    Args:
        p_values: from 0 to 1.

    Returns:
        In the same order.

    Raises:
        UsageError: one lies outside 0 to 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p_values must lie between 0 and 1; got one that does not")
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted.tolist()


def _ranks(values: Floats) -> tuple[Floats, float]:
    """Ranks, the mean one for equal values, and their kurtosis."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    squares = (ranks - ranks.mean()) ** 2
    return ranks, float((squares**2).mean() / squares.mean() ** 2)


def _runs_variance(counts: np.ndarray) -> float:
    """Variance of the number of runs over all orders of items with these class counts."""
    c = counts.astype(np.float64)
    n, s2, s3 = float(c.sum()), float((c**2).sum()), float((c**3).sum())
    return (s2 * (s2 + n * (n + 1)) - 2 * n * s3 - n**3) / (n**2 * (n - 1))
