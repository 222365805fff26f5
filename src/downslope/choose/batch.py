"""Batch size that reaches a target soonest: gradient noise against the cost of steps."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from downslope.arguments import number
from downslope.choose.search import domain, least, near, rounded, time_cost
from downslope.choose.step_time import StepTimes, percentiles
from downslope.errors import UsageError
from downslope.estimate import Estimate, short, spoken

STRAIGHT = 0.15  # largest residual of the line at which its closed form is trusted
NUM_RESAMPLES = 200
Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class SweetSpot:
    """Batch size with the least time to a target, and the range of sizes that are as good.

    Attributes:
        batch_size: the answer, rounded to two digits, since twice or half as much costs at most
            12.5 % more.
        optimum: minimum of the curve, with the interval that follows from repeated timings
            and the noise scale's interval.
        near: smallest and largest batch size with a time within 10 % of the least, among
            those measured.
        closed_form: sqrt(B_crit n_half) in examples; None if the step times are not on a line.
        noise_scale: B_crit = E_min/S_min in examples.
        because: one sentence.
        flags: caveats, one sentence each.
    """

    batch_size: int
    optimum: Estimate
    near: tuple[float, float]
    closed_form: float | None
    noise_scale: float
    because: str
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.batch_size:,} examples: {self.because}"


def sweet_spot(
    *,
    times: StepTimes,
    noise_scale: float,
    noise_lo: float | None = None,
    noise_hi: float | None = None,
    most: float | None = None,
) -> SweetSpot:
    """Batch size b that minimises (S_min + E_min/b) t(b) over the measured step times.

    It holds if the learning rate is tuned for each batch size. Sizes that were not timed are
    not considered.

    Args:
        times: step times, from `fit_step_times` or `line_times`.
        noise_scale: E_min/S_min in examples.
        noise_lo, noise_hi: ends of its 95 % interval, or None.
        most: largest batch size that fits in memory, or None.

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
    scale = number("noise_scale", noise_scale, above=0)
    lo, hi = domain(times, most)
    cost = time_cost(times, scale)
    best = least(times, scale, lo, hi)
    chosen = rounded(best, hi)
    ends = _interval(times, scale, best, (noise_lo, noise_hi), lo, hi)
    around = near(cost, best, lo, hi)
    return SweetSpot(
        batch_size=chosen,
        optimum=Estimate(value=best, lo=ends[0], hi=ends[1], unit="examples"),
        near=around,
        closed_form=_closed_form(times, scale),
        noise_scale=scale,
        because=_because(times, scale, around, chosen),
        flags=(*times.flags, *_edge_flags(times, best, most), *_line_flags(times)),
    )


def _interval(
    times: StepTimes,
    scale: float,
    best: float,
    noise: tuple[float | None, float | None],
    lo: float,
    hi: float,
) -> tuple[float | None, float | None]:
    """Interval of the optimum, by drawing other timings and noise scales."""
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
