"""Smallest batch whose gradient lies within a given distance of the full one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri

from downslope.arguments import number, whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.scale.steps import SIGNAL
from downslope.noise.statistics.intervals import monotone
from downslope.noise.statistics.sample import Sample, read_sample

__all__ = ["RequiredBatch", "required_batch"]

NUM_GROUPS = 10  # of the jackknife over groups of examples
HEURISTIC = "heuristic_bound: the largest norm seen stands for the largest possible"
ESTIMATED = "the variance is estimated; the rule takes it as known"


@dataclass(frozen=True, kw_only=True)
class RequiredBatch:
    """Batch sizes by rule, in examples, for one distance and one chance of missing it.

    Attributes:
        needed: three moments of Gaussian noise: the true need, within a few per cent.
        guaranteed: Chebyshev: enough for any noise of this variance.
        rules: every rule by name; `flags` state what each assumes.
        error: the distance; an estimate if it was given relative to |G|.
    """

    needed: Estimate
    guaranteed: Estimate
    rules: Mapping[str, Estimate]
    error: Estimate


class _Moments(NamedTuple):
    trace: float
    square: float
    cube: float
    bound: float


def required_batch(
    gradients: ArrayLike,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    miss_probability: float = 0.1,
    num_rows: int | None = None,
    bound: float | None = None,
) -> RequiredBatch:
    """Smallest B with |g_B - G| <= error except with probability `miss_probability`, by rule.

    Three rules: `three moments` (approximate), and the rigorous `chebyshev` and `hilbert
    bernstein`, of which the latter needs a bound. Intervals come from a jackknife
    over 10 groups of examples, on the log scale, and with `relative_error` from the interval of
    |G|^2 as well.

    Args:
        gradients: [n, d], n >= 5, independent draws of one example's gradient.
        error: distance in units of the gradient, or
        relative_error: distance as a share of |G|; one of the two.
        miss_probability: chance of a larger distance, above 0 and below 1.
        num_rows: N, for batches drawn without replacement; None: with, or a stream.
        bound: M >= |g_i - G| for every possible example, such as twice the norm at which single
            gradients are clipped. None: the largest seen, which proves nothing.

    Returns:
        No values where the error is relative to a |G|^2 that cannot be told from 0. A sample does
        not show infinite variance, for which none of the rules holds.

    Raises:
        UsageError: not exactly one error; an argument outside its range.

    Example:
        >>> rng = np.random.default_rng(0)  # tr Sigma = 100, error 2: 100/4 = 25 on average
        >>> found = required_batch(rng.normal(size=(400, 100)), error=2.0)
        >>> print(found.needed, "|", found.guaranteed)
        29.73 (29.47 to 30.00) examples | 250.9 (248.8 to 253.1) examples

    Source: Buckley and Eagleson (1988), equation 2; Smale and Zhou (2007), lemma 1; Byrd et al.
    (2012), Sample size selection in optimization methods, equation 3.3, for the relative error.
    """
    if (error is None) == (relative_error is None):
        raise UsageError("error, relative_error must be exactly one of them; got both or neither")
    for name, value in (("error", error), ("relative_error", relative_error), ("bound", bound)):
        number(name, value, above=0, optional=True)
    number("miss_probability", miss_probability, above=0, below=1)
    whole("num_rows", num_rows, optional=True)
    sample = read_sample(gradients)
    if not isinstance(sample, str) and sample.num < 5:
        sample = f"{sample.num} examples: at least 5 are needed"
    if isinstance(sample, str):
        return _nothing(sample)
    moments = _moments(sample, bound)
    if isinstance(moments, str):
        return _nothing(moments, sample.num)
    target = _target(sample, error, relative_error)
    if target.value is None:
        return _nothing(str(target.reason), sample.num, target)
    found = _by_rule(moments, target.value, miss_probability, bound is not None)
    errors = _log_errors(sample, target.value, miss_probability, bound)
    by_rule = {
        name: _estimate(batch, errors.get(name), assumes, target, num_rows, sample.num)
        for name, (batch, assumes) in found.items()
    }
    rank = moments.trace**2 / moments.square
    if sample.num < 3 * rank:
        flag = f"{sample.num} examples are few for noise of effective rank {rank:.0f}"
        by_rule["three moments"] = by_rule["three moments"].flagged(flag)
    return RequiredBatch(
        needed=by_rule["three moments"],
        guaranteed=by_rule["chebyshev"],
        rules=by_rule,
        error=target,
    )


def _moments(sample: Sample, bound: float | None) -> _Moments | str:
    """Bias-corrected moments of the noise, or the reason why there are too few examples."""
    seen = math.sqrt(float(sample.squares.max()))
    if bound is not None and bound < seen * (1 - 1 / sample.num) - 1e-9 * seen:
        raise UsageError(
            f"bound must be at least the largest |g_i - mean| seen, {seen:.6g}; got {bound}"
        )
    # for any covariance t2 <= t1^2 and t2^2/t1 <= t3 <= t2^1.5, which estimates may overstep
    square, cube = sample.trace_square, trace_cube(sample)
    if square <= 0:
        return "tr(Sigma^2) is lost in its error: more examples are needed"
    square = min(square, sample.trace**2)
    cube = min(max(cube, square**2 / sample.trace), square**1.5)
    return _Moments(sample.trace, square, cube, bound if bound is not None else seen)


def trace_cube(sample: Sample) -> float:
    """tr(Sigma^3), unbiased for Gaussian noise; may be negative.

    With f = n - 1 the expectations of tr S^3, tr S^2 tr S and (tr S)^3 are linear in
    tr Sigma^3, tr Sigma^2 tr Sigma and (tr Sigma)^3; the system is solved for the first.

    Source: Letac and Massam (2004), All invariant moments of the Wishart distribution, section 4.
    """
    f, s = sample.num - 1, sample.gram
    squared = s @ s
    seen = [float((squared * s.T).sum()), float((s * s.T).sum()) * sample.trace, sample.trace**3]
    mixing = np.array(
        [
            [1 + 3 / f + 4 / f**2, 3 / f + 3 / f**2, 1 / f**2],
            [4 / f + 4 / f**2, 1 + 1 / f + 4 / f**2, 1 / f],
            [8 / f**2, 6 / f, 1.0],
        ]
    )
    return float(np.linalg.solve(mixing, seen)[0])


def _target(sample: Sample, error: float | None, relative_error: float | None) -> Estimate:
    """The distance, with the interval of |G| if it is relative to that."""
    unit = "loss/parameter"
    if error is not None:
        return Estimate(value=error, unit=unit, method="as given")
    share, part = float(relative_error or 0.0), sample.signal_part()
    method = f"{share:g} |G|"
    if part.lo <= 0 or part.value <= 0:
        return not_estimable(f"{SIGNAL} cannot be told from 0", unit=unit, method=method)
    value, lo, hi = (share * math.sqrt(s) for s in (part.value, part.lo, part.hi))
    return Estimate(value=value, lo=lo, hi=hi, unit=unit, method=method)


def _log_errors(
    sample: Sample, error: float, miss_probability: float, bound: float | None
) -> dict[str, float]:
    """Half the 95 % interval of log B by rule; empty where a group of examples is decisive."""
    num_groups = min(NUM_GROUPS, sample.num)
    group = np.random.default_rng(0).permutation(sample.num) % num_groups
    logs: dict[str, list[float]] = {}
    for k in range(num_groups):
        moments = _moments(sample.kept(np.flatnonzero(group != k)), None)
        if isinstance(moments, str):
            return {}
        if bound is not None:
            moments = moments._replace(bound=bound)
        for name, (batch, _) in _by_rule(moments, error, miss_probability, True).items():
            logs.setdefault(name, []).append(math.log(batch))
    t = t_quantile(num_groups - 1)
    return {
        name: t * math.sqrt((num_groups - 1) * float(np.var(values)))
        for name, values in logs.items()
    }


def _by_rule(
    m: _Moments, error: float, miss: float, is_bounded: bool
) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Batch size with replacement and the assumptions behind it, by rule."""
    aim: dict[str, Any] = dict(error=error, miss_probability=miss)
    normal = "approximate: the batch mean is taken as Gaussian"
    limit = "every example keeps to the bound that was given" if is_bounded else HEURISTIC
    return {
        "three moments": (three_moment_batch(m.trace, m.square, m.cube, **aim), (normal,)),
        "chebyshev": (chebyshev_batch(m.trace, **aim), ("the variance is finite", ESTIMATED)),
        "hilbert bernstein": (
            hilbert_bernstein_batch(m.trace, m.bound, **aim),
            (limit, ESTIMATED),
        ),
    }


