"""The gradient noise scale, from what a training step has at hand."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.ranges import positive
from downslope.noise.statistics.ratios import (
    check_terms,
    jackknife_means,
    plain_part,
    positive_part,
    ratio,
)
from downslope.noise.statistics.sample import SQUARED

SIGNAL = "|G|^2"
INTERACTING = (
    "examples of a batch interact: the unit of noise is the batch, and 1/B scaling is not implied"
)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gradient noise at one point, or over the steps that were measured.

    Attributes:
        signal: |G|^2, the squared length of the full gradient. The estimate may be negative:
            then the signal is lost in the noise.
        trace: tr Sigma, the summed variances of one example's gradient.
        scale: B_simple = tr Sigma / |G|^2, the batch size at which both are equal, in examples.
            Without a value where |G|^2 cannot be told from 0; `lo` is then what it is at least.
    """

    signal: Estimate
    trace: Estimate
    scale: Estimate

    def spent_beyond(self, batch_size: float) -> Estimate:
        """Share of the examples spent beyond the least number, z/(1 + z) with z = B/B_simple.

        Example:
            >>> noise = from_microbatches([[1.0, 1.4]] * 3, [1.0, 0.9, 0.8], 1)
            >>> print(noise.spent_beyond(1))
            0.52 (0.07 to 0.81) share of examples

        Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.11.
        """
        b = positive("batch_size", batch_size)
        return self._of_scale(lambda scale: b / (b + scale), "share of examples")

    def steps_saved_by_doubling(self, batch_size: float) -> Estimate:
        """Share of the steps that twice the batch would save, 1/(2(1 + z)) with z = B/B_simple.

        It holds if the learning rate is retuned to the new batch.

        Example:
            >>> noise = from_microbatches([[1.0, 1.4]] * 3, [1.0, 0.9, 0.8], 1)
            >>> print(noise.steps_saved_by_doubling(1))
            0.24 (0.10 to 0.47) share of steps
        """
        b = positive("batch_size", batch_size)
        return self._of_scale(lambda scale: scale / (2 * (scale + b)), "share of steps")

    def to_json(self) -> dict[str, Any]:
        """The three measurements as plain dictionaries."""
        return {f.name: getattr(self, f.name).to_json() for f in dataclasses.fields(self)}

    def _of_scale(self, formula, unit: str) -> Estimate:
        """A monotone function of the scale: its ends are those of the scale."""
        s = self.scale
        value, lo, hi = (None if x is None else formula(x) for x in (s.value, s.lo, s.hi))
        if formula(1.0) > formula(2.0):
            lo, hi = hi, lo
        return dataclasses.replace(s, value=value, lo=lo, hi=hi, unit=unit)


class PairedNorms(NamedTuple):
    """|G|^2, tr Sigma and their ratio, as floats."""

    signal: float
    trace: float
    scale: float


def paired_norms(
    small_square_norm: float, big_square_norm: float, small_batch: float, big_batch: float
) -> PairedNorms:
    """The noise scale from expected squared norms at two batch sizes, without an interval.

    |G|^2 = (B t - b s) / (B - b) and tr Sigma = (s - t) / (1/b - 1/B).

    Args:
        small_square_norm, big_square_norm: s and t, mean squared norms of mean gradients.
        small_batch, big_batch: b < B, the examples that each gradient is the mean of.

    Returns:
        The scale is nan where |G|^2 is not positive.

    Example:
        >>> round(paired_norms(0.1 + 4.5 / 16, 0.1 + 4.5 / 128, 16, 128).scale, 9)
        45.0

    Source: McCandlish et al. (2018), An empirical model of large-batch training, appendix A.1.
    """
    b, big = positive("small_batch", small_batch), positive("big_batch", big_batch)
    if not b < big:
        raise UsageError(f"small_batch must be below big_batch {big:g}; got {b:g}")
    signal = (big * big_square_norm - b * small_square_norm) / (big - b)
    trace = (small_square_norm - big_square_norm) / (1 / b - 1 / big)
    return PairedNorms(signal, trace, trace / signal if signal > 0 else math.nan)


