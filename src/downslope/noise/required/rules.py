"""Batch sizes for |g_B - G| <= error with a given chance, each rule from known moments.

Floats in, floats out; batches drawn with replacement. `without_replacement` converts. In all of
them `miss_probability` is the chance of a larger distance, above 0 and below 1.
"""

from __future__ import annotations

import math

from scipy.special import chdtri

from downslope.errors import UsageError
from downslope.noise.statistics.ranges import positive


def satterthwaite_batch(
    trace: float, trace_square: float, *, error: float, miss_probability: float
) -> float:
    """Two moments: (tr Sigma/error^2) chi2_{r, 1 - miss}/r, r = (tr Sigma)^2/tr(Sigma^2).

    Approximate, for a Gaussian mean; 8 to 17 % low at a miss of 1 % if one direction dominates.

    Example:
        >>> round(satterthwaite_batch(4.5, 1.62, error=0.5, miss_probability=0.1), 1)
        27.6

    Source: Satterthwaite (1946), An approximate distribution of estimates of variance components.
    """
    _check(trace, error, miss_probability)
    rank = trace**2 / positive("trace_square", trace_square)
    return trace / error**2 * float(chdtri(rank, miss_probability)) / rank


def three_moment_batch(
    trace: float,
    trace_square: float,
    trace_cube: float,
    *,
    error: float,
    miss_probability: float,
) -> float:
    """Three moments: the batch that is needed, within 3 % down to a miss of 0.1 %.

    [k1 + (chi2_{v, 1 - miss} - v) sqrt(k2/(2 v))]/error^2 with k1 = tr Sigma,
    k2 = 2 tr(Sigma^2), k3 = 8 tr(Sigma^3), v = 8 k2^3/k3^2. Approximate, for a Gaussian mean.

    Example:
        >>> round(three_moment_batch(4.0, 4.0, 4.0, error=0.5, miss_probability=0.1), 2)
        31.12

    Source: Buckley and Eagleson (1988), An approximation to the distribution of quadratic forms in
    normal random variables, equation 2; Hall (1983).
    """
    _check(trace, error, miss_probability)
    k2 = 2 * positive("trace_square", trace_square)
    k3 = 8 * positive("trace_cube", trace_cube)
    v = 8 * k2 * (k2 / k3) ** 2  # in an order that neither over- nor underflows
    quantile = trace + (float(chdtri(v, miss_probability)) - v) * math.sqrt(k2 / (2 * v))
    return quantile / error**2


def borell_tis_batch(
    trace: float, largest_eigenvalue: float, *, error: float, miss_probability: float
) -> float:
    """(sqrt(tr Sigma) + sqrt(2 lambda_1 ln(1/miss)))^2/error^2: rigorous for Gaussian noise.

    Example:
        >>> round(borell_tis_batch(4.5, 1.0, error=0.5, miss_probability=0.1), 1)
        72.8

    Source: Boucheron, Lugosi and Massart (2013), Concentration inequalities, theorem 5.8.
    """
    _check(trace, error, miss_probability)
    reach = math.sqrt(
        2 * positive("largest_eigenvalue", largest_eigenvalue) * -math.log(miss_probability)
    )
    return (math.sqrt(trace) + reach) ** 2 / error**2


def chebyshev_batch(trace: float, *, error: float, miss_probability: float) -> float:
    """Trace of Sigma over error^2 miss: rigorous, needs no more than a finite variance.

    Example:
        >>> chebyshev_batch(4.5, error=0.5, miss_probability=0.1)
        180.0
    """
    _check(trace, error, miss_probability)
    return trace / (error**2 * miss_probability)


def hilbert_bernstein_batch(
    variance: float, bound: float, *, error: float, miss_probability: float
) -> float:
    """Rigorous for |g_i - G| <= bound, in any dimension.

    The B at which sqrt(2 s^2 l/B) + 2 M l/B = error, l = ln(2/miss).

    Args:
        variance: s^2 >= E|g - G|^2.
        bound: M >= |g_i - G|.

    Example:
        >>> round(hilbert_bernstein_batch(4.5, 4.5**0.5, error=0.5, miss_probability=0.1), 5)
        154.50347

    Source: Pinelis (1994); Smale and Zhou (2007), Learning theory estimates via integral
    operators, lemma 1.
    """
    _check(variance, error, miss_probability)
    positive("bound", bound)
    return _solve_bernstein(variance, bound, error, math.log(2 / miss_probability))


