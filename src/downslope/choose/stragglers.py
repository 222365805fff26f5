"""How much longer than the mean a step takes that waits for the slowest of several workers."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence

from downslope.choose.ranges import Range, percentiles
from downslope.errors import UsageError

NUM_RESAMPLES = 200
SAMPLES_PER_WORKER = 20  # fewer say little about the slowest of so many


def exponential_wait(scale: float, num_workers: int, wait_for: int | None = None) -> float:
    """Expected time until k of p workers are done, whose times are exponential, less the mean.

    scale (H_p - H_(p-k) - 1), H the harmonic numbers; with k = p, waiting for all, scale
    (H_p - 1). Where times are a constant and an exponential part, `scale` is that of the part.

    Args:
        scale: mean of the exponential part in seconds, at least 0.
        num_workers: p.
        wait_for: k, 1 to p: how many are waited for, the others' work being dropped; None for
            all.

    Returns:
        Seconds; below 0 where so few are waited for that they are faster than the mean.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> exponential_wait(0.1, 16), exponential_wait(0.1, 16, wait_for=14)
        (0.238072..., 0.088072...)

    Source: Chen, Pan, Monga, Bengio and Jozefowicz (2016), Revisiting distributed synchronous
    SGD, section 3.
    """
    k = _check(scale, num_workers, wait_for)
    return scale * (sum(1 / i for i in range(num_workers - k + 1, num_workers + 1)) - 1)


def normal_wait(sd: float, num_workers: int, wait_for: int | None = None) -> float:
    """Expected time until k of p workers are done, whose times are normal, less the mean.

    sd Phi^-1((k - 0.375)/(p + 0.25)); for k = p 4.5 % high at 2 workers, within 1 % from 8 on.
    The bound sd sqrt(2 ln p) often seen in its place is a third too high at 16 workers.

    Args:
        sd: standard deviation of a worker's time in seconds, at least 0.
        num_workers: p.
        wait_for: k, 1 to p; None for all.

    Returns:
        Seconds; below 0 where less than half are waited for.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> normal_wait(0.1, 16)
        0.176...

    Source: Blom (1958), Statistical estimates and transformed beta-variables, chapter 6.
    """
    k = _check(sd, num_workers, wait_for)
    return sd * statistics.NormalDist().inv_cdf((k - 0.375) / (num_workers + 0.25))


def measured_wait(
    seconds: Sequence[float],
    num_workers: int,
    wait_for: int | None = None,
) -> Range:
    """Expected time until k of p workers are done, from measured times, less their mean.

    The sum over the sorted times x_i of x_i [P(i/n) - P((i-1)/n)], where P(u) is the chance
    that k of p draws lie in the lowest share u: u^p for k = p. No distribution is assumed.
    The interval by drawing the times anew.

    Args:
        seconds: times of single workers' steps, in any order.
        num_workers: p.
        wait_for: k, 1 to p; None for all.

    Returns:
        Not estimable with fewer than 20 times a worker: the slowest of p then lies beyond
        what was seen.

    Raises:
        UsageError: an argument outside its range, times that are not finite and above 0.

    Example:
        >>> times = [1 + 0.01 * i for i in range(101)]  # from 1 to 2 s, evenly
        >>> print(measured_wait(times, 4))
        303 (268 to 324) ms

    Source: the mean of an order statistic under the empirical distribution; Efron and
    Tibshirani (1993), An introduction to the bootstrap, section 4.
    """
    k = _check(0.0, num_workers, wait_for)
    for each in seconds:
        if not (math.isfinite(each) and each > 0):
            raise UsageError(f"seconds must be finite and above 0; got {each}")
    needed = SAMPLES_PER_WORKER * num_workers
    if len(seconds) < needed:
        reason = f"{len(seconds)} times are too few for {num_workers} workers; time {needed}"
        return Range(value=None, unit="s", reason=reason)
    weights = _weights(len(seconds), num_workers, k)
    draw = random.Random(0)  # the same times give the same interval
    drawn = [_excess(draw.choices(seconds, k=len(seconds)), weights) for _ in range(NUM_RESAMPLES)]
    value, (lo, hi) = _excess(seconds, weights), percentiles(drawn)
    return Range(value=value, lo=min(lo, value), hi=max(hi, value), unit="s")


def _weights(n: int, num_workers: int, k: int) -> list[float]:
    """Chance that the k-th of p draws is the i-th smallest of n."""
    from scipy.special import betainc

    below = betainc(k, num_workers - k + 1, [i / n for i in range(n + 1)]).tolist()
    return [b - a for a, b in itertools.pairwise(below)]


def _excess(seconds: Sequence[float], weights: list[float]) -> float:
    ordered = sorted(seconds)
    expected = math.fsum(x * w for x, w in zip(ordered, weights, strict=True))
    return expected - statistics.fmean(ordered)


def _check(scale: float, num_workers: int, wait_for: int | None) -> int:
    if not (math.isfinite(scale) and scale >= 0):
        raise UsageError(f"the spread of times must be finite and at least 0; got {scale}")
    if num_workers < 1:
        raise UsageError(f"num_workers must be 1 or more; got {num_workers}")
    k = num_workers if wait_for is None else wait_for
    if not 1 <= k <= num_workers:
        raise UsageError(f"wait_for must be 1 to num_workers ({num_workers}); got {k}")
    return k
