"""The smallest batch whose gradient lies within a given distance of the full one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable, t_quantile
from downslope.noise.required import rules
from downslope.noise.scale.steps import SIGNAL
from downslope.noise.statistics.ranges import positive
from downslope.noise.statistics.sample import Sample, read_sample

NUM_GROUPS = 10  # of the jackknife over groups of examples
HEURISTIC = "heuristic_bound: the largest norm seen stands for the largest possible"
ESTIMATED = "the variance is estimated; the rule takes it as known"


@dataclass(frozen=True, kw_only=True)
class RequiredBatch:
    """Batch sizes by rule, in examples, for one distance and one chance of missing it.

    Attributes:
        needed: three moments of Gaussian noise: what it takes, within a few per cent.
        guaranteed: Chebyshev: enough for any noise of this variance.
        rules: every rule by its name; `flags` of each say what it assumes.
        error: the distance asked for; an estimate if it was given relative to |G|.
        miss_probability: the chance of a larger distance.
    """

    needed: Estimate
    guaranteed: Estimate
    rules: Mapping[str, Estimate]
    error: Estimate
    miss_probability: float


@dataclass(frozen=True, kw_only=True)
class _Moments:
    trace: float
    square: float
    cube: float
    largest: float
    bound: float
    deviation: float


def required_batch(
    gradients: ArrayLike,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    miss_probability: float = 0.1,
    num_rows: int | None = None,
    bound: float | None = None,
) -> RequiredBatch:
    """The smallest B with |g_B - G| <= error but for a chance of `miss_probability`, by rule.

    Intervals from a jackknife over 10 groups of examples, on the log scale, and with
    `relative_error` from the interval of |G|^2 as well.

    Args:
        gradients: [n, d], n >= 5, independent draws of one example's gradient.
        error: distance in units of the gradient, or
        relative_error: distance as a share of |G|; one of the two.
        miss_probability: chance of a larger distance, above 0 and below 1.
        num_rows: N, for batches drawn without replacement; None: with, or a stream.
        bound: M >= |g_i - G| for every possible example, 2 x the norm at which single gradients
            are clipped, say. None: the largest seen, with which no rule proves anything.

    Returns:
        Without values where |G|^2 cannot be told from 0 and the error is relative to it. Infinite
        variance is not seen from a sample: none of the rules holds then.

    Raises:
        UsageError: not exactly one error; an argument outside its range.

    Example:
        >>> rng = np.random.default_rng(0)  # tr Sigma = 100, error 2: 100/4 = 25 on average
        >>> found = required_batch(rng.normal(size=(400, 100)), error=2.0)
        >>> print(found.needed, "|", found.guaranteed)
        29.73 (29.47 to 30.00) examples | 250.9 (248.8 to 253.1) examples

    Source: the functions of `downslope.noise.required.rules`; Byrd et al. (2012), Sample size
    selection in optimization methods, equation 3.3, for the relative error.
    """
    _check(error, relative_error, miss_probability, num_rows, bound)
    sample = read_sample(gradients)
    if not isinstance(sample, str) and sample.num < 5:
        sample = f"{sample.num} examples: at least 5 are needed"
    if isinstance(sample, str):
        return _nothing(sample, miss_probability)
    moments = _moments(sample, bound, miss_probability)
    if isinstance(moments, str):
        return _nothing(moments, miss_probability, sample.num)
    target = _target(sample, error, relative_error)
    if target.value is None:
        return _nothing(str(target.reason), miss_probability, sample.num, target)
    found = _by_rule(moments, target.value, miss_probability, bound is not None)
    errors = _log_errors(sample, target.value, miss_probability, bound)
    flags = _shape_flags(sample, moments)
    measured = {
        name: _measured(
            batch, errors.get(name), (*assumes, *flags.get(name, ())), target, num_rows, sample.num
        )
        for name, (batch, assumes) in found.items()
    }
    return RequiredBatch(
        needed=measured["three moments"],
        guaranteed=measured["chebyshev"],
        rules=measured,
        error=target,
        miss_probability=miss_probability,
    )


def _check(error, relative_error, miss_probability, num_rows, bound) -> None:
    if (error is None) == (relative_error is None):
        raise UsageError("error, relative_error must be exactly one of them; got both or neither")
    for name, number in (("error", error), ("relative_error", relative_error), ("bound", bound)):
        if number is not None:
            positive(name, number)
    if not 0 < miss_probability < 1:
        raise UsageError(f"miss_probability must be above 0 and below 1; got {miss_probability}")
    if num_rows is not None and num_rows < 1:
        raise UsageError(f"num_rows must be at least 1; got {num_rows}")


def _moments(sample: Sample, bound: float | None, miss_probability: float) -> _Moments | str:
    """Moments of the noise, bias corrected; the third cannot be had from too few examples."""
    seen = math.sqrt(float(sample.squares.max()))
    if bound is not None and bound < seen * (1 - 1 / sample.num) - 1e-9 * seen:
        raise UsageError(
            f"bound must be at least the largest |g_i - mean| seen, {seen:.6g}; got {bound}"
        )
    largest = float(np.linalg.eigvalsh(sample.gram)[-1])
    # for any covariance t2 <= t1^2 and t2^2/t1 <= t3 <= t2^1.5, which estimates may overstep
    square, cube = sample.trace_square, trace_cube(sample)
    if square <= 0:
        return "tr(Sigma^2) is lost in its error: more examples are needed"
    square = min(square, sample.trace**2)
    cube = min(max(cube, square**2 / sample.trace), square**1.5)
    half = len(sample.centred) // 2
    pairs = sample.centred[: 2 * half : 2] - sample.centred[1 : 2 * half : 2]
    return _Moments(
        trace=sample.trace,
        square=square,
        cube=cube,
        largest=largest,
        bound=bound if bound is not None else seen,
        deviation=rules.empirical_deviation(
            float((pairs**2).sum() / (2 * half)), half, bound or seen,
            miss_probability=miss_probability / 2,
        ),
    )  # fmt: skip


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
    """The distance asked for, with the interval of |G| if it is relative to that."""
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
    """Reach of each rule's 95 % interval in log B, empty where a group of examples is decisive."""
    num_groups = min(NUM_GROUPS, sample.num)
    group = np.random.default_rng(0).permutation(sample.num) % num_groups
    logs: dict[str, list[float]] = {}
    for k in range(num_groups):
        moments = _moments(sample.kept(np.flatnonzero(group != k)), None, miss_probability)
        if isinstance(moments, str):
            return {}
        if bound is not None:
            moments = dataclasses.replace(moments, bound=bound)
        for name, (batch, _) in _by_rule(moments, error, miss_probability, True).items():
            if batch is not None:
                logs.setdefault(name, []).append(math.log(batch))
    t = t_quantile(num_groups - 1)
    return {
        name: t * math.sqrt((num_groups - 1) * float(np.var(values)))
        for name, values in logs.items()
        if len(values) == num_groups
    }