def vector_bernstein_batch(
    variance: float, bound: float, *, error: float, miss_probability: float
) -> float | None:
    """8 s^2 (ln(1/miss) + 1/4)/error^2: rigorous; None unless error < variance/bound.

    Args:
        variance: s^2 >= E|g - G|^2.
        bound: M >= |g_i - G|.

    Example:
        >>> round(vector_bernstein_batch(4.5, 4.5**0.5, error=0.5, miss_probability=0.1), 1)
        367.6

    Source: Gross (2011), Recovering low-rank matrices from few coefficients, theorem 12; Kohler
    and Lucchi (2017), lemma 6.
    """
    _check(variance, error, miss_probability)
    if error >= variance / positive("bound", bound):
        return None
    return 8 * variance * (-math.log(miss_probability) + 0.25) / error**2


def empirical_deviation(
    mean_half_square: float, num_pairs: int, bound: float, *, miss_probability: float
) -> float:
    """Upper bound of sqrt(tr Sigma) from pairs of examples, missed with at most this chance.

    sqrt(Y + c l/(2 h)) + sqrt(c l/(2 h)), c = 2 M^2, l = ln(1/miss).

    Args:
        mean_half_square: Y, mean of |g_{2k-1} - g_{2k}|^2/2 over the pairs.
        num_pairs: h, disjoint pairs.
        bound: M >= |g_i - G|.

    Example:
        >>> round(empirical_deviation(4.5, 500, 4.0, miss_probability=0.05), 2)
        2.45

    Source: Bernstein's inequality for the lower tail of variables that are not negative, Boucheron,
    Lugosi and Massart (2013), Concentration inequalities, exercise 2.9.
    """
    slack = positive("bound", bound) ** 2 * -math.log(miss_probability) / num_pairs
    return math.sqrt(mean_half_square + slack) + math.sqrt(slack)


def empirical_bernstein_batch(
    deviation: float, bound: float, *, error: float, miss_probability: float
) -> float:
    """Rigorous with the variance estimated: Hilbert Bernstein with half of the misses allowed.

    Args:
        deviation: `empirical_deviation` at miss_probability/2, which takes the other half.
        bound: M >= |g_i - G|.

    Example:
        >>> round(empirical_bernstein_batch(2.48, 4.0, error=0.5, miss_probability=0.1), 1)
        287.4
    """
    _check(deviation**2, error, miss_probability)
    positive("bound", bound)
    return _solve_bernstein(deviation**2, bound, error, math.log(4 / miss_probability))


def empirical_bernstein_error(
    deviation: float, bound: float, num_examples: int, *, miss_probability: float
) -> float:
    """Distance that the mean of n examples keeps: sigma sqrt(2 l/n) + 2 M l/n, l = ln(4/miss).

    Arguments as for `empirical_bernstein_batch`.

    Example:
        >>> round(empirical_bernstein_error(2.48, 4.0, 1000, miss_probability=0.1), 3)
        0.243
    """
    _check(deviation**2, 1.0, miss_probability)
    log = math.log(4 / miss_probability)
    return deviation * math.sqrt(2 * log / num_examples) + 2 * bound * log / num_examples


def without_replacement(batch_size: float, num_rows: int) -> float:
    """The batch that does the same without replacement from N rows: B N/(N - 1 + B).

    Exact for rules that need the variance alone; it never exceeds N.

    Example:
        >>> round(without_replacement(500, 800), 5)
        307.92918

    Source: Cochran (1977), Sampling Techniques, equation 4.2.
    """
    if num_rows < 1:
        raise UsageError(f"num_rows must be at least 1; got {num_rows}")
    if not batch_size > 0:
        raise UsageError(f"batch_size must be above 0; got {batch_size}")
    return batch_size * num_rows / (num_rows - 1 + batch_size)


def _solve_bernstein(variance: float, bound: float, error: float, log: float) -> float:
    s = math.sqrt(2 * variance * log)
    return ((s + math.sqrt(s * s + 8 * bound * log * error)) / (2 * error)) ** 2


def _check(trace: float, error: float, miss_probability: float) -> None:
    positive("trace", trace)
    positive("error", error)
    if not 0 < miss_probability < 1:
        raise UsageError(f"miss_probability must be above 0 and below 1; got {miss_probability}")
