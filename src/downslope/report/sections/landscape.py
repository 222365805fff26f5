"""The landscape: stability, temperature and equilibrium, a slice of the loss, the path."""

from __future__ import annotations

from typing import Any

from downslope.estimate import Estimate
from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Facts, Gap, Section, thinned
from downslope.report.reading import (
    Record,
    estimate,
    listing,
    mapping,
    number,
    numbers,
    of_event,
    step_of,
    text,
)
from downslope.report.run_data import RunData
from downslope.report.sections.noise import anatomy
from downslope.report.words import cut, percent, sentence, short

SUBJECTS = ("curvature", "covariance", "temperature", "escape", "memory", "trajectory")
NOT_LOOKED_AT = "not looked at: the journal has no such record"


def section(run: RunData) -> Section:
    """The part of the page."""
    blocks: list[Block] = [
        stability_chart(run),
        equilibrium_chart(run),
        slice_chart(run),
        path_chart(run),
        temperatures(run),
        *anatomy(run, SUBJECTS, "Closer looks at the landscape"),
    ]
    return Section(
        name="landscape",
        title="The landscape",
        lead="How steps follow one another tells how the learning rate sits with the curvature, "
        "and whether the run still descends or only shakes about a level.",
        blocks=tuple(blocks),
    )


def measured(run: RunData, name: str) -> list[tuple[float, float, Estimate]]:
    """(examples, step, estimate) of a measured quantity, where it has a value."""
    found = []
    for record in of_event(run.kept, "measured"):
        value = estimate(record.get(name))
        if value.value is not None:
            step = step_of(record)
            found.append((run.course.examples(step) or 0.0, step, value))
    return found


def _why_not(run: RunData, name: str) -> str:
    """The newest reason why a measured quantity has no value."""
    records = of_event(run.kept, "measured")
    reason = estimate(records[-1].get(name)).reason if records else ""
    return reason or "it was not measured in this run"


def _line(run: RunData, name: str, key: str, *, chart: str, title: str, reading: str, unit: str,
          colour: str, mark: float, mark_label: str, span: tuple[float, float] | None = None
          ) -> Chart | Gap:  # fmt: skip
    """A measured quantity over the run with its band and a level to compare with."""
    found = measured(run, name)
    if not found:
        return Gap(title=title, reason=_why_not(run, name))

    def draw(ax: Any) -> None:
        xs = [x for x, _, _ in found]
        ys = [e.value or 0.0 for _, _, e in found]
        ends = [(y if e.lo is None else e.lo, y if e.hi is None else e.hi)
                for y, (_, _, e) in zip(ys, found, strict=True)]  # fmt: skip
        if len(found) > 1:
            ax.fill_between(xs, [lo for lo, _ in ends], [hi for _, hi in ends], color=colour,
                            alpha=0.16, linewidth=0)  # fmt: skip
        error = None
        if len(found) == 1:
            error = [[max(0.0, ys[0] - ends[0][0])], [max(0.0, ends[0][1] - ys[0])]]
        ax.errorbar(xs, ys, yerr=error, fmt="o-" if len(xs) < 60 else "-", color=colour,
                    markersize=3.5, label=key)  # fmt: skip
        ax.axhline(mark, color=drawing.RED, linestyle="--", linewidth=1.2, label=mark_label)
        if span is not None:
            ax.set_ylim(*span)
        else:  # the bands of the first readings may be far wider than the rest
            inner = sorted([*ys, mark])
            reach = max(inner[-1] - inner[0], 0.5)
            ax.set_ylim(inner[0] - 0.6 * reach, inner[-1] + 0.6 * reach)
        ax.set_xlabel("examples")
        ax.set_ylabel(unit)
        drawing.legend(ax)

    rows = [(int(step), x, e.value, e.lo, e.hi) for x, step, e in found]
    head = ("step", "examples", key, "from", "to")
    return Chart(name=chart, title=title, reading=reading, table=thinned(head, rows), draw=draw)