def _by_rule(
    m: _Moments, error: float, miss: float, is_bounded: bool
) -> dict[str, tuple[float | None, tuple[str, ...]]]:
    """Batch size drawn with replacement and what is assumed, by rule."""
    aim: dict[str, Any] = dict(error=error, miss_probability=miss)
    normal = "approximate: the batch mean is taken as Gaussian"
    limit = "every example keeps to the bound that was given" if is_bounded else HEURISTIC
    return {
        "satterthwaite": (rules.satterthwaite_batch(m.trace, m.square, **aim), (normal,)),
        "three moments": (rules.three_moment_batch(m.trace, m.square, m.cube, **aim), (normal,)),
        "borell-tis": (
            rules.borell_tis_batch(m.trace, m.largest, **aim),
            ("the batch mean is Gaussian", ESTIMATED),
        ),
        "chebyshev": (
            rules.chebyshev_batch(m.trace, **aim),
            ("the variance is finite", ESTIMATED),
        ),
        "hilbert bernstein": (
            rules.hilbert_bernstein_batch(m.trace, m.bound, **aim), (limit, ESTIMATED)
        ),
        "vector bernstein": (
            rules.vector_bernstein_batch(m.trace, m.bound, **aim), (limit, ESTIMATED)
        ),
        "empirical bernstein": (
            rules.empirical_bernstein_batch(m.deviation, m.bound, **aim), (limit,)
        ),
    }  # fmt: skip


def _shape_flags(sample: Sample, m: _Moments) -> dict[str, tuple[str, ...]]:
    rank = m.trace**2 / m.square
    if sample.num >= 3 * rank:
        return {}
    flag = f"{sample.num} examples are few for noise of effective rank {rank:.0f}"
    return {"three moments": (flag,), "satterthwaite": (flag,), "borell-tis": (flag,)}


def _measured(
    batch: float | None,
    reach: float | None,
    flags: tuple[str, ...],
    target: Estimate,
    num_rows: int | None,
    num: int,
) -> Estimate:
    if batch is None:
        return not_estimable("the rule needs error < variance/bound", unit="examples")
    down = up = reach
    if reach is not None and target.value and target.lo and target.hi:  # B ~ 1/error^2
        down = math.hypot(reach, 2 * math.log(target.hi / target.value))
        up = math.hypot(reach, 2 * math.log(target.value / target.lo))
    lo = None if down is None else batch * math.exp(-down)
    hi = None if up is None else batch * math.exp(min(up, 600.0))
    method = "with replacement"
    if num_rows is not None:
        method = f"without replacement, {num_rows} rows"
        batch, lo, hi = (
            None if b is None else rules.without_replacement(b, num_rows) for b in (batch, lo, hi)
        )
    return Estimate(
        value=batch, lo=lo, hi=hi, unit="examples", method=method, flags=flags, num_examples=num
    )


def _nothing(
    reason: str, miss_probability: float, num: int | None = None, error: Estimate | None = None
) -> RequiredBatch:
    none = not_estimable(reason, unit="examples", num_examples=num)
    return RequiredBatch(
        needed=none,
        guaranteed=none,
        rules={},
        error=error or dataclasses.replace(none, unit="loss/parameter"),
        miss_probability=miss_probability,
    )