def from_microbatches(
    square_norms: ArrayLike,
    square_norms_of_mean: ArrayLike,
    microbatch_size: float,
    *,
    weights: ArrayLike | None = None,
    interacting: bool = False,
) -> Noise:
    """The noise over K steps, each of m equal microbatches whose gradients were averaged.

    Per step, with s the mean of |g_k|^2, t = |mean g_k|^2, b examples in each and B = mb:
    tr Sigma = (s - t)/(1/b - 1/B) and |G|^2 = t - tr Sigma / B, both unbiased. Each is averaged
    over the steps, then divided once. The intervals are right within a point of 95 % from about
    20 steps on; a drift of the gradient over the steps widens them.

    Args:
        square_norms: [K, m] with m >= 2, squared norm of every microbatch's mean gradient.
        square_norms_of_mean: [K], squared norm of the mean of the m gradients. Norms in float32
            lose the trace where it is below 1e-6 |G|^2 b.
        microbatch_size: b, in examples.
        weights: [K], positive: how much each step counts. None: all alike.
        interacting: the loss of one example depends on the others of its microbatch (batch
            normalisation, contrastive losses).

    Raises:
        UsageError: shapes that do not match; a size that is not positive.

    Example:
        >>> rng = np.random.default_rng(0)  # |G|^2 = 4, tr Sigma = 100: B_simple = 25
        >>> g = 0.2 + rng.normal(size=(50, 4, 100)) / 8**0.5  # 50 steps of 4 microbatches of 8
        >>> noise = from_microbatches((g**2).sum(-1), (g.mean(1) ** 2).sum(-1), 8)
        >>> print(noise.scale)
        23.5 (21.8 to 25.5) examples

    Source: McCandlish et al. (2018), An empirical model of large-batch training, appendix A.1.
    """
    s = np.asarray(square_norms, dtype=np.float64)
    t = np.asarray(square_norms_of_mean, dtype=np.float64)
    b = positive("microbatch_size", microbatch_size)
    if s.ndim != 2 or s.shape[1] < 2:
        raise UsageError(f"square_norms must have shape [K, m] with m >= 2; got {s.shape}")
    if t.shape != s.shape[:1]:
        raise UsageError(f"square_norms_of_mean must have shape [{len(s)}]; got {t.shape}")
    m = s.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):  # not finite: found by from_terms
        trace = (s - t[:, None]).sum(axis=1) * b / (m - 1)
        signal = t - trace / (b * m)
    examples = int(s.size * b) if b * s.size < 2**53 else None
    return from_terms(signal, trace, weights, num_examples=examples, interacting=interacting)


def from_halves(
    dots: ArrayLike,
    square_distances: ArrayLike,
    sizes_first: ArrayLike,
    sizes_second: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    interacting: bool = False,
) -> Noise:
    """The noise over K steps, each with the mean gradients g1, g2 of two disjoint half batches.

    <g1, g2> is unbiased for |G|^2 and |g1 - g2|^2/(1/b1 + 1/b2) for tr Sigma. Each is averaged
    over the steps, then divided once. The intervals are right within a point of 95 % from about
    20 steps on; a drift of the gradient over the steps widens them.

    Args:
        dots, square_distances: [K], <g1, g2> and |g1 - g2|^2 of every step.
        sizes_first, sizes_second: b1 and b2 in examples, [K] or one for all steps.
        weights: [K], positive: how much each step counts. None: all alike.
        interacting: the loss of one example depends on the others of its half.

    Raises:
        UsageError: shapes that do not match; a size that is not positive.

    Example:
        >>> rng = np.random.default_rng(0)  # |G|^2 = 4, tr Sigma = 100: B_simple = 25
        >>> g1 = 0.2 + rng.normal(size=(50, 100)) / 16**0.5
        >>> g2 = 0.2 + rng.normal(size=(50, 100)) / 8**0.5
        >>> noise = from_halves((g1 * g2).sum(1), ((g1 - g2) ** 2).sum(1), 16, 8)
        >>> print(noise.scale)
        23.3 (20.8 to 26.4) examples
    """
    dot = np.asarray(dots, dtype=np.float64)
    distance = np.asarray(square_distances, dtype=np.float64)
    check_terms([dot, distance], ["dots", "square_distances"], None)
    sizes = []
    for size, name in ((sizes_first, "sizes_first"), (sizes_second, "sizes_second")):
        size = np.asarray(size, dtype=np.float64)
        if size.shape not in ((), dot.shape):
            raise UsageError(
                f"{name} must be one number or shape {list(dot.shape)}; got {size.shape}"
            )
        if not (np.isfinite(size).all() and (size > 0).all()):
            raise UsageError(f"{name} must be finite and above 0; got one that is not")
        sizes.append(np.broadcast_to(size, dot.shape))
    trace = distance / (1 / sizes[0] + 1 / sizes[1])
    examples = int(min(float((sizes[0] + sizes[1]).sum()), 2**53))
    return from_terms(dot, trace, weights, num_examples=examples, interacting=interacting)


