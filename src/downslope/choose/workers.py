"""Workers that share each step: what a step costs, and how many of them are worth it."""

from __future__ import annotations

from dataclasses import dataclass

from downslope.arguments import number, whole
from downslope.choose.step_time import StepTimes
from downslope.estimate import short, spoken

MAX_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class Link:
    """Connection between workers that sum their gradients in a ring.

    Attributes:
        num_bytes: size of a gradient: parameters times bytes of each.
        latency_seconds: alpha, the fixed cost of a message.
        bytes_per_second: W, bandwidth of one worker's connection.
    """

    num_bytes: float
    latency_seconds: float
    bytes_per_second: float

    def __post_init__(self):
        number("num_bytes", self.num_bytes, least=0)
        number("latency_seconds", self.latency_seconds, least=0)
        number("bytes_per_second", self.bytes_per_second, above=0)


def exchange_seconds(num_workers: int, link: Link) -> float:
    """Time in which p workers sum their gradients in a ring, so that each has the sum.

    2 (p - 1) alpha + 2 (p - 1)/p n s/W; 0 for one worker.

    Raises:
        UsageError: fewer than one worker.

    Example:
        >>> ring = Link(num_bytes=3200, latency_seconds=1e-3, bytes_per_second=1e6)
        >>> f"{exchange_seconds(8, ring) * 1e3:.3g} ms"  # 14 messages, 5,600 bytes
        '19.6 ms'

    Source: Thakur, Rabenseifner and Gropp (2005), Optimization of collective communication
    operations in MPICH, section 4; Patarasuk and Yuan (2009), Bandwidth optimal all-reduce.
    """
    p = whole("num_workers", num_workers)
    transfer = link.num_bytes / link.bytes_per_second
    return 2 * (p - 1) * link.latency_seconds + 2 * (p - 1) / p * transfer


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Seconds of a step by component.

    Attributes:
        fixed: the fixed cost of a step.
        computing: the rest of a worker's share.
        exchanging: summing gradients.
    """

    fixed: float
    computing: float
    exchanging: float

    @property
    def seconds(self) -> float:
        """Total time."""
        return self.fixed + self.computing + self.exchanging

    @property
    def dominant(self) -> str:
        """Largest part, in words."""
        parts = {
            "the fixed cost of a step": self.fixed,
            "computing": self.computing,
            "exchanging gradients": self.exchanging,
        }
        return max(parts, key=lambda name: parts[name])


def step_cost(num_workers: int, batch_size: float, *, times: StepTimes, link: Link) -> StepCost:
    """Cost of a step of b examples shared by p workers: t(b/p) plus the exchange.

    Args:
        num_workers: p.
        batch_size: b, over all workers.
        times: step times of one worker alone.
        link: connection between the workers.

    Raises:
        UsageError: a number of workers below 1, or a batch size not above 0.

    Example:
        >>> from downslope.choose import line_times
        >>> times = line_times(fixed_seconds=0.005, seconds_per_example=1e-3)
        >>> link = Link(num_bytes=1e7, latency_seconds=1e-4, bytes_per_second=1e8)
        >>> cost = step_cost(8, 4096, times=times, link=link)
        >>> round(cost.seconds, 4), cost.dominant
        (0.6934, 'computing')
    """
    exchange = exchange_seconds(num_workers, link)
    share = times.predict(batch_size / num_workers)
    fixed = min(times.fixed_seconds, share)
    return StepCost(fixed=fixed, computing=share - fixed, exchanging=exchange)


@dataclass(frozen=True, kw_only=True)
class BestWorkers:
    """Number of workers with the shortest step.

    Attributes:
        num_workers: the best number, 1 included, which exchanges nothing.
        slower_beyond: further workers beyond this number make it slower; with one worker best,
            it may lie above 1, where several are slower than one and more are less so.
        because: one sentence.
    """

    num_workers: int
    slower_beyond: int
    because: str


def best_workers(
    batch_size: int, *, times: StepTimes, link: Link, most: int = MAX_WORKERS
) -> BestWorkers:
    """Number of workers with the shortest step at a given batch size, shared evenly.

    Found by trying each whole number; over real numbers the best is
    p* = sqrt((tau_d b - 2 n s/W) / (2 alpha)).

    Args:
        batch_size: b, over all workers, the same for any number of them.
        times, link: as for `step_cost`.
        most: largest number tried; never more than examples.

    Raises:
        UsageError: a number below 1.

    Example:
        >>> from downslope.choose import line_times
        >>> times = line_times(fixed_seconds=0.005, seconds_per_example=1e-3)
        >>> link = Link(num_bytes=1e7, latency_seconds=1e-4, bytes_per_second=1e8)
        >>> found = best_workers(4096, times=times, link=link)
        >>> found.num_workers, found.slower_beyond
        (140, 140)
    """
    counts = range(1, min(whole("most", most), whole("batch_size", batch_size)) + 1)
    costs = [step_cost(p, batch_size, times=times, link=link) for p in counts]
    totals = [cost.seconds for cost in costs]
    best = min(range(len(totals)), key=totals.__getitem__)
    # one worker is a special case: it exchanges nothing
    beyond = best if best else min(range(1, len(totals)), key=totals.__getitem__, default=0)
    if best == 0 and beyond == 1:
        beyond = 0
    what = f"a step of {batch_size:,} examples"
    if best == 0:
        because = f"{what} is done soonest by one worker, which exchanges nothing"
    else:
        because = (
            f"{best + 1:,} workers do {what} {short(totals[0] / totals[best])} times as fast as "
            f"one; their step takes {spoken(costs[best].seconds)}, its largest part "
            f"{costs[best].dominant}"
        )
    if 0 < best == len(totals) - 1:
        because += f"; no more than {best + 1:,} were tried"
    return BestWorkers(num_workers=best + 1, slower_beyond=beyond + 1, because=because)
