"""The batch size that reaches a target soonest: gradient noise against the cost of steps."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from downslope.choose.ranges import Range, percentiles, short, spoken
from downslope.choose.search import domain, least, near, rung, time_cost
from downslope.choose.step_time import StepTimes, line_times
from downslope.errors import UsageError

STRAIGHT = 0.15  # largest residual of the line at which its closed form is believed
NUM_RESAMPLES = 200
Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class SweetSpot:
    """The batch size of least time to a target, and which others are as good.

    Attributes:
        batch_size: the answer: a rung of the ladder, or rounded to two digits, since twice or
            half as much costs 12.5 % at most.
        optimum: where the curve has its least, with the interval that repeated timings and
            the noise scale's interval leave.
        near: smallest and largest batch size with a time within 10 % of the least, among
            those measured.
        closed_form: sqrt(B_crit n_half) in examples; None where the step times are no line.
        noise_scale: B_crit = E_min/S_min in examples.
        seconds: time to the target at `batch_size`; None where only the noise scale is known.
        relative_time: time at `batch_size` over the least, 1 or more.
        because: one sentence.
        flags: what else a reader must know, a sentence each.
    """

    batch_size: int
    optimum: Range
    near: tuple[float, float]
    closed_form: float | None
    noise_scale: float
    seconds: float | None
    relative_time: float
    because: str
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.batch_size:,} examples: {self.because}"


def batch_size(
    *,
    noise_scale: float,
    fixed_seconds: float,
    seconds_per_example: float,
    most: float | None = None,
) -> SweetSpot:
    """The batch size that reaches a target soonest, where a step takes tau_f + tau_d b.

    sqrt(B_noise tau_f/tau_d): between the batch that the noise asks for and the one that the
    machine asks for. It holds if the learning rate is tuned for each batch size.

    Args:
        noise_scale: B_noise in examples.
        fixed_seconds: tau_f, what a step costs whatever its size.
        seconds_per_example: tau_d.
        most: largest batch size that fits, or None.

    Raises:
        UsageError: an argument that is not finite and above 0.

    Example:
        >>> found = batch_size(noise_scale=200, fixed_seconds=5e-3, seconds_per_example=2e-5)
        >>> found.batch_size, round(found.optimum.value, 3)
        (220, 223.607)
    """
    times = line_times(fixed_seconds=fixed_seconds, seconds_per_example=seconds_per_example)
    return sweet_spot(noise_scale=noise_scale, times=times, most=most)


def sweet_spot(
    *,
    times: StepTimes,
    noise_scale: float | None = None,
    noise_lo: float | None = None,
    noise_hi: float | None = None,
    min_steps: float | None = None,
    min_examples: float | None = None,
    most: float | None = None,
    ladder: Sequence[int] | None = None,
) -> SweetSpot:
    """The batch size b where (S_min + E_min/b) t(b) is least, over the measured step times.

    It holds if the learning rate is tuned for each batch size. Sizes that were not timed are
    not considered.

    Args:
        times: step times, from `fit_step_times` or `line_times`.
        noise_scale: E_min/S_min in examples, where these two are not given.
        noise_lo, noise_hi: ends of its 95 % interval, or None.
        min_steps, min_examples: S_min and E_min, both or neither.
        most: largest batch size that fits in memory, or None.
        ladder: the sizes to choose from; None for any.

    Raises:
        UsageError: arguments that contradict each other, or outside their range.

    Example:
        >>> from downslope.choose import fit_step_times
        >>> sizes = [64, 128, 256, 512, 1024, 2048]
        >>> cliff = [5e-3 + 2e-5 * b + 1e-4 * max(0, b - 512) for b in sizes]  # above 512
        >>> found = sweet_spot(noise_scale=4000, times=fit_step_times(sizes, cliff))
        >>> found.batch_size, found.closed_form
        (510, None)

    Source: McCandlish et al. (2018), An empirical model of large-batch training, section 2;
    n_half is n_1/2 of Hockney and Jesshope (1981), Parallel Computers, chapter 1.
    """
    scale = _scale(noise_scale, min_steps, min_examples)
    lo, hi = domain(times, most)
    cost = time_cost(times, scale)
    best = least(times, scale, lo, hi)
    chosen = rung(cost, best, lo, hi, ladder)
    ends = _interval(times, scale, best, (noise_lo, noise_hi), lo, hi)
    around = near(cost, best, lo, hi)
    at_best, at_chosen = cost([best])[0], cost([chosen])[0]
    return SweetSpot(
        batch_size=chosen,
        optimum=Range(value=best, lo=ends[0], hi=ends[1], unit="examples"),
        near=around,
        closed_form=_closed_form(times, scale),
        noise_scale=scale,
        seconds=None if min_steps is None else min_steps * at_chosen,
        relative_time=max(1.0, at_chosen / at_best),
        because=_because(times, scale, around, chosen),
        flags=(*times.flags, *_edge_flags(times, best, most), *_line_flags(times)),
    )


def _scale(noise_scale: float | None, min_steps: float | None, min_examples: float | None) -> float:
    if (min_steps is None) != (min_examples is None):
        raise UsageError("min_steps and min_examples are needed together")
    if (noise_scale is None) == (min_steps is None):
        raise UsageError("either noise_scale or min_steps and min_examples are needed")
    for name, number in (
        ("noise_scale", noise_scale), ("min_steps", min_steps), ("min_examples", min_examples),
    ):  # fmt: skip
        if number is not None and not (math.isfinite(number) and number > 0):
            raise UsageError(f"{name} must be finite and above 0; got {number}")
    if min_steps is not None and min_examples is not None:
        return min_examples / min_steps
    assert noise_scale is not None
    return noise_scale


def _interval(
    times: StepTimes,
    scale: float,
    best: float,
    noise: tuple[float | None, float | None],
    lo: float,
    hi: float,
) -> tuple[float | None, float | None]:
    """Ends for the optimum: other timings drawn, and other noise scales from their interval."""
    below, above = noise
    for name, end, fits in (
        ("noise_lo", below, below is None or 0 < below <= scale),
        ("noise_hi", above, above is None or scale <= above < math.inf),
    ):
        if not fits:
            raise UsageError(f"{name} must be above 0 and enclose {scale:.6g}; got {end}")
    if below is None and above is None and not times.can_be_resampled:
        return None, None
    draw, drawn = random.Random(0), []
    for _ in range(NUM_RESAMPLES):
        z = draw.gauss(0, 1) / Z95
        end = below if z < 0 else above
        other = scale if end is None else scale * (end / scale) ** abs(z)
        again = times.resampled(draw) if times.can_be_resampled else times
        drawn.append(least(again, other, lo, hi, refine=False))
    ends = percentiles(drawn)
    upper = None if above is None and below is not None else max(ends[1], best)
    return min(ends[0], best), upper


def _closed_form(times: StepTimes, scale: float) -> float | None:
    if times.seconds_per_example == 0 or times.line_residual > STRAIGHT:
        return None
    return math.sqrt(scale * times.fixed_seconds / times.seconds_per_example)


def _because(times: StepTimes, scale: float, around: tuple[float, float], chosen: int) -> str:
    lo, hi = map(short, around)
    step = spoken(times.predict(chosen))
    return (
        f"the noise scale is {short(scale)} examples and a step of {chosen:,} takes {step}; "
        f"{lo} to {hi} examples take at most 10 % longer to the target than the best"
    )


def _line_flags(times: StepTimes) -> tuple[str, ...]:
    if times.line_residual <= STRAIGHT:
        return ()
    share = f"{100 * times.line_residual:.0f} %"
    return (f"step times leave their line by up to {share}: no closed form",)


def _edge_flags(times: StepTimes, best: float, most: float | None) -> tuple[str, ...]:
    sizes = times.batch_sizes
    if most is not None and best >= most and (not sizes or most <= sizes[-1]):
        return (f"capped by memory at {short(most)} examples",)
    if sizes and best >= sizes[-1]:
        return (f"the optimum is at the edge of the measured sizes: time more than {short(best)}",)
    if sizes and sizes[0] > 1 and best <= sizes[0]:
        return (f"the optimum is at the edge of the measured sizes: time less than {short(best)}",)
    return ()
