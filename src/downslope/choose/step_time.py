"""Time of a step by batch size: a straight line if it is one, else a curve."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from downslope.arguments import number
from downslope.errors import UsageError
from downslope.estimate import Estimate, short

NUM_RESAMPLES = 200  # 2.5 % of them are five: enough for ends that are shown to one digit
FEW_REPEATS = 3  # with fewer repeats the spread cannot be resampled
SLOWDOWN = 0.15  # drop of examples per second from one size to the next; beyond jitter, assumed


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Measured seconds of a step by batch size, and the straight line through them.

    Made by `fit_step_times` or `line_times`.

    Attributes:
        batch_sizes: sizes measured, in examples, ascending; empty for a given line.
        repeats: measured times of each.
        fixed_seconds, seconds_per_example: tau_f and tau_d of the line tau_f + tau_d b.
    """

    batch_sizes: tuple[float, ...]
    repeats: tuple[tuple[float, ...], ...]
    fixed_seconds: float
    seconds_per_example: float

    @cached_property
    def seconds(self) -> tuple[float, ...]:
        """Median time of a step of each size."""
        return tuple(statistics.median(each) for each in self.repeats)

    @property
    def line_residual(self) -> float:
        """Largest relative distance of a measured size from the line."""
        points = zip(self.batch_sizes, self.seconds, strict=True)
        return max((abs(self.line(b) / t - 1) for b, t in points), default=0.0)

    @cached_property
    def half_size(self) -> Estimate:
        """n_half = tau_f/tau_d in examples, where fixed and per-example cost are equal.

        The interval is by resampling the repeats. It does not include how far the curve is
        from a line; see `line_residual`.
        """
        if self.seconds_per_example == 0:
            reason = "a step takes as long at every size timed"
            return Estimate(value=None, unit="examples", reason=reason)
        value = self.fixed_seconds / self.seconds_per_example
        if not self.can_be_resampled:
            return Estimate(value=value, unit="examples")
        draw = random.Random(0)  # the same times give the same interval
        drawn = [self.resampled(draw) for _ in range(NUM_RESAMPLES)]
        lo, hi = percentiles([_ratio(d.fixed_seconds, d.seconds_per_example) for d in drawn])
        upper = hi if math.isfinite(hi) else None
        return Estimate(value=value, lo=min(lo, value), hi=upper and max(upper, value),
                     unit="examples")  # fmt: skip

    @property
    def slowdowns(self) -> tuple[tuple[float, float], ...]:
        """Pairs of neighbouring sizes between which examples per second drop by more than 15 %.

        The larger one has outgrown a cache, or the memory.
        """
        rates = [b / t for b, t in zip(self.batch_sizes, self.seconds, strict=True)]
        return tuple(
            (self.batch_sizes[i], self.batch_sizes[i + 1])
            for i in range(len(rates) - 1)
            if rates[i + 1] < (1 - SLOWDOWN) * rates[i]
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """Caveats, one sentence each."""
        flags = [
            f"from {short(a)} to {short(b)} examples per step the throughput falls"
            for a, b in self.slowdowns
        ]
        if len(self.batch_sizes) == 2:
            flags.append("only two sizes were timed: the line cannot be checked")
        if self.fixed_seconds == 0:
            flags.append("the fixed cost cannot be told from 0")
        if self.seconds_per_example == 0:
            flags.append("the cost of an example cannot be told from 0: time larger sizes")
        return tuple(flags)

    @property
    def can_be_resampled(self) -> bool:
        """True if each size has the three repeats that resampling needs."""
        return bool(self.repeats) and min(map(len, self.repeats)) >= FEW_REPEATS

    def resampled(self, draw: random.Random) -> StepTimes:
        """Step times with the repeats of each size drawn anew from themselves."""
        drawn = [draw.choices(one, k=len(one)) for one in self.repeats]
        return fit_step_times(self.batch_sizes, drawn)

    def is_measured_at(self, batch_size: float) -> bool:
        """True if a size is within the measured range; always true for a given line."""
        sizes = self.batch_sizes
        return not sizes or sizes[0] <= batch_size <= sizes[-1]

    def predict(self, batch_size: float) -> float:
        """Seconds of a step at a batch size, which need not be whole.

        Between measured sizes, the curve through them; outside, the line scaled to meet it.
        """
        return self.predict_many([batch_size])[0]

    def predict_many(self, batch_sizes: Sequence[float]) -> list[float]:
        """Seconds of a step of each batch size."""
        for size in batch_sizes:
            number("batch_size", size, above=0)
        lines = [self.line(size) for size in batch_sizes]
        if not self.batch_sizes:
            return lines
        lo, hi = math.log(self.batch_sizes[0]), math.log(self.batch_sizes[-1])
        within = [min(max(math.log(size), lo), hi) for size in batch_sizes]
        ratios = self._curve(within).tolist()
        return [line * math.exp(ratio) for line, ratio in zip(lines, ratios, strict=True)]

    def line(self, batch_size: float) -> float:
        """tau_f + tau_d b, in seconds."""
        return self.fixed_seconds + self.seconds_per_example * batch_size

    def with_overhead(self, seconds: float) -> StepTimes:
        """Step times with a fixed number of seconds added to every step."""
        number("seconds", seconds, least=0)
        if not self.batch_sizes:
            fixed = self.fixed_seconds + seconds
            return line_times(fixed_seconds=fixed, seconds_per_example=self.seconds_per_example)
        longer = [[each + seconds for each in one] for one in self.repeats]
        return fit_step_times(self.batch_sizes, longer)

    @cached_property
    def _curve(self) -> Any:
        """Monotone interpolation of log(time/line) by log(size).

        The line, which bends in logarithms, is divided out first, so that it is reproduced
        exactly even by sizes a factor of 16 apart.
        """
        from scipy.interpolate import PchipInterpolator  # a given line does not need it

        points = zip(self.batch_sizes, self.seconds, strict=True)
        ratios = [math.log(t / self.line(b)) for b, t in points]
        return PchipInterpolator([math.log(b) for b in self.batch_sizes], ratios)


def fit_step_times(
    batch_sizes: Sequence[float],
    seconds: Sequence[float | Sequence[float]],
) -> StepTimes:
    """Fit the cost of a step by batch size to timed steps.

    The line tau_f + tau_d b is by least squares of relative residuals, neither term below 0.

    Args:
        batch_sizes: sizes in examples, at least two different ones.
        seconds: for each size its time, or the times of all its repeats (15 are good), without
            the first step, which compiles, and with the sizes interleaved.

    Raises:
        UsageError: fewer than two sizes, numbers that are not finite and above 0, or lengths
            that differ.

    Example:
        >>> times = fit_step_times([64, 256, 1024], [6.28e-3, 10.12e-3, 25.48e-3])
        >>> print(times.half_size, f"| {times.predict(512) * 1e3:.2f} ms")
        250 examples | 15.24 ms

    Source: n_half is n_1/2 of Hockney and Jesshope (1981), Parallel Computers, chapter 1.
    """
    repeats = _repeats(batch_sizes, seconds)
    sizes = tuple(sorted(repeats))
    every = tuple(tuple(repeats[size]) for size in sizes)
    fixed, per_example = _line(sizes, [statistics.median(one) for one in every])
    return StepTimes(
        batch_sizes=sizes,
        repeats=every,
        fixed_seconds=fixed,
        seconds_per_example=per_example,
    )


def line_times(*, fixed_seconds: float, seconds_per_example: float) -> StepTimes:
    """Step times of a known line tau_f + tau_d b, without measurements.

    Args:
        fixed_seconds: tau_f, at least 0.
        seconds_per_example: tau_d, above 0.

    Raises:
        UsageError: a number outside its range.

    Example:
        >>> line_times(fixed_seconds=0.005, seconds_per_example=2e-5).predict(250)
        0.01
    """
    number("fixed_seconds", fixed_seconds, least=0)
    number("seconds_per_example", seconds_per_example, above=0)
    return StepTimes(
        batch_sizes=(),
        repeats=(),
        fixed_seconds=float(fixed_seconds),
        seconds_per_example=float(seconds_per_example),
    )


def percentiles(drawn: Sequence[float]) -> tuple[float, float]:
    """2.5 % and 97.5 % points of resampled numbers, interpolated between neighbours.

    Example:
        >>> percentiles(range(201))
        (5.0, 195.0)
    """
    ordered = sorted(drawn)
    ends = []
    for share in (0.025, 0.975):
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        ends.append(ordered[below] + (place - below) * (ordered[above] - ordered[below]))
    return ends[0], ends[1]


def _line(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float]:
    """(tau_f, tau_d), neither below 0, that minimise the sum of (1 - (tau_f + tau_d b)/t)^2."""
    x = [1 / t for t in times]
    y = [b / t for b, t in zip(sizes, times, strict=True)]
    xx, yy = sum(a * a for a in x), sum(a * a for a in y)
    xy = sum(a * b for a, b in zip(x, y, strict=True))
    determinant = xx * yy - xy * xy
    if determinant > 1e-12 * xx * yy:  # else rounding decides
        fixed = (sum(x) * yy - sum(y) * xy) / determinant
        per_example = (sum(y) * xx - sum(x) * xy) / determinant
        if fixed >= 0 and per_example >= 0:
            return fixed, per_example
    # Minimum on an edge of the quadrant: each explains sum^2/squares of the times.
    if sum(x) ** 2 / xx > sum(y) ** 2 / yy:
        return sum(x) / xx, 0.0
    return 0.0, sum(y) / yy


def _ratio(fixed: float, per_example: float) -> float:
    return fixed / per_example if per_example > 0 else math.inf


def _repeats(
    batch_sizes: Sequence[float], seconds: Sequence[float | Sequence[float]]
) -> dict[float, list[float]]:
    """Times by size; entries of the same size are joined."""
    if len(batch_sizes) != len(seconds):
        raise UsageError(
            "batch_sizes, seconds must have the same length; got "
            f"{len(batch_sizes)}, {len(seconds)}"
        )
    found: dict[float, list[float]] = {}
    for size, times in zip(batch_sizes, seconds, strict=True):
        number("batch_sizes", size, above=0)
        several = [float(t) for t in times] if isinstance(times, Sequence) else [float(times)]
        for each in several:
            number("seconds", each, above=0)
        found.setdefault(float(size), []).extend(several)
    found = {size: several for size, several in found.items() if several}
    if len(found) < 2:
        raise UsageError(f"batch_sizes must be two or more different sizes; got {len(found)}")
    return found
