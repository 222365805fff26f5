"""What the noise costs: examples spent beyond need, and how little two batches agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from downslope.report import drawing
from downslope.report.blocks import Chart, Gap, thinned
from downslope.report.noise_readings import NOT_MEASURED, Reading, readings
from downslope.report.reading import estimate, mapping, of_event, step_of
from downslope.report.run_data import RunData
from downslope.report.words import percent


def share_spent(batch_size: float, noise_scale: float) -> float:
    """The share of the examples used beyond the least number: z/(1 + z) at z = B/B_noise.

    Example:
        >>> share_spent(100, 300)
        0.25

    Source: McCandlish et al. (2018), section 2.2: examples are E_min (1 + B/B_noise).
    """
    return batch_size / (batch_size + noise_scale)


def spent(run: RunData) -> list[tuple[Reading, float | None, float, float]]:
    """By reading, the share spent beyond need with its ends."""
    found = []
    for r in readings(run):
        if (r.scale.value or r.scale.lo or r.scale.hi or 0) <= 0:
            continue
        value = share_spent(r.batch_size, r.scale.value) if r.scale.value else None
        lo = share_spent(r.batch_size, r.scale.hi) if r.scale.hi else 0.0
        hi = share_spent(r.batch_size, r.scale.lo) if r.scale.lo and r.scale.lo > 0 else 1.0
        found.append((r, value, lo, hi))
    return found


def whole_share(run: RunData) -> tuple[float, float, float] | None:
    """The share of all examples spent beyond need, and its ends; None where nothing tells.

    Each reading stands for the examples since the one before.
    """
    before, sums, weight = 0.0, [0.0, 0.0, 0.0], 0.0
    for r, value, lo, hi in spent(run):
        used = r.examples - before
        if value is None or used <= 0:
            continue  # a bound alone has no value: the next reading stands for its examples too
        before = r.examples
        weight += used
        sums = [s + used * v for s, v in zip(sums, (value, lo, hi), strict=True)]
    return None if not weight else (sums[0] / weight, sums[1] / weight, sums[2] / weight)


def spent_chart(run: RunData) -> Chart | Gap:
    """The share of the examples that a smaller batch would not have needed."""
    title = "Examples spent beyond need"
    found = spent(run)
    if not found:
        return Gap(title=title, reason=NOT_MEASURED)

    def draw(ax: Any) -> None:
        _band(ax, [(r.examples, v, lo, hi) for r, v, lo, hi in found], drawing.GREEN)
        ax.set_ylim(0, 1)
        _percent_axis(ax)
        ax.set_xlabel("examples")
        ax.set_ylabel("share")

    whole = whole_share(run)
    reading = "Only bounds are known here."
    if whole is not None:
        known = [r for r, value, *_ in found if value is not None]
        until = "Over the run" if known[-1] is found[-1][0] else f"Until step {known[-1].step:,.0f}"
        reading = (
            f"{until} {percent(whole[0])} ({percent(whole[1])} to {percent(whole[2])}) of the "
            f"examples went beyond the least number: the price of taking fewer, larger steps."
        )
    rows = [(int(r.step), r.examples, r.batch_size, v, lo, hi) for r, v, lo, hi in found]
    head = ("step", "examples", "batch size", "share", "from", "to")
    return Chart(name="spent", title=title, reading=reading, table=thinned(head, rows), draw=draw)


def angle(batch_size: float, noise_scale: float) -> float:
    """Degrees between two batches' gradients: the cosine is 1/(1 + B_noise/B) on average.

    Example:
        >>> round(angle(100, 100), 6), round(angle(1e9, 1.0), 2)
        (60.0, 0.0)
    """
    return math.degrees(math.acos(1 / (1 + noise_scale / batch_size)))


def angle_chart(run: RunData) -> Chart | Gap:
    """The angle between two batches: from the noise scale, and as measured where it was."""
    title = "Angle between two batches"
    found = []
    for r in readings(run):
        if (r.scale.value or r.scale.lo or 0) <= 0:
            continue
        value = angle(r.batch_size, r.scale.value) if r.scale.value else None
        lo = angle(r.batch_size, r.scale.lo) if r.scale.lo and r.scale.lo > 0 else 0.0
        hi = angle(r.batch_size, r.scale.hi) if r.scale.hi else 90.0
        found.append((r, value, lo, hi))
    measured = _measured_angles(run)
    if not found and not measured:
        return Gap(title=title, reason=NOT_MEASURED)

    def draw(ax: Any) -> None:
        _band(ax, [(r.examples, v, lo, hi) for r, v, lo, hi in found], drawing.BLUE, "by the noise")
        if measured:
            ax.plot([x for x, _ in measured], [y for _, y in measured], "D", color=drawing.RED,
                    label="measured")  # fmt: skip
        ax.set_ylim(0, max(93.0, *(y + 3 for _, y in measured)) if measured else 93)
        ax.set_yticks([0, 30, 60, 90])
        ax.set_xlabel("examples")
        ax.set_ylabel("degrees")
        if measured:
            drawing.legend(ax)

    reading = "Only bounds are known here."
    if found:
        _, v, lo, hi = found[-1]
        ends = f"{lo:.0f}° to {hi:.0f}°"
        far = ends if v is None else f"{v:.0f}° ({ends})"
        reading = (
            f"At the end two batches pointed {far} apart; at 0° they agree, at 90° they have "
            "nothing in common."
        )
    elif measured:
        reading = f"Two batches pointed {measured[-1][1]:.0f}° apart when last looked at."
    rows = [(int(r.step), r.examples, r.batch_size, v, lo, hi) for r, v, lo, hi in found]
    head = ("step", "examples", "batch size", "degrees", "from", "to")
    return Chart(name="angle", title=title, reading=reading, table=thinned(head, rows), draw=draw)


def _measured_angles(run: RunData) -> list[tuple[float, float]]:
    found = []
    for record in of_event(run.kept, "anatomy"):
        seen = estimate(mapping(record.get("records")).get("angle_between_batches")).value
        if seen is not None:
            found.append((run.course.examples(step_of(record)) or 0.0, seen))
    return found


def _band(
    ax: Any,
    points: Sequence[tuple[float, float | None, float, float]],
    colour: str,
    label: str = "",
) -> None:
    """A line with its band, or one point with its bar."""
    xs = [x for x, *_ in points]
    if len(points) > 1:
        ax.fill_between(xs, [lo for *_, lo, _ in points], [hi for *_, hi in points], color=colour,
                        alpha=0.16, linewidth=0)  # fmt: skip
    known = [(x, y, lo, hi) for x, y, lo, hi in points if y is not None]
    error = None
    if len(known) == 1:
        _, y, lo, hi = known[0]
        error = [[max(0.0, y - lo)], [max(0.0, hi - y)]]
    if known:
        ax.errorbar([x for x, *_ in known], [y for _, y, *_ in known], yerr=error, fmt="o-",
                    color=colour, markersize=3.5 if len(known) < 60 else 0,
                    label=label or None)  # fmt: skip


def _percent_axis(ax: Any) -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1]
    ax.set_yticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
