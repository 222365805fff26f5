"""Gradient noise scale from the gradients of training steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import number
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.intervals import (
    Part,
    jackknife_means,
    monotone,
    plain_part,
    positive_part,
    ratio,
)
from downslope.noise.statistics.sample import SQUARED

SIGNAL = "|G|^2"
PRECONDITIONED_SIGNAL = "G^T P G"
INTERACTING = (
    "examples of a batch interact: the unit of noise is the batch, and 1/B scaling is not implied"
)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gradient noise at one point, or over the measured steps.

    Attributes:
        signal: |G|^2, the squared length of the full gradient. A negative estimate means that
            the signal is lost in the noise.
        trace: tr Sigma, the summed variances of one example's gradient.
        scale: B_simple = tr Sigma / |G|^2, the batch size at which both are equal, in examples.
            Only a lower bound where |G|^2 cannot be told from 0.
    """

    signal: Estimate
    trace: Estimate
    scale: Estimate

    def spent_beyond(self, batch_size: float) -> Estimate:
        """Share of the examples spent beyond the minimum, z/(1 + z) with z = B/B_simple.

        Example:
            >>> noise = from_terms([0.9, 1.2, 1.0, 0.9], [44.0, 51.0, 39.0, 46.0])
            >>> print(noise.spent_beyond(45))
            0.501 (0.447 to 0.544) share of examples

        Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.11.
        """
        b = number("batch_size", batch_size, above=0)
        unit = "share of examples"
        return monotone(self.scale, lambda scale: b / (b + scale), unit=unit, falling=True)

    def steps_saved_by_doubling(self, batch_size: float) -> Estimate:
        """Share of the steps that doubling the batch would save, 1/(2(1 + z)), z = B/B_simple.

        Assumes that the learning rate is retuned for the new batch.

        Example:
            >>> noise = from_terms([0.9, 1.2, 1.0, 0.9], [44.0, 51.0, 39.0, 46.0])
            >>> print(noise.steps_saved_by_doubling(45))
            0.250 (0.228 to 0.276) share of steps
        """
        b = number("batch_size", batch_size, above=0)
        return monotone(self.scale, lambda scale: scale / (2 * (scale + b)), unit="share of steps")


def from_halves(
    dots: ArrayLike,
    square_distances: ArrayLike,
    sizes_first: ArrayLike,
    sizes_second: ArrayLike,
    *,
    interacting: bool = False,
    preconditioned: bool = False,
) -> Noise:
    """Noise over K steps from the mean gradients g1, g2 of two disjoint half batches.

    <g1, g2> is unbiased for |G|^2 and |g1 - g2|^2/(1/b1 + 1/b2) for tr Sigma. Each is averaged
    over the steps, then divided once. From about 20 steps on the intervals cover 95 % within a
    point; a gradient that drifts over the steps widens them.

    Args:
        dots, square_distances: [K], <g1, g2> and |g1 - g2|^2 of every step.
        sizes_first, sizes_second: b1 and b2 in examples, [K] or one for all steps.
        interacting: the loss of one example depends on the others of its half.
        preconditioned: as for `from_terms`; the products are <g1, P g2> and <g1 - g2, P (g1 - g2)>.

    Raises:
        UsageError: shapes that do not match; a size that is not positive.

    Example:
        >>> rng = np.random.default_rng(0)  # |G|^2 = 4, tr Sigma = 100: B_simple = 25
        >>> g1 = 0.2 + rng.normal(size=(50, 100)) / 16**0.5
        >>> g2 = 0.2 + rng.normal(size=(50, 100)) / 8**0.5
        >>> noise = from_halves((g1 * g2).sum(1), ((g1 - g2) ** 2).sum(1), 16, 8)
        >>> print(noise.scale)
        23.3 (20.8 to 26.4) examples

    Source: McCandlish et al. (2018), An empirical model of large-batch training, appendix A.1,
    for two parts.
    """
    dot, distance = columns_of(dots=dots, square_distances=square_distances)
    sizes = []
    for size, name in ((sizes_first, "sizes_first"), (sizes_second, "sizes_second")):
        size = np.asarray(size, dtype=np.float64)
        if size.shape not in ((), dot.shape):
            shape = list(dot.shape)
            raise UsageError(f"{name} must be one number or shape {shape}; got {size.shape}")
        if not (np.isfinite(size).all() and (size > 0).all()):
            raise UsageError(f"{name} must be finite and above 0; got one that is not")
        sizes.append(np.broadcast_to(size, dot.shape))
    trace = distance / (1 / sizes[0] + 1 / sizes[1])
    examples = int(min(float((sizes[0] + sizes[1]).sum()), 2**53))
    kind = {"interacting": interacting, "preconditioned": preconditioned}
    return from_terms(dot, trace, num_examples=examples, **kind)


