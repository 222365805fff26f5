"""Prediction of a run at another batch size, from its own noise scale and step times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from downslope.arguments import number
from downslope.choose.step_time import StepTimes
from downslope.errors import UsageError
from downslope.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class RunLaw:
    """Steps to reach the end of a run, by batch size: S(b) = S_min + E_min/b.

    Attributes:
        min_steps: S_min, steps at a very large batch.
        min_examples: E_min, examples at a very small batch.
        smaller_noise, larger_noise: (S_min, E_min) with every noise scale at the lower, and at
            the upper end of its interval; None if an end is missing.
    """

    min_steps: float
    min_examples: float
    smaller_noise: tuple[float, float] | None = None
    larger_noise: tuple[float, float] | None = None

    @property
    def noise_scale(self) -> float:
        """B_crit = E_min/S_min in examples: the noise scale of the run as a whole."""
        return self.min_examples / self.min_steps

    @property
    def noise_lo(self) -> float | None:
        """The lower end of `noise_scale`, or None."""
        return self._end(self.smaller_noise)

    @property
    def noise_hi(self) -> float | None:
        """The upper end of `noise_scale`, or None."""
        return self._end(self.larger_noise)

    @staticmethod
    def _end(law: tuple[float, float] | None) -> float | None:
        return law[1] / law[0] if law and law[0] > 0 else None

    def steps(self, batch_size: float) -> Estimate:
        """Steps at another batch size, if the learning rate was tuned for it.

        The interval takes all noise scales at the same end of theirs at once: wider than if
        their errors were independent.
        """
        number("batch_size", batch_size, above=0)
        value = self.min_steps + self.min_examples / batch_size
        if self.smaller_noise is None or self.larger_noise is None:
            return Estimate(value=value, unit="steps")
        ends = [s + e / batch_size for s, e in (self.smaller_noise, self.larger_noise)]
        return Estimate(value=value, lo=min(*ends, value), hi=max(*ends, value), unit="steps")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Steps, examples and seconds to a target at one batch size.

    Attributes:
        batch_size: b.
        num_steps, num_examples, seconds: with intervals, if the law has them.
        flags: caveats.
    """

    batch_size: float
    num_steps: Estimate
    num_examples: Estimate
    seconds: Estimate
    flags: tuple[str, ...] = ()


def predict(law: RunLaw, times: StepTimes, batch_size: float) -> Prediction:
    """Predict what a target costs at a batch size: S_min + E_min/b steps of t(b) seconds.

    Args:
        law: from `equivalent_steps`, or `RunLaw` of a fit to several runs.
        times: step times.
        batch_size: b in examples.

    Raises:
        UsageError: a batch size that is not finite and above 0.

    Example:
        >>> from downslope.choose import line_times
        >>> law = RunLaw(min_steps=1000, min_examples=2e5)
        >>> times = line_times(fixed_seconds=5e-3, seconds_per_example=2e-5)
        >>> print(predict(law, times, 400).num_steps, predict(law, times, 400).seconds)
        1,500 steps 19.5 s
    """
    steps, seconds = law.steps(batch_size), times.predict(batch_size)
    flags = () if times.is_measured_at(batch_size) else (
        f"no step of {batch_size:g} examples, or none near it, was timed: its time is extrapolated",
    )  # fmt: skip
    return Prediction(
        batch_size=batch_size,
        num_steps=steps,
        num_examples=steps.scaled(batch_size, unit="examples"),
        seconds=steps.scaled(seconds, unit="s"),
        flags=flags,
    )


def equivalent_steps(
    noise_scales: Sequence[float | None],
    batch_sizes: Sequence[float],
    num_steps: Sequence[float],
    *,
    noise_los: Sequence[float | None] | None = None,
    noise_his: Sequence[float | None] | None = None,
) -> RunLaw:
    """Law of steps by batch size, from the noise scale along a finished run.

    A step of B examples gets as far as 1/(1 + B_noise/B) steps without noise, or as
    B_noise/(1 + B_noise/B) examples of pure noise. Summed over stretches of the run,

        S_min = sum of steps/(1 + B_noise/B),  E_min = sum of steps B_noise/(1 + B_noise/B).

    Args:
        noise_scales: B_noise of each stretch in examples, above 0; None if only a lower end
            is known, which is then used.
        batch_sizes: B of each.
        num_steps: steps of each, above 0.
        noise_los, noise_his: ends of the noise scales' 95 % intervals; None for an unknown
            end, as upper end for infinity.

    Raises:
        UsageError: lengths that differ, a number outside its range, or a stretch with neither
            value nor lower end.

    Example:
        >>> law = equivalent_steps([100, 300], [100, 100], [2000, 4000])
        >>> law.min_steps, law.min_examples, law.steps(100).value, law.steps(400).value
        (2000.0, 400000.0, 6000.0, 3000.0)

    Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.7
    and appendix D: the same sum over a run whose batch size changes.
    """
    count = len(num_steps)
    los, his = (ends if ends is not None else [None] * count for ends in (noise_los, noise_his))
    if not count or {len(noise_scales), len(batch_sizes), len(los), len(his)} != {count}:
        raise UsageError("a run has one or more stretches, each with a noise scale, size and steps")
    scales = [lo if b is None else b for b, lo in zip(noise_scales, los, strict=True)]
    known = []
    for scale, size, steps in zip(scales, batch_sizes, num_steps, strict=True):
        if scale is None:
            raise UsageError("noise_scales must have a value or a lower end for each stretch")
        for name, value in (("noise_scales", scale), ("batch_sizes", size), ("num_steps", steps)):
            number(name, value, above=0)
        known.append(scale)
    min_steps, min_examples = _sums(known, batch_sizes, num_steps)
    has_ends = noise_los is not None and noise_his is not None
    lower = [lo or 0.0 for lo in los]
    upper = [math.inf if hi is None else hi for hi in his]
    return RunLaw(
        min_steps=min_steps,
        min_examples=min_examples,
        smaller_noise=_sums(lower, batch_sizes, num_steps) if has_ends else None,
        larger_noise=_sums(upper, batch_sizes, num_steps) if has_ends else None,
    )


def _sums(
    scales: Sequence[float], batch_sizes: Sequence[float], num_steps: Sequence[float]
) -> tuple[float, float]:
    """(S_min, E_min); a noise scale of infinity counts every example as noise."""
    steps = examples = 0.0
    for scale, size, count in zip(scales, batch_sizes, num_steps, strict=True):
        share = 1 / (1 + scale / size)
        steps += count * share
        examples += count * (size if math.isinf(scale) else scale * share)
    return steps, examples