def _estimate(
    batch: float,
    reach: float | None,
    flags: tuple[str, ...],
    target: Estimate,
    num_rows: int | None,
    num: int,
) -> Estimate:
    down = up = reach
    if reach is not None and target.value and target.lo and target.hi:  # B ~ 1/error^2
        down = math.hypot(reach, 2 * math.log(target.hi / target.value))
        up = math.hypot(reach, 2 * math.log(target.value / target.lo))
    lo = None if down is None else batch * math.exp(-down)
    hi = None if up is None else batch * math.exp(min(up, 600.0))
    found = Estimate(
        value=batch, lo=lo, hi=hi, unit="examples", flags=flags, num_examples=num,
        method="with replacement" if num_rows is None else f"without replacement, {num_rows} rows",
    )  # fmt: skip
    if num_rows is None:
        return found
    return monotone(found, lambda b: without_replacement(b, num_rows), unit="examples")


def _nothing(reason: str, num: int | None = None, error: Estimate | None = None) -> RequiredBatch:
    none = not_estimable(reason, unit="examples", num_examples=num)
    error = error or dataclasses.replace(none, unit="loss/parameter")
    return RequiredBatch(needed=none, guaranteed=none, rules={}, error=error)


def three_moment_batch(
    trace: float, trace_square: float, trace_cube: float, *, error: float, miss_probability: float
) -> float:
    """Batch for a Gaussian mean, by three moments: right within 3 %, to a miss of 0.1 %.

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
    """Batch for any noise of finite variance: tr Sigma/(error^2 miss)."""
    return trace / (error**2 * miss_probability)


def hilbert_bernstein_batch(
    variance: float, bound: float, *, error: float, miss_probability: float
) -> float:
    """Batch for noise with |g_i - G| <= bound, in any dimension.

    The B at which sqrt(2 s^2 l/B) + 2 M l/B = error, l = ln(2/miss), s^2 >= E|g - G|^2 the
    variance and M the bound.

    Source: Pinelis (1994); Smale and Zhou (2007), Learning theory estimates via integral
    operators, lemma 1.
    """
    log = math.log(2 / miss_probability)
    s = math.sqrt(2 * variance * log)
    return ((s + math.sqrt(s * s + 8 * bound * log * error)) / (2 * error)) ** 2


def without_replacement(batch_size: float, num_rows: int) -> float:
    """Batch with the same variance drawn without replacement from N rows: B N/(N - 1 + B).

    Source: Cochran (1977), Sampling Techniques, equation 4.2.
    """
    return batch_size * num_rows / (num_rows - 1 + batch_size)
