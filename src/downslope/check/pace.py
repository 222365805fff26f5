"""Time of an epoch, estimated from a few timed calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from downslope.arguments import whole
from downslope.check.findings import Finding
from downslope.estimate import Estimate, not_estimable

COVERAGE = 0.95
MIN_TIMES = 6  # below, no two of the times hold the median with 95 %


def median_seconds(seconds: Sequence[float]) -> Estimate:
    """Median of some times, with the interval between two of them that holds it with 95 %.

    The k-th smallest and the k-th largest of n times hold the median with probability
    1 - 2 P(Binomial(n, 1/2) < k), whatever the law of the times.

    Args:
        seconds: n times, in seconds.

    Example:
        >>> print(median_seconds([1.0, 1.1, 0.9, 1.0, 1.2, 5.0, 1.0, 1.05, 0.95]))
        1.00 (0.95 to 1.20) s
        >>> print(median_seconds([]))
        not estimable: nothing was timed

    Source: David and Nagaraja 2003, Order statistics, section 7.1.
    """
    times = np.sort(np.asarray(seconds, dtype=np.float64))
    n = len(times)
    if not n:
        return not_estimable("nothing was timed", unit="s")
    value = float(np.median(times))
    if n < MIN_TIMES:
        flag = f"no interval from fewer than {MIN_TIMES} times"
        return Estimate(value=value, unit="s", num_steps=n, method="median", flags=(flag,))
    k, below = 0, 0.5**n
    while 1 - 2 * below >= COVERAGE:
        k += 1
        below += math.comb(n, k) * 0.5**n
    return Estimate(
        value=value, lo=float(times[k - 1]), hi=float(times[n - k]), unit="s", num_steps=n,
        method="median; interval from order statistics",
    )  # fmt: skip


def epoch_time(
    window_seconds: Sequence[float],
    num_windows: int,
    *,
    num_steps: int,
    reading_seconds: float | None = None,
    compiling_seconds: float | None = None,
) -> Finding:
    """Time of one epoch: the median time of a window times their number, or reading if longer.

    Reading goes on beside computing, so the longer of the two decides. Held-out evaluation is not
    in it, nor is what other programs will take.

    Args:
        window_seconds: times of one window (an update, or a part of one), from several calls.
        num_windows: windows in an epoch.
        num_steps: updates in an epoch.
        reading_seconds: time to read the rows of an epoch, or None where they are in memory.
        compiling_seconds: time of compiling, once a run.

    Returns:
        A `Finding` "pace", always fine.

    Raises:
        UsageError: num_windows or num_steps below 1.

    Example:
        >>> print(epoch_time([1e-4] * 9, 20_000, num_steps=20_000, reading_seconds=0.5).sentence)
        an epoch of 20,000 updates takes about 2 s, 100 µs each; reading its rows 0.5 s,
        beside that
    """
    num_windows, num_steps = whole("num_windows", num_windows), whole("num_steps", num_steps)
    window = median_seconds(window_seconds)
    if window.value is None:
        return Finding(name="pace", severity="fine", sentence=str(window))
    computing = window.scaled(float(num_windows), unit="s")
    seconds = window.value * num_windows
    update = Estimate(value=seconds / num_steps, unit="s")
    waits = reading_seconds is not None and reading_seconds > seconds
    text = f"an epoch of {num_steps:,} updates takes about {computing}, {update} each"
    if reading_seconds is not None:
        text += f"; reading its rows {reading_seconds:.2g} s, "
        text += "which sets the pace" if waits else "beside that"
    if compiling_seconds is not None:
        text += f"; compiling took {compiling_seconds:.2g} s, once"
    return Finding(
        name="pace", severity="fine", sentence=text,
        remedy="a narrower table or a faster disk would speed it up" if waits else None,
        values={
            "epoch_seconds": max(seconds, reading_seconds or 0), "computing": computing,
            "reading_seconds": reading_seconds, "window": window, "num_windows": num_windows,
            "num_steps": num_steps, "compiling_seconds": compiling_seconds,
        },
    )  # fmt: skip