def stability_chart(run: RunData) -> Chart | Gap:
    """The correlation of neighbouring updates over the run."""
    found = measured(run, "step_correlation")
    records = [r for r in of_event(run.kept, "measured") if text(r.get("stability"))]
    words = text(records[-1].get("stability")) if records else ""
    value = str(found[-1][2]) if found else ""
    tail = f": {cut(words, 200)}" if words else ""
    return _line(
        run, "step_correlation", "correlation", chart="stability",
        title="Do neighbouring steps agree?",
        reading=sentence(f"At the end the correlation of neighbouring updates was {value}{tail}"),
        unit="correlation", colour=drawing.BLUE, mark=-0.5, mark_label="near the limit",
        span=(-1.05, 1.05),
    )  # fmt: skip


def equilibrium_chart(run: RunData) -> Chart | Gap:
    """The equilibrium ratio over the run: 1 once it only shakes about a level."""
    found = measured(run, "equilibrium_ratio")
    reading = ""
    if found:
        end = found[-1][2]
        lo, hi = end.lo, end.hi
        if lo is None or hi is None:
            verdict = "without an interval nothing follows"
        elif lo <= 1 <= hi:
            verdict = "1 lies within, so the run may only shake about a level by now"
        else:
            verdict = "1 lies outside, so the run was still on its way"
        reading = f"At the end the ratio was {end}: {verdict}."
    return _line(
        run, "equilibrium_ratio", "ratio", chart="equilibrium", title="Still descending?",
        reading=reading, unit="equilibrium ratio", colour=drawing.PURPLE, mark=1.0,
        mark_label="level",
    )  # fmt: skip


def temperatures(run: RunData) -> Facts:
    """The temperature, prescribed and measured, at the end of the run."""
    records = of_event(run.kept, "measured")
    newest = records[-1] if records else {}
    rows = []
    for name, label, note in (
        ("temperature", "Temperature by the settings", "learning rate times noise, per parameter"),
        ("measured_temperature", "Temperature as measured", "from the size of the updates"),
        ("clip_fraction", "Gradients clipped", "those longer than the limit"),
    ):
        found = estimate(newest.get(name))
        if name == "clip_fraction" and found.value is not None:
            words = percent(found.value)
        else:
            words = str(found)
        rows.append((label, words, note if found.value is not None else ""))
    return Facts(title="Temperature", rows=tuple(rows))


