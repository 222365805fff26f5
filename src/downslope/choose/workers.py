"""How many workers are worth it when all wait for each other at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from downslope.choose.exchange import Link, StepCost, Waiting, exchange_seconds, step_cost
from downslope.choose.ranges import short, spoken
from downslope.choose.step_time import StepTimes
from downslope.errors import UsageError

MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class BestWorkers:
    """How many workers reach the target soonest.

    Attributes:
        num_workers: the best number, 1 included, which exchanges nothing.
        closed_form: the least of the formula over real numbers above 1; None where there is no
            formula or no such least.
        cost: a step with that many.
        speedup: time with one worker over the time with the best number.
        slower_beyond: further workers beyond this number make it slower; with one worker best,
            it may lie above 1, where several are slower than one and more are less so.
        because: one sentence.
    """

    num_workers: int
    closed_form: float | None
    cost: StepCost
    speedup: float
    slower_beyond: int
    because: str


def best_workers(
    batch_size: int,
    *,
    times: StepTimes,
    link: Link,
    waiting: Waiting | None = None,
    most: int = MOST_WORKERS,
) -> BestWorkers:
    """The number of workers with the shortest step at a given batch size, shared evenly.

    By trying each whole number. The closed form beside it: ring p* = sqrt((tau_d b - 2 n s/W)
    / (2 alpha)), server sqrt(tau_d b W/(2 n s)).

    Args:
        batch_size: b, over all workers, the same for any number of them.
        times, link, waiting: as for `step_cost`.
        most: largest number tried; never more than examples.

    Raises:
        UsageError: a number below 1.

    Example:
        >>> from downslope.choose import line_times
        >>> times = line_times(fixed_seconds=0.005, seconds_per_example=1e-3)
        >>> link = Link(num_bytes=1e7, latency_seconds=1e-4, bytes_per_second=1e8)
        >>> found = best_workers(4096, times=times, link=link)
        >>> found.num_workers, round(found.closed_form, 5), found.slower_beyond
        (140, 139.57077, 140)
    """
    counts = _counts(most, batch_size)
    costs = [step_cost(p, batch_size, times=times, link=link, waiting=waiting) for p in counts]
    totals = [cost.seconds for cost in costs]
    what = f"a step of {batch_size:,} examples"
    return _best(totals, costs, _closed_form(batch_size, times, link), what)


def best_workers_scaled(
    rows_per_worker: int,
    *,
    noise_scale: float,
    times: StepTimes,
    link: Link,
    waiting: Waiting | None = None,
    most: int = MOST_WORKERS,
) -> BestWorkers:
    """The number of workers of least time to a target where each adds its own m examples.

    The least of (1 + B_crit/(p m)) t(p, p m) over whole numbers p. It can be 1: where m is near
    the noise scale, further examples save few steps.

    Args:
        rows_per_worker: m.
        noise_scale: B_crit in examples.
        times, link, waiting: as for `step_cost`.
        most: largest number tried.

    Raises:
        UsageError: a number outside its range.

    Example:
        >>> from downslope.choose import line_times
        >>> times = line_times(fixed_seconds=0.005, seconds_per_example=2e-5)
        >>> link = Link(num_bytes=1e6, latency_seconds=1e-4, bytes_per_second=1e8)
        >>> [best_workers_scaled(64, noise_scale=b, times=times, link=link).num_workers
        ...  for b in (30, 3000)]
        [1, 77]
    """
    if not (math.isfinite(noise_scale) and noise_scale > 0):
        raise UsageError(f"noise_scale must be finite and above 0; got {noise_scale}")
    if rows_per_worker < 1:
        raise UsageError(f"rows_per_worker must be 1 or more; got {rows_per_worker}")
    counts, m = _counts(most, most), rows_per_worker
    costs = [step_cost(p, p * m, times=times, link=link, waiting=waiting) for p in counts]
    totals = [
        (1 + noise_scale / (p * m)) * cost.seconds for p, cost in zip(counts, costs, strict=True)
    ]
    return _best(totals, costs, None, f"the target with {m:,} examples a worker")


def workers_batch_size(
    num_workers: int, *, noise_scale: float, times: StepTimes, link: Link,
    waiting: Waiting | None = None,
) -> float:  # fmt: skip
    """The batch size of least time to a target over p workers, in examples.

    sqrt(B_crit p tau_F/tau_d), where tau_F is all that a step costs whatever its size: its own
    fixed cost, exchanging (none of it hidden) and waiting. For a curve that is no line, look for
    the least of (1 + B_crit/b) times `step_cost`.

    Raises:
        UsageError: a number outside its range, or no cost of an example.

    Example:
        >>> from downslope.choose import line_times
        >>> times = line_times(fixed_seconds=0.005, seconds_per_example=2e-5)
        >>> link = Link(num_bytes=0, latency_seconds=0, bytes_per_second=1e9)
        >>> round(workers_batch_size(4, noise_scale=200, times=times, link=link), 3)  # twice 223.6
        447.214
    """
    if not (math.isfinite(noise_scale) and noise_scale > 0):
        raise UsageError(f"noise_scale must be finite and above 0; got {noise_scale}")
    if times.seconds_per_example == 0:
        raise UsageError("times must have a cost of an example above 0; time larger batch sizes")
    late = waiting(num_workers) if waiting is not None and num_workers > 1 else 0.0
    fixed = times.fixed_seconds + exchange_seconds(num_workers, link) + late
    return math.sqrt(noise_scale * num_workers * fixed / times.seconds_per_example)


def _counts(most: int, largest: float) -> range:
    if most < 1 or largest < 1:
        raise UsageError(f"batch_size and most must be 1 or more; got {largest}, {most}")
    return range(1, int(min(most, largest)) + 1)


def _closed_form(batch_size: float, times: StepTimes, link: Link) -> float | None:
    compute = times.seconds_per_example * batch_size
    if link.overlap > 0 or compute == 0:
        return None
    if link.exchange == "ring":
        spread = compute - 2 * link.transfer_seconds
        if spread <= 0 or link.latency_seconds == 0:
            return None
        return math.sqrt(spread / (2 * link.latency_seconds))
    if link.exchange == "server" and link.transfer_seconds > 0:
        return math.sqrt(compute * link.num_servers / (2 * link.transfer_seconds))
    return None


def _best(
    totals: Sequence[float], costs: Sequence[StepCost], closed_form: float | None, what: str
) -> BestWorkers:
    best = min(range(len(totals)), key=totals.__getitem__)
    cost, speedup = costs[best], totals[0] / totals[best]
    # one worker stands apart: only from two on does exchanging cost
    beyond = best if best else min(range(1, len(totals)), key=totals.__getitem__, default=0)
    if best == 0 and beyond == 1:
        beyond = 0
    if best == 0:
        because = f"{what} is soonest done by one worker, which exchanges nothing"
    else:
        because = (
            f"{best + 1:,} workers do {what} {short(speedup)} times as fast as one; their step "
            f"takes {spoken(cost.seconds)}, its largest part {cost.dominant}"
        )
    if 0 < best == len(totals) - 1:
        because += f"; no more than {best + 1:,} were looked at"
    return BestWorkers(
        num_workers=best + 1,
        closed_form=closed_form,
        cost=cost,
        speedup=speedup,
        slower_beyond=beyond + 1,
        because=because,
    )
