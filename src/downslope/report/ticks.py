"""Few round ticks with plain labels: 0.5, 20k, 1e-05."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

MOST = 5  # intervals of a linear axis
MOST_DECADES = 6  # labels of a logarithmic one
SIZES = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def tidy(axes: Any) -> None:
    """Sets the ticks of both axes that were left to matplotlib; its labels of logarithms are
    formulas, which a page without formulas would show as they are typed.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if axis.get_scale() == "log":
            axis.set_minor_locator(NullLocator())
        if isinstance(axis.get_major_locator(), FixedLocator):
            continue
        lo, hi = sorted(limits)
        ticks = log_ticks(lo, hi) if axis.get_scale() == "log" else linear_ticks(lo, hi)
        axis.set_ticks(ticks, tick_labels(ticks, together=axis.get_scale() != "log"))


def linear_ticks(lo: float, hi: float) -> list[float]:
    """Round numbers evenly apart, from two to six of them.

    Example:
        >>> linear_ticks(0, 324_000)
        [0.0, 100000.0, 200000.0, 300000.0]
        >>> linear_ticks(0.44, 0.76)
        [0.5, 0.6, 0.7]
    """
    if not lo < hi:
        return [lo]
    power = 10 ** math.floor(math.log10((hi - lo) / MOST))
    spacing = next(s * power for s in (1, 2, 2.5, 5, 10) if (hi - lo) / (s * power) <= MOST)
    first, last = math.ceil(lo / spacing - 1e-9), math.floor(hi / spacing + 1e-9)
    return [round(float(i * spacing), 12 - math.floor(math.log10(spacing)))
            for i in range(first, last + 1)]  # fmt: skip


def log_ticks(lo: float, hi: float) -> list[float]:
    """Powers of ten; where there are few, those of 1, 2 and 5, or round numbers.

    Example:
        >>> log_ticks(30, 3000)
        [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
        >>> log_ticks(1e-6, 1e3)
        [1e-06, 0.0001, 0.01, 1.0, 100.0]
        >>> log_ticks(12, 17)
        [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    """
    if not 0 < lo < hi:
        return [hi]
    exponents = range(math.floor(math.log10(lo)) - 1, math.ceil(math.log10(hi)) + 1)

    def inside(steps: Sequence[float]) -> list[float]:
        every = [float(f"{s}e{k}") for k in exponents for s in steps]
        return [t for t in every if lo * (1 - 1e-9) <= t <= hi * (1 + 1e-9)]

    decades, finer = inside([1]), inside([1, 2, 5])
    if len(finer) < 3:
        return linear_ticks(lo, hi)
    if len(finer) <= MOST_DECADES:
        return finer
    return decades[:: math.ceil(len(decades) / MOST_DECADES)]


def tick_labels(ticks: Sequence[float], *, together: bool = True) -> list[str]:
    """The ticks in one unit and with equally many decimals, as few as tell them exactly.

    Args:
        together: as on a linear axis; else each tick by itself.

    Example:
        >>> tick_labels([0.0, 50_000.0, 100_000.0]), tick_labels([0.0, 0.25, 0.5])
        (['0', '50k', '100k'], ['0.00', '0.25', '0.50'])
        >>> tick_labels([0.001, 1.0, 1e6], together=False)
        ['0.001', '1', '1M']
    """
    if not together:
        return [tick_labels([tick])[0] for tick in ticks]
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if 0 < largest < 1e-3 or largest >= 1e13:
        return [_signed(f"{tick:.4g}") for tick in ticks]
    unit, size = next((s for s in SIZES if largest >= (10 * s[1] if s[0] == "k" else s[1])),
                      ("", 1.0))  # fmt: skip
    scaled = [tick / size for tick in ticks]
    apart = min((b - a for a, b in itertools.pairwise(scaled)), default=largest / size)
    exact = 1e-3 * abs(apart)  # of a tick's place: far less than can be seen
    digits = next((d for d in range(12) if all(abs(round(s, d) - s) <= exact for s in scaled)), 12)
    return [_signed(f"{s:,.{digits}f}") + (unit if s else "") for s in scaled]


def _signed(shown: str) -> str:
    return shown.replace("-", "\N{MINUS SIGN}") if "e" not in shown else shown
