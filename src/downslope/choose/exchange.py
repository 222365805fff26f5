"""What a step costs that several workers share, and what each part of it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from downslope.choose.step_time import StepTimes
from downslope.errors import UsageError

Exchange = Literal["ring", "tree", "server"]
Waiting = Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Link:
    """What joins the workers, and how they add up their gradients.

    Attributes:
        num_bytes: size of a gradient: parameters times bytes of each.
        latency_seconds: alpha, what a message costs whatever its size.
        bytes_per_second: W, of one worker's connection.
        exchange: "ring" or "tree" (all-reduce), or "server" (one worker that all send to).
        num_servers: among how many servers the parameters are split.
        overlap: share of the computing behind which exchanging can hide, 0 to 1.
    """

    num_bytes: float
    latency_seconds: float
    bytes_per_second: float
    exchange: Exchange = "ring"
    num_servers: int = 1
    overlap: float = 0.0

    def __post_init__(self):
        for name in ("num_bytes", "latency_seconds"):
            number = getattr(self, name)
            if not (math.isfinite(number) and number >= 0):
                raise UsageError(f"{name} must be finite and at least 0; got {number}")
        if not self.bytes_per_second > 0:
            raise UsageError(f"bytes_per_second must be above 0; got {self.bytes_per_second}")
        if self.exchange not in get_args(Exchange):
            raise UsageError(f"exchange must be ring, tree or server; got {self.exchange!r}")
        if self.num_servers < 1:
            raise UsageError(f"num_servers must be 1 or more; got {self.num_servers}")
        if not 0 <= self.overlap <= 1:
            raise UsageError(f"overlap must be 0 to 1; got {self.overlap}")

    @property
    def transfer_seconds(self) -> float:
        """n s/W: one gradient over one connection."""
        return self.num_bytes / self.bytes_per_second


def exchange_seconds(num_workers: int, link: Link) -> float:
    """Time in which p workers add up their gradients and each has the sum.

    Ring: 2 (p - 1) alpha + 2 (p - 1)/p n s/W. Tree: 2 ceil(log2 p) (alpha + n s/W). Server:
    2 alpha + 2 p n s/W, the second term over the number of servers. One worker: nothing.

    Raises:
        UsageError: fewer than one worker.

    Example:
        >>> ring = Link(num_bytes=3200, latency_seconds=1e-3, bytes_per_second=1e6)
        >>> f"{exchange_seconds(8, ring) * 1e3:.3g} ms"  # 14 messages, 5,600 bytes
        '19.6 ms'

    Source: Thakur, Rabenseifner and Gropp (2005), Optimization of collective communication
    operations in MPICH, section 4; Patarasuk and Yuan (2009), Bandwidth optimal all-reduce.
    """
    if num_workers < 1:
        raise UsageError(f"num_workers must be 1 or more; got {num_workers}")
    if num_workers == 1:
        return 0.0
    p, alpha, transfer = num_workers, link.latency_seconds, link.transfer_seconds
    if link.exchange == "ring":
        return 2 * (p - 1) * alpha + 2 * (p - 1) / p * transfer
    if link.exchange == "tree":
        return 2 * (p - 1).bit_length() * (alpha + transfer)
    return 2 * alpha + 2 * p * transfer / link.num_servers


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What the seconds of a step go into.

    Attributes:
        fixed: what a step costs whatever its size.
        computing: the rest of a worker's share.
        exchanging: adding up gradients, where it does not hide behind computing.
        waiting: for the slowest worker.
    """

    fixed: float
    computing: float
    exchanging: float
    waiting: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.fixed + self.computing + self.exchanging + self.waiting

    @property
    def dominant(self) -> str:
        """The largest part, in words."""
        parts = {
            "the fixed cost of a step": self.fixed,
            "computing": self.computing,
            "exchanging gradients": self.exchanging,
            "waiting for the slowest worker": self.waiting,
        }
        return max(parts, key=lambda name: parts[name])


def step_cost(
    num_workers: int,
    batch_size: float,
    *,
    times: StepTimes,
    link: Link,
    waiting: Waiting | None = None,
) -> StepCost:
    """The time of a step of b examples shared by p workers, by what it goes into.

    t(b/p) from the step times, plus the exchange, of which the share `overlap` of the computing
    is hidden, plus waiting.

    Args:
        num_workers: p.
        batch_size: b, over all workers.
        times: step times of one worker alone.
        link: what joins the workers.
        waiting: seconds lost to the slowest of p workers, such as from `exponential_wait`; none
            is counted for one worker.

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
    late = waiting(num_workers) if waiting is not None and num_workers > 1 else 0.0
    return StepCost(
        fixed=fixed,
        computing=share - fixed,
        exchanging=max(0.0, exchange - link.overlap * (share - fixed)),
        waiting=late,
    )