def from_terms(
    signal_terms: ArrayLike,
    trace_terms: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    num_examples: int | None = None,
    interacting: bool = False,
) -> Noise:
    """The noise from K independent unbiased estimates of |G|^2 and of tr Sigma.

    Example:
        >>> print(from_terms([0.9, 1.2, 1.0, 0.9], [44.0, 51.0, 39.0, 46.0]).scale)
        44.9 (37.7 to 55.6) examples
    """
    signal = np.asarray(signal_terms, dtype=np.float64)
    trace = np.asarray(trace_terms, dtype=np.float64)
    w = check_terms([signal, trace], ["signal_terms", "trace_terms"], weights)
    flags = (INTERACTING,) if interacting else ()
    unit = "batches" if interacting else "examples"
    count: dict[str, Any] = dict(num_examples=num_examples, num_steps=len(signal))
    reason = _unusable(signal, trace)
    if reason:
        return no_noise(reason, unit=unit, **count)
    means, covariance, freedom = jackknife_means(np.stack([signal, trace]), w)
    errors = np.sqrt(np.diag(covariance))
    below = plain_part(float(means[0]), float(errors[0]), freedom)
    above = positive_part(float(means[1]), float(errors[1]), freedom)
    method = "means over steps; delete-one jackknife"
    scale = ratio(
        above, below, covariance=float(covariance[0, 1]), unit=unit, denominator=SIGNAL,
        method=f"ratio of {method}, joined on the log scale", **count,
    )  # fmt: skip
    return Noise(
        signal=of_part(below, method, flags, **count),
        trace=of_part(above, method, flags, **count),
        scale=scale.flagged(*flags),
    )


def _unusable(signal: np.ndarray, trace: np.ndarray) -> str | None:
    if len(signal) < 2:
        return f"{len(signal)} measured step(s): at least 2 are needed"
    if not (np.isfinite(signal).all() and np.isfinite(trace).all()):
        return "a gradient is not finite"
    if max(float(abs(signal).max()), float(abs(trace).max())) > 1e150:
        return "gradients too large for their squares to be summed"
    if not trace.any():
        return "all gradients of each step are equal: no spread is seen"
    return None


def of_part(part, method: str, flags: tuple[str, ...] = (), **count: Any) -> Estimate:
    """A part of the ratio as a measurement in squared gradient units."""
    has_ends = part.error > 0 and math.isfinite(part.lo) and math.isfinite(part.hi)
    return Estimate(
        value=part.value, lo=part.lo if has_ends else None, hi=part.hi if has_ends else None,
        unit=SQUARED, method=method, flags=flags, **count,
    )  # fmt: skip


def no_noise(reason: str, *, unit: str = "examples", **count: Any) -> Noise:
    """A noise of which nothing can be estimated, for one reason."""
    square = not_estimable(reason, unit=SQUARED, **count)
    return Noise(signal=square, trace=square, scale=not_estimable(reason, unit=unit, **count))
