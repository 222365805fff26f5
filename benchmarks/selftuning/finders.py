"""Choices made as Lightning's finders make them, and the largest batch that fits.

Lightning (`Tuner.scale_batch_size`, mode "power"; `Tuner.lr_find`) doubles the batch from 2, three
updates each, until memory runs out or a batch holds all rows. Then the rate rises from 1e-8 to 1
in 100 updates, and the one of the steepest fall of the smoothed loss is taken. Two limits are
ours: memory, since here a whole machine's would be filled, and a share of the horizon.
Compiling is not counted while they search, since PyTorch does none.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmarks.selftuning.clock import Clock
from benchmarks.selftuning.probes import Updates
from benchmarks.selftuning.workloads.workload import Workload

MEMORY_BYTES = 2 << 30  # of temporary arrays in an update
FINDER_SHARE = 0.1  # of the horizon, for each finder
FIRST_BATCH, UPDATES_PER_BATCH = 2, 3
LOWEST_RATE, HIGHEST_RATE, NUM_RATES = 1e-8, 1.0, 100
SMOOTHING, EARLY_STOP = 0.98, 4.0
SKIPPED_BEGIN, SKIPPED_END = 10, 1
DEFAULT_RATE = 1e-3  # where no rate is found
MOST_ROWS = 65_536
LEAST_UPDATES = 20  # in the horizon, of the largest batch that fits


def find_batch_size(workload: Workload, clock: Clock) -> int:
    """Largest power of two for which three updates succeeded within the limits."""
    begin, found, size = clock.seconds, FIRST_BATCH, FIRST_BATCH
    most = min(workload.num_rows or MOST_ROWS, MOST_ROWS)
    while size <= most:
        with clock.stopped():
            updates = Updates(workload, size)
        if updates.memory_bytes > MEMORY_BYTES:
            break
        state, last = updates.start, clock.seconds
        for number in range(UPDATES_PER_BATCH):
            state, _ = updates.make(state, 1e-3, number)
        found, now = size, clock.seconds
        # the next one takes about twice as long
        if now - begin + 2 * (now - last) > FINDER_SHARE * workload.horizon_seconds:
            break
        size *= 2
    return found


def find_rate(workload: Workload, batch_size: int, clock: Clock) -> float:
    """Rate at which the smoothed loss falls most steeply, by the number of the update."""
    with clock.stopped():
        updates = Updates(workload, batch_size)
    begin = clock.seconds

    def goes_on() -> bool:
        return clock.seconds - begin < FINDER_SHARE * workload.horizon_seconds

    return steepest(lambda state, rate, i: updates.make(state, rate, i), updates.start, goes_on)


def steepest(
    make: Callable[[object, float, int], tuple[object, float]],
    state: object,
    goes_on: Callable[[], bool] = lambda: True,
) -> float:
    """The same for updates `make(state, rate, number) -> (state, loss)`."""
    rates = np.geomspace(LOWEST_RATE, HIGHEST_RATE, NUM_RATES)
    mean, best, losses = 0.0, math.inf, []
    for number, rate in enumerate(rates):
        state, loss = make(state, float(rate), number)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth = mean / (1 - SMOOTHING ** (number + 1))
        losses.append(smooth)
        if not math.isfinite(smooth) or (number > 1 and smooth > EARLY_STOP * best):
            break
        best = min(best, smooth)
        if not goes_on():
            break
    kept = np.array(losses[SKIPPED_BEGIN : len(losses) - SKIPPED_END])
    if len(kept) < 2 or not np.isfinite(kept).all():
        return DEFAULT_RATE
    return float(rates[SKIPPED_BEGIN + int(np.argmin(np.gradient(kept)))])


def largest_batch(workload: Workload, seconds: Callable[[int], float]) -> int:
    """Largest power of two that fits in memory and leaves 20 updates in the horizon.

    Args:
        seconds: of an update at a batch size.
    """
    found = size = FIRST_BATCH * 16
    most = min(workload.num_rows or MOST_ROWS, MOST_ROWS)
    while size <= most:
        if Updates(workload, size).memory_bytes > MEMORY_BYTES:
            break
        if seconds(size) * LEAST_UPDATES > workload.horizon_seconds:
            break
        found, size = size, 2 * size
    return found
