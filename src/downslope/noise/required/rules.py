"""Batch sizes for |g_B - G| <= error, each rule from known moments; draws with replacement.

`miss_probability`, above 0 and below 1, is the chance of a larger distance.
"""

from __future__ import annotations

import math

from scipy.special import chdtri


def three_moment_batch(
    trace: float, trace_square: float, trace_cube: float, *, error: float, miss_probability: float
) -> float:
    """Three moments, for a Gaussian mean: within 3 % of the batch needed, to a miss of 0.1 %.

    [k1 + (chi2_{v, 1 - miss} - v) sqrt(k2/(2 v))]/error^2 with k1 = tr Sigma,
    k2 = 2 tr(Sigma^2), k3 = 8 tr(Sigma^3), v = 8 k2^3/k3^2.

    Source: Buckley and Eagleson (1988), An approximation to the distribution of quadratic forms in
    normal random variables, equation 2; Hall (1983).
    """
    k2, k3 = 2 * trace_square, 8 * trace_cube
    v = 8 * k2 * (k2 / k3) ** 2  # in an order that neither over- nor underflows
    quantile = trace + (float(chdtri(v, miss_probability)) - v) * math.sqrt(k2 / (2 * v))
    return quantile / error**2


def chebyshev_batch(trace: float, *, error: float, miss_probability: float) -> float:
    """Rigorous for any noise of finite variance: tr Sigma/(error^2 miss)."""
    return trace / (error**2 * miss_probability)


def hilbert_bernstein_batch(
    variance: float, bound: float, *, error: float, miss_probability: float
) -> float:
    """Rigorous for |g_i - G| <= bound, in any dimension.

    The B at which sqrt(2 s^2 l/B) + 2 M l/B = error, l = ln(2/miss), s^2 >= E|g - G|^2 the
    variance and M the bound.

    Source: Pinelis (1994); Smale and Zhou (2007), Learning theory estimates via integral
    operators, lemma 1.
    """
    log = math.log(2 / miss_probability)
    s = math.sqrt(2 * variance * log)
    return ((s + math.sqrt(s * s + 8 * bound * log * error)) / (2 * error)) ** 2


def empirical_bernstein_batch(
    deviation: float, bound: float, *, error: float, miss_probability: float
) -> float:
    """Rigorous with an estimated variance: Hilbert Bernstein with half of the misses allowed.

    `deviation` is `empirical_deviation` at miss_probability/2, which takes the other half.
    """
    return hilbert_bernstein_batch(
        deviation**2, bound, error=error, miss_probability=miss_probability / 2
    )


def empirical_deviation(
    mean_half_square: float, num_pairs: int, bound: float, *, miss_probability: float
) -> float:
    """Upper bound of sqrt(tr Sigma) from pairs of examples, missed with at most this chance.

    sqrt(Y + c l/(2 h)) + sqrt(c l/(2 h)), c = 2 M^2, l = ln(1/miss), with Y the mean of
    |g_{2k-1} - g_{2k}|^2/2 over h disjoint pairs.

    Source: Bernstein's inequality for the lower tail of variables that are not negative, Boucheron,
    Lugosi and Massart (2013), Concentration inequalities, exercise 2.9.
    """
    slack = bound**2 * -math.log(miss_probability) / num_pairs
    return math.sqrt(mean_half_square + slack) + math.sqrt(slack)


def without_replacement(batch_size: float, num_rows: int) -> float:
    """Batch with the same variance drawn without replacement from N rows: B N/(N - 1 + B).

    Source: Cochran (1977), Sampling Techniques, equation 4.2.
    """
    return batch_size * num_rows / (num_rows - 1 + batch_size)
