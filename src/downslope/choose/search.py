"""Batch size with the least time to a target, over measured step times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from downslope.choose.step_time import StepTimes
from downslope.errors import UsageError

NEAR = 1.1  # batches within this factor of the least time count as good
POINTS_PER_OCTAVE = 16  # 4 % apart, where two digits are wanted; the least is then refined
REACH = 1e4  # range around the optimum in which near-equal batches of a given line are sought

Cost = Callable[[Sequence[float]], list[float]]


def time_cost(times: StepTimes, noise_scale: float) -> Cost:
    """Time to a target over S_min, at each of several batch sizes: (1 + B_crit/b) t(b) in s."""

    def cost(sizes: Sequence[float]) -> list[float]:
        seconds = times.predict_many(sizes)
        return [(1 + noise_scale / b) * t for b, t in zip(sizes, seconds, strict=True)]

    return cost


def domain(times: StepTimes, most: float | None) -> tuple[float, float]:
    """Smallest and largest batch size to consider."""
    if most is not None and not most >= 1:
        raise UsageError(f"most must be 1 or more; got {most}")
    cap = math.inf if most is None else float(most)
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
