"""The landscape: stability, equilibrium, temperature, the loss along lines, the trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from downslope.estimate import Estimate, percent, short
from downslope.report import drawing
from downslope.report.blocks import Facts, SectionPlan, Shown, chart, thinned, why_not
from downslope.report.reading import (
    Record,
    estimate,
    listing,
    mapping,
    numbers,
    step_of,
    text,
)
from downslope.report.run_data import RunData
from downslope.report.sections.noise import diagnostics
from downslope.report.words import cut, sentence

SUBJECTS = ("curvature", "covariance", "temperature", "escape", "memory", "trajectory")
CORRELATION = "step_correlation"
FAR_FROM_EQUILIBRIUM = 10.0  # of the ratio, from 1
UNSTABLE = -0.5  # correlation of neighbouring updates below which they undo each other


def measured(run: RunData, name: str) -> list[tuple[float, float, Estimate]]:
    """(examples, step, estimate) of a measured quantity, where it has a value."""
    found = [(step_of(r), estimate(r.get(name))) for r in run.of("measured")]
    return [(run.course.examples(step) or 0.0, step, e) for step, e in found if e.is_measured]


def _over_run(
    run: RunData, name: str, label: str, colour: str, *, level: tuple[float, str],
    span: tuple[float, float] | None = None, reading: str,
) -> Shown | str:  # fmt: skip
    """A measured quantity over the run, beside a named level to compare it with."""
    found = measured(run, name)
    if not found:
        newest = (run.of("measured") or [{}])[-1]
        return estimate(newest.get(name)).reason or ""
    points = []
    for x, _, e in found:
        y = float(e)
        points.append((x, y, y if e.lo is None else e.lo, y if e.hi is None else e.hi))

    def draw(ax: Any) -> None:
        drawing.band(ax, points, colour, label)
        ax.axhline(level[0], color=drawing.RED, linestyle="--", linewidth=1.2, label=level[1])
        inner = sorted([level[0], *(y for _, y, *_ in points)])
        reach = 0.6 * max(inner[-1] - inner[0], 0.5)  # the first intervals may be far wider
        limits = span or (inner[0] - reach, inner[-1] + reach)
        ax.set(ylim=limits, xlabel="examples", ylabel=label)

    rows = [(int(step), x, e.value, e.lo, e.hi) for x, step, e in found]
    return Shown(reading, thinned(("step", "examples", label, "from", "to"), rows), draw)


@chart("stability", "Do neighbouring steps agree?")
def stability_chart(run: RunData) -> Shown | str:
    """The correlation of neighbouring updates over the run."""
    found = measured(run, CORRELATION)
    verdicts = [words for r in run.of("measured") if (words := text(r.get("stability")))]
    tail = f": {cut(verdicts[-1], 200)}" if verdicts else ""
    value = found[-1][2] if found else ""
    reading = f"At the end the correlation of neighbouring updates was {value}{tail}"
    return _over_run(
        run, CORRELATION, "correlation", drawing.BLUE, level=(UNSTABLE, "near the limit"),
        span=(-1.05, 1.05), reading=sentence(reading),
    )  # fmt: skip


def is_near_limit(run: RunData) -> float | None:
    """The correlation of neighbouring updates where its interval lies below -0.5, else None."""
    found = measured(run, CORRELATION)
    if not found:
        return None
    newest = found[-1][2]
    value = float(newest) if newest.hi is None else newest.hi
    return value if value < UNSTABLE else None


@chart("equilibrium", "Still descending?")
def equilibrium_chart(run: RunData) -> Shown | str:
    """The equilibrium ratio over the run: 1 once the loss only fluctuates about a level."""
    found, reading = measured(run, "equilibrium_ratio"), ""
    if found:
        end = found[-1][2]
        if end.lo is None or end.hi is None:
            verdict = "without an interval nothing follows from it"
        elif end.lo <= 1 <= end.hi:
            verdict = "the interval contains 1, so the run may have reached equilibrium"
        else:
            verdict = "the interval does not contain 1, so the run had not reached equilibrium"
        reading = f"At the end the ratio was {end}: {verdict}."
        if abs(float(end) - 1) > FAR_FROM_EQUILIBRIUM:
            reading = (
                "At the end the ratio was far from 1: the run was still on its way to a level, and "
                "how far off the ratio was says nothing more."
            )
    return _over_run(
        run, "equilibrium_ratio", "equilibrium ratio", drawing.PURPLE,
        level=(1.0, "equilibrium"), reading=reading,
    )  # fmt: skip


def temperatures(run: RunData) -> Facts:
    """The temperature, prescribed and measured, at the end of the run."""
    newest, rows = (run.of("measured") or [{}])[-1], []
    for name, label, note in (
        ("temperature", "Temperature by the settings", "learning rate times noise, per parameter"),
        ("measured_temperature", "Temperature as measured", "from the size of the updates"),
        ("clip_fraction", "Gradients clipped", "those longer than the limit"),
    ):
        found = estimate(newest.get(name))
        is_share = name == "clip_fraction" and found.is_measured
        shown = percent(float(found)) if is_share else str(found)
        rows.append((label, shown, note if found.is_measured else ""))
    return Facts(title="Temperature", rows=tuple(rows))


@dataclass(frozen=True, kw_only=True)
class Line:
    """The loss along one direction through the end point.

    Attributes:
        name: of the direction.
        points: (distance, loss, from, to), the ends None where there are none.
        curvature: along it.
    """

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]
    curvature: Estimate

    @property
    def here(self) -> tuple[float, float, float | None, float | None]:
        """The point nearest to the end point."""
        return min(self.points, key=lambda point: abs(point[0]))

    @property
    def fall(self) -> float:
        """Fall of the loss below that of the end point; 0 within its interval."""
        _, loss, lo, _ = self.here
        fall = loss - min(loss for _, loss, *_ in self.points)
        return fall if fall > (0.0 if lo is None else loss - lo) else 0.0


def lines(record: Record | None) -> list[Line]:
    """The directions of a record that hold at least two points."""
    found = []
    for each in map(mapping, listing((record or {}).get("directions"))):
        xs, ys, los, his = (numbers(each.get(n)) for n in ("positions", "losses", "lo", "hi"))
        pad = [None] * len(xs)
        rows = zip(xs, ys, los + pad, his + pad, strict=False)
        good = [(x, y, lo, hi) for x, y, lo, hi in rows if x is not None and y is not None]
        has_ends = not any(None in row for row in good)
        points = good if has_ends else [(x, y, None, None) for x, y, *_ in good]
        if len(points) > 1:
            name = cut(text(each.get("name")) or "a")
            found.append(Line(name=name, points=points, curvature=estimate(each.get("curvature"))))
    return found


@chart("slice", "The loss around the end point")
def slice_chart(run: RunData) -> Shown | str:
    """The loss along lines through the end point."""
    record = run.find("slice")
    found = lines(record)
    if record is None or not found:
        return why_not(record)
    unit = text(record.get("position_unit")) or "of the parameters' norm"

    def draw(ax: Any) -> None:
        for line, (colour, dash) in zip(found, drawing.STYLES, strict=False):
            xs, ys, los, his = zip(*line.points, strict=True)
            ax.plot(xs, ys, color=colour, linestyle=dash, label=line.name)
            if None not in los:
                ax.fill_between(xs, los, his, color=colour, alpha=0.14, linewidth=0)
        ax.axvline(0, color=drawing.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        xlabel = f"distance (share {unit})" if unit.startswith("of ") else unit
        ax.set(xlabel=xlabel, ylabel="loss")

    parts = []
    for line in found:
        rise = max(loss for _, loss, *_ in line.points) - line.here[1]
        bend = f", curvature {line.curvature}" if line.curvature.is_measured else ""
        parts.append(f"along the {line.name} direction the loss rises by up to {short(rise)}{bend}")
    lower = max(line.fall for line in found)
    if lower > 0:
        parts.append(f"somewhere beside the end point it is lower by {short(lower)}")
    rows = [(line.name, *point) for line in found for point in line.points]
    table = thinned(("direction", "distance", "loss", "from", "to"), rows)
    return Shown(sentence("; ".join(parts)), table, draw)


@chart("path", "The trajectory")
def path_chart(run: RunData) -> Shown | str:
    """The trajectory of the parameters, projected on its two main directions."""
    record = run.find("path") or {}
    rows: list[tuple[Any, ...]] = []
    points = listing(record.get("points"))
    for step, point in zip(numbers(record.get("steps")), points, strict=False):
        row = (step, *numbers(point)[:2])
        if len(row) == 3 and None not in row:
            rows.append(row)
    if len(rows) < 2:
        return why_not(record)
    first, second = [share or 0.0 for share in [*numbers(record.get("shares")), 0.0, 0.0][:2]]

    def draw(ax: Any) -> None:
        _, xs, ys = zip(*rows, strict=True)
        ax.plot(xs, ys, color=drawing.BLUE, linewidth=1.2, marker="o", markersize=2.5)
        ax.plot(xs[:1], ys[:1], "o", color=drawing.AMBER, markersize=9, label="start")
        ax.plot(xs[-1:], ys[-1:], "*", color=drawing.RED, markersize=13, label="end")
        ax.margins(0.08)
        ax.set(xlabel=f"first direction ({percent(first)})", ylabel=f"second ({percent(second)})")

    shape = "nearly a straight line" if first > 0.9 else "a curve"
    reading = f"These two directions hold {percent(first + second)} of the movement: {shape}."
    return Shown(reading, thinned(("step", "first direction", "second direction"), rows), draw)


PLAN = SectionPlan(
    title="The landscape",
    lead="Whether successive steps agree shows how the learning rate suits the curvature, and "
    "whether the run still descends or only fluctuates about a level.",
    blocks=(
        stability_chart,
        equilibrium_chart,
        slice_chart,
        path_chart,
        temperatures,
        diagnostics("Diagnostics of the landscape", *SUBJECTS),
    ),
)