def from_terms(
    signal_terms: ArrayLike,
    trace_terms: ArrayLike,
    *,
    num_examples: int | None = None,
    interacting: bool = False,
    preconditioned: bool = False,
) -> Noise:
    """Noise from K independent pairs of unbiased estimates of |G|^2 and tr Sigma.

    For m microbatches of b examples each, with s the mean of their squared gradient norms and t
    the squared norm of their mean gradient, tr Sigma = (s - t) b m/(m - 1) and
    |G|^2 = t - tr Sigma/(b m) are such a pair.

    Args:
        signal_terms, trace_terms: [K], one pair a step.
        num_examples: examples behind all of them, for the record.
        interacting: the loss of one example depends on the others of its batch.
        preconditioned: the terms are in the metric of a preconditioner P, such as that of Adam,
            known before the step's gradients: G^T P G and tr(P Sigma). The scale is then their
            ratio B_P, and the squares have the unit of P times (loss/parameter)^2.

    Raises:
        UsageError: shapes that do not match.

    Example:
        >>> print(from_terms([0.9, 1.2, 1.0, 0.9], [44.0, 51.0, 39.0, 46.0]).scale)
        44.9 (37.7 to 55.6) examples

    Source: McCandlish et al. (2018), An empirical model of large-batch training, appendix A.1.
    """
    signal, trace = columns_of(signal_terms=signal_terms, trace_terms=trace_terms)
    flags = (INTERACTING,) if interacting else ()
    unit = "batches" if interacting else "examples"
    count: dict[str, Any] = dict(num_examples=num_examples, num_steps=len(signal))
    reason = _unusable(signal, trace)
    if reason:
        return no_noise(reason, unit=unit, **count)
    means, covariance = jackknife_means(np.stack([signal, trace]))
    errors, freedom = np.sqrt(np.diag(covariance)), len(signal) - 1
    below = plain_part(float(means[0]), float(errors[0]), freedom)
    above = positive_part(float(means[1]), float(errors[1]), freedom)
    method = "means over steps; delete-one jackknife"
    squared = f"P {SQUARED}" if preconditioned else SQUARED
    scale = ratio(
        above, below, covariance=float(covariance[0, 1]), unit=unit,
        denominator=PRECONDITIONED_SIGNAL if preconditioned else SIGNAL,
        method=f"ratio of {method}, joined on the log scale", **count,
    )  # fmt: skip
    return Noise(
        signal=of_part(below, method, flags, unit=squared, **count),
        trace=of_part(above, method, flags, unit=squared, **count),
        scale=scale.flagged(*flags),
    )


def columns_of(**named: ArrayLike) -> list[np.ndarray]:
    """The arguments as arrays [K] of one length, or a UsageError."""
    columns = [np.asarray(values, dtype=np.float64) for values in named.values()]
    for name, column in zip(named, columns, strict=True):
        if column.ndim != 1 or column.shape != columns[0].shape:
            raise UsageError(
                f"{', '.join(named)} must have one shape [K]; got {name} of {column.shape}"
            )
    return columns


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


def of_part(
    part: Part, method: str, flags: tuple[str, ...] = (), *, unit: str = SQUARED, **count: Any
) -> Estimate:
    """A part of a ratio as an estimate in squared gradient units."""
    has_ends = part.error > 0 and math.isfinite(part.lo) and math.isfinite(part.hi)
    return Estimate(
        value=part.value, lo=part.lo if has_ends else None, hi=part.hi if has_ends else None,
        unit=unit, method=method, flags=flags, **count,
    )  # fmt: skip


def no_noise(reason: str, *, unit: str = "examples", **count: Any) -> Noise:
    """Noise of which nothing can be estimated, with the reason."""
    square = not_estimable(reason, unit=SQUARED, **count)
    return Noise(signal=square, trace=square, scale=not_estimable(reason, unit=unit, **count))
