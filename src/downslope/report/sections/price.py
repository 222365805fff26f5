"""The price of the noise: examples beyond the minimum, and the angle between two batches."""

from __future__ import annotations

import math
from typing import Any

from downslope.estimate import percent
from downslope.report import drawing
from downslope.report.blocks import CellTable, Shown, chart, thinned
from downslope.report.measurements import NOT_MEASURED, Reading, positive_ends, readings
from downslope.report.reading import estimate, mapping, step_of
from downslope.report.run_data import RunData

BOUNDS_ONLY = "Only bounds are known here."
Point = tuple[Reading, float | None, float, float]  # a reading, and a value with its interval


def share_spent(batch_size: float, noise_scale: float) -> float:
    """The share of the examples used beyond the least number: z/(1 + z) at z = B/B_noise.

    Example:
        >>> share_spent(100, 300)
        0.25

    Source: McCandlish et al. (2018), section 2.2: examples are E_min (1 + B/B_noise).
    """
    return batch_size / (batch_size + noise_scale)


def spent(run: RunData) -> list[Point]:
    """The share used beyond the least number, by reading."""
    found: list[Point] = []
    for r in readings(run):
        value, lo, hi = (None if end is None else share_spent(r.batch_size, end)
                         for end in r.bounds)  # fmt: skip
        if any(end is not None for end in (value, lo, hi)):
            found.append((r, value, 0.0 if hi is None else hi, 1.0 if lo is None else lo))
    return found


def whole_share(run: RunData) -> tuple[float, float, float] | None:
    """The share of all examples used beyond the least number, and its interval.

    Each reading stands for the examples since the one before; None where no reading has a value.
    """
    before, sums = 0.0, [0.0, 0.0, 0.0]
    for r, value, lo, hi in spent(run):
        used = r.examples - before
        if value is not None and used > 0:  # a bound alone: the next reading covers its examples
            before = r.examples
            sums = [s + used * v for s, v in zip(sums, (value, lo, hi), strict=True)]
    return (sums[0] / before, sums[1] / before, sums[2] / before) if before else None


@chart("spent", "Examples spent beyond need")
def spent_chart(run: RunData) -> Shown | str:
    """The share of the examples that a very small batch would not have needed."""
    found = spent(run)
    if not found:
        return NOT_MEASURED

    def draw(ax: Any) -> None:
        drawing.band(ax, [(r.examples, v, lo, hi) for r, v, lo, hi in found], drawing.GREEN)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        ax.set_yticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])
        ax.set(ylim=(0, 1), xlabel="examples", ylabel="share")

    whole, reading = whole_share(run), BOUNDS_ONLY
    if whole is not None:
        known = [r for r, value, *_ in found if value is not None]
        until = "Over the run" if known[-1] is found[-1][0] else f"Until step {known[-1].step:,.0f}"
        reading = (
            f"{until} {percent(whole[0])} ({percent(whole[1])} to {percent(whole[2])}) of the "
            f"examples went beyond the least number: the price of taking fewer, larger steps."
        )
    return Shown(reading, _table("share", found), draw)


def angle(batch_size: float, noise_scale: float) -> float:
    """Degrees between two batches' gradients: the cosine is 1/(1 + B_noise/B) on average.

    Example:
        >>> round(angle(100, 100), 6), round(angle(1e9, 1.0), 2)
        (60.0, 0.0)
    """
    return math.degrees(math.acos(1 / (1 + noise_scale / batch_size)))


@chart("angle", "Angle between two batches")
def angle_chart(run: RunData) -> Shown | str:
    """The angle between two batches: from the Euclidean noise scale, or as measured."""
    found: list[Point] = []
    for r in readings(run):
        ends = positive_ends(r.euclidean)
        if ends[0] or ends[1]:
            value, lo, hi = (None if end is None else angle(r.batch_size, end) for end in ends)
            found.append((r, value, 0.0 if lo is None else lo, 90.0 if hi is None else hi))
    measured = _measured_angles(run)
    if not found and not measured:
        return NOT_MEASURED

    def draw(ax: Any) -> None:
        label = "by the noise" if measured else None
        points = [(r.examples, v, lo, hi) for r, v, lo, hi in found]
        drawing.band(ax, points, drawing.BLUE, label)
        if measured:
            ax.plot(*zip(*measured, strict=True), "D", color=drawing.RED, label="measured")
        top = max([93.0, *(degrees + 3 for _, degrees in measured)])
        ax.set_yticks([0, 30, 60, 90])
        ax.set(ylim=(0, top), xlabel="examples", ylabel="degrees")

    if found:
        _, v, lo, hi = found[-1]
        between = f"between {lo:.0f}° and {hi:.0f}°"
        far = between if v is None else f"{v:.0f}° ({lo:.0f}° to {hi:.0f}°)"
        reading = (
            f"At the end two batches pointed {far} apart; at 0° they agree, at 90° they have "
            "nothing in common."
        )
    else:
        reading = f"Two batches pointed {measured[-1][1]:.0f}° apart at the last measurement."
    return Shown(reading, _table("degrees", found), draw)


def _table(what: str, points: list[Point]) -> CellTable:
    head = ("step", "examples", "batch size", what, "from", "to")
    return thinned(head, [(int(r.step), r.examples, r.batch_size, *of) for r, *of in points])


def _measured_angles(run: RunData) -> list[tuple[float, float]]:
    found = []
    for record in run.of("anatomy", "diagnostics"):
        records = mapping(record.get("records"))
        degrees = estimate(records.get("angle_between_batches")).value
        if degrees is not None:
            found.append((run.course.examples(step_of(record)) or 0.0, degrees))
    return found
