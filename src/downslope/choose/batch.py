"""Batch size that reaches a target soonest: gradient noise against the cost of steps."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from downslope.arguments import number
from downslope.choose.step_time import StepTimes, percentiles
from downslope.estimate import Z95, Estimate, short, spoken

STRAIGHT = 0.15  # largest residual of the line at which its closed form is trusted
NUM_RESAMPLES = 200
NEAR = 1.1  # batches within this factor of the least time count as good
POINTS_PER_OCTAVE = 16  # 4 % apart, where two digits are wanted; the least is then refined
REACH = 1e4  # range around the optimum in which near-equal batches of a given line are sought

Cost = Callable[[Sequence[float]], list[float]]


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
    number("noise_lo", below, above=0, most=scale, optional=True)
    number("noise_hi", above, least=scale, optional=True)
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


def time_cost(times: StepTimes, noise_scale: float) -> Cost:
    """Time to a target over S_min, at each of several batch sizes: (1 + B_crit/b) t(b) in s."""

    def cost(sizes: Sequence[float]) -> list[float]:
        seconds = times.predict_many(sizes)
        return [(1 + noise_scale / b) * t for b, t in zip(sizes, seconds, strict=True)]

    return cost


def domain(times: StepTimes, most: float | None) -> tuple[float, float]:
    """Smallest and largest batch size to consider."""
    cap = float(number("most", most, least=1, optional=True) or math.inf)
    if not times.batch_sizes:
        return 1.0, cap
    return min(times.batch_sizes[0], cap), min(times.batch_sizes[-1], cap)


def grid(lo: float, hi: float) -> list[float]:
    """Sizes evenly spaced in logarithms, both ends included."""
    count = max(1, math.ceil(POINTS_PER_OCTAVE * math.log2(hi / lo)))
    return [lo * (hi / lo) ** (i / count) for i in range(count)] + [hi]


def least(times: StepTimes, scale: float, lo: float, hi: float, refine: bool = True) -> float:
    """Size of least cost between lo and hi."""
    if not times.batch_sizes:
        half_size = times.fixed_seconds / times.seconds_per_example
        return min(max(math.sqrt(scale * half_size), lo), hi)
    cost, sizes = time_cost(times, scale), grid(lo, hi)
    costs = cost(sizes)
    at = costs.index(min(costs))
    if not refine or at in (0, len(sizes) - 1):
        return sizes[at]
    from scipy.optimize import minimize_scalar  # imported here: a given line does not need it

    found = minimize_scalar(
        lambda x: cost([math.exp(x)])[0],
        bounds=(math.log(sizes[at - 1]), math.log(sizes[at + 1])),
        method="bounded",
    )
    return math.exp(float(found.x))


def rounded(best: float, hi: float) -> int:
    """Best size in two digits, at most hi."""
    digits = 10 ** max(0, math.floor(math.log10(best)) - 1)
    nearest = round(best / digits) * digits
    return max(1, nearest if nearest <= hi else math.floor(hi / digits) * digits)


def near(cost: Cost, best: float, lo: float, hi: float) -> tuple[float, float]:
    """Range of sizes around the best one that cost at most 10 % more."""
    bound = NEAR * cost([best])[0]
    ends = []
    for edge in (max(lo, best / REACH), min(hi, best * REACH)):
        sizes = grid(min(edge, best), max(edge, best))
        if edge < best:
            sizes.reverse()
        inside = best
        for size, each in zip(sizes, cost(sizes), strict=True):
            if each > bound * (1 + 1e-9):
                inside = _crossing(cost, bound, inside, size)
                break
            inside = size
        ends.append(inside)
    return ends[0], ends[1]


def _crossing(cost: Cost, bound: float, inside: float, outside: float) -> float:
    from scipy.optimize import brentq

    within, beyond = math.log(inside), math.log(outside)
    root = brentq(lambda x: cost([math.exp(x)])[0] - bound, within, beyond, xtol=1e-6)
    return math.exp(float(root))  # type: ignore[arg-type]