def slice_chart(run: RunData) -> Chart | Gap:
    """The loss along two directions through the end point."""
    title = "A slice through the loss"
    record = run.find("slice")
    lines = _directions(record)
    if record is None or not lines:
        return Gap(title=title, reason=text((record or {}).get("reason")) or NOT_LOOKED_AT)
    unit = text(record.get("position_unit")) or "of the parameters' norm"

    def draw(ax: Any) -> None:
        for (name, xs, ys, los, his, _), (colour, dash) in zip(lines, drawing.STYLES, strict=False):
            ax.plot(xs, ys, color=colour, linestyle=dash, label=name)
            if los and his:
                ax.fill_between(xs, los, his, color=colour, alpha=0.14, linewidth=0)
        ax.axvline(0, color=drawing.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        ax.set_xlabel(f"distance (share {unit})" if unit.startswith("of ") else unit)
        ax.set_ylabel("loss")
        drawing.legend(ax)

    parts = []
    for name, xs, ys, *_, curvature in lines:
        here = min(range(len(xs)), key=lambda i: abs(xs[i]))
        rise = max(ys) - ys[here]
        bend = f", curvature {curvature}" if curvature.value is not None else ""
        parts.append(f"along the {name} direction the loss rises by up to {short(rise)}{bend}")
    lower = max((_fall(ys, los, xs) for _, xs, ys, los, _, _ in lines), default=0.0)
    if lower > 0:
        parts.append(f"it is lower by {short(lower)} somewhere beside the end point")
    rows = [
        (name, x, y, lo, hi)
        for name, xs, ys, los, his, _ in lines
        for x, y, lo, hi in zip(xs, ys, los or [None] * len(xs), his or [None] * len(xs),
                                strict=True)
    ]  # fmt: skip
    return Chart(
        name="slice",
        title=title,
        reading=sentence("; ".join(parts)),
        table=thinned(("direction", "distance", "loss", "from", "to"), rows),
        draw=draw,
    )


def _fall(losses: list[float], los: list[float], places: list[float]) -> float:
    """How far the loss falls below that of the end point; 0 within its interval."""
    here = min(range(len(places)), key=lambda i: abs(places[i]))
    fall = losses[here] - min(losses)
    return fall if fall > (losses[here] - los[here] if los else 0.0) else 0.0


Line = tuple[str, list[float], list[float], list[float], list[float], Estimate]


def _directions(record: Record | None) -> list[Line]:
    """Name, positions, losses, ends and curvature of each direction that reads as one."""
    found: list[Line] = []
    for each in map(mapping, listing((record or {}).get("directions"))):
        columns = [numbers(each.get(name)) for name in ("positions", "losses", "lo", "hi")]
        points = list(zip(columns[0], columns[1], strict=False))
        good = [i for i, (x, y) in enumerate(points) if x is not None and y is not None]
        if len(good) < 2:
            continue
        xs, ys = ([float(c[i] or 0.0) for i in good] for c in columns[:2])
        has_ends = all(len(c) > good[-1] and None not in [c[i] for i in good] for c in columns[2:])
        los, his = ([float(c[i] or 0.0) for i in good] if has_ends else [] for c in columns[2:])
        name = cut(text(each.get("name")) or "a")
        found.append((name, xs, ys, los, his, estimate(each.get("curvature"))))
    return found


def path_chart(run: RunData) -> Chart | Gap:
    """The way of the parameters on its two main directions."""
    title = "The path"
    record = run.find("path") or {}
    points = [numbers(each)[:2] for each in listing(record.get("points"))]
    steps = numbers(record.get("steps"))
    rows = [
        (step, p[0], p[1])
        for step, p in zip(steps, points, strict=False)
        if len(p) == 2 and p[0] is not None and p[1] is not None and step is not None
    ]
    if len(rows) < 2:
        return Gap(title=title, reason=text(record.get("reason")) or NOT_LOOKED_AT)
    shares = [share or 0.0 for share in [*numbers(record.get("shares")), 0.0, 0.0][:2]]

    def draw(ax: Any) -> None:
        xs, ys = [float(r[1] or 0.0) for r in rows], [float(r[2] or 0.0) for r in rows]
        ax.plot(xs, ys, color=drawing.BLUE, linewidth=1.2, marker="o", markersize=2.5)
        ax.plot(xs[:1], ys[:1], "o", color=drawing.AMBER, markersize=9, label="start")
        ax.plot(xs[-1:], ys[-1:], "*", color=drawing.RED, markersize=13, label="end")
        ax.margins(0.08)
        ax.set_xlabel(f"first direction ({percent(shares[0])})")
        ax.set_ylabel(f"second ({percent(shares[1])})")
        drawing.legend(ax)

    both = sum(shares)
    shape = "nearly a straight way" if shares[0] > 0.9 else "a way that bends"
    reading = f"These two directions hold {percent(both)} of the movement: {shape}."
    table = thinned(("step", "first direction", "second direction"), rows)
    return Chart(name="path", title=title, reading=reading, table=table, draw=draw)


def is_near_limit(run: RunData) -> float | None:
    """The correlation of neighbouring updates where it lies below -0.5, else None."""
    found = measured(run, "step_correlation")
    value = found[-1][2].hi if found else None
    value = found[-1][2].value if found and value is None else value
    return value if value is not None and number(value) is not None and value < -0.5 else None
