"""The descent: training loss, its trend, held-out loss, and where decisions were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Gap, Notes, Section, Table, thinned
from downslope.report.reading import (
    Record,
    estimate,
    listing,
    mapping,
    number,
    of_event,
    step_of,
    text,
)
from downslope.report.run_data import RunData
from downslope.report.words import cell, counted, cut, percent, sentence, short, spoken

OVER = {"examples": "examples", "time": "seconds"}
TREND_SHARE = 1 / 16  # of the points on either side that a point of the trend is the mean of
NEAR = 0.035  # of the axis: marks nearer than this are one mark
MOST_DECISIONS = 60
COMMON = 0.98  # of the batches lie inside the frame at least
MOST_BATCHES = 1200  # points of the saw-tooth: the page stays small


@dataclass(frozen=True, kw_only=True)
class Held:
    """The held-out loss at one evaluation: place on the axis, loss and interval, step."""

    at: float
    value: float
    lo: float | None
    hi: float | None
    step: float


def section(run: RunData) -> Section:
    """The part of the page."""
    blocks: list[Block] = [loss_chart(run, "examples"), loss_chart(run, "time")]
    return Section(
        name="descent",
        title="The descent",
        lead="Thin line: the loss of single batches, a saw-tooth, since each is a poll of a few "
        "rows; some stand for all, a few before each record of the journal. Thick line: its "
        "trend. Single spikes may leave the frame. Points with bars: the loss on rows kept out of "
        "training. Numbers on the axis are the decisions listed below.",
        blocks=(*blocks, decisions(run)),
    )


def place(run: RunData, over: str) -> Callable[[Record], float | None]:
    """Where a record stands on the axis."""

    def of(record: Record) -> float | None:
        if over == "examples":
            return run.course.examples(step_of(record))
        seconds = number(record.get("seconds"))
        return run.clock.seconds(step_of(record)) if seconds is None else seconds

    return of


def training_losses(run: RunData, over: str) -> list[tuple[float, float, float]]:
    """(place, loss, step) of the progress records."""
    at, found = place(run, over), []
    for record in of_event(run.kept, "progress"):
        x, loss = at(record), number(record.get("loss"))
        if x is not None and loss is not None:
            found.append((x, loss, step_of(record)))
    return found


def saw_tooth(run: RunData, over: str) -> list[tuple[float, float]]:
    """(place, loss) of single batches: the latest ones before each progress record."""
    at, found = place(run, over), []
    records = of_event(run.kept, "progress")
    most = max(1, MOST_BATCHES // max(1, len(records)))
    before, x_before = 0.0, 0.0
    for record in records:
        x, step = at(record), step_of(record)
        losses = [number(loss) for loss in listing(record.get("batch_losses"))]
        if x is None or step <= before:
            continue
        count = int(min(len(losses), most, step - before))
        reach = x - x_before
        if over == "time":  # it may have compiled before
            reach = min(reach, number(record.get("span_seconds")) or reach)
        width = reach / (step - before)  # of an update on the axis
        latest = enumerate(losses[len(losses) - count :])
        found += [(x - (count - 1 - i) * width, y) for i, y in latest if y is not None]
        before, x_before = step, x
    return found


def held_out(run: RunData, over: str) -> list[Held]:
    """The held-out losses of the run."""
    at, found = place(run, over), []
    for record in of_event(run.kept, "evaluated"):
        loss, x = estimate(mapping(record.get("metrics")).get("loss")), at(record)
        if loss.value is not None and x is not None:
            found.append(Held(at=x, value=loss.value, lo=loss.lo, hi=loss.hi, step=step_of(record)))
    return found


def trend(values: Sequence[float]) -> list[float]:
    """Means over a sixteenth of the points on either side, fewer at the ends, so never aslant.

    Example:
        >>> trend([4.0, 2.0, 3.0])
        [4.0, 2.0, 3.0]
    """
    reach = int(len(values) * TREND_SHARE)
    found = []
    for i in range(len(values)):
        near = min(reach, i, len(values) - 1 - i)
        window = values[i - near : i + near + 1]
        found.append(sum(window) / len(window))
    return found


def loss_chart(run: RunData, over: str) -> Chart | Gap:
    """Losses over examples or time, decisions marked on the axis."""
    title = f"Loss over {over}"
    losses, held = training_losses(run, over), held_out(run, over)
    if run.find("solved") and not losses:
        return Gap(title=title, reason="the loss was solved at once: there was no descent")
    if not losses and not held:
        return Gap(title=title, reason="the journal holds no loss yet")
    marks, batches = decision_marks(run, over), saw_tooth(run, over)
    smooth = trend([loss for _, loss, _ in losses])

    def draw(ax: Any) -> None:
        xs = [x for x, _, _ in losses]
        if batches:
            ax.plot(*zip(*batches, strict=True), color=drawing.SKY, linewidth=0.8, label="batches")
        ax.plot(xs, smooth, color=drawing.BLUE, linewidth=2.2, label="trend")
        _draw_held(ax, held)
        _set_scales(ax, smooth + [h.value for h in held])
        _cut_spikes(ax, [y for _, y in batches], smooth + [h.hi or h.value for h in held])
        ax.set_xlabel(OVER[over])
        ax.set_ylabel("loss")
        _draw_marks(ax, marks)
        drawing.legend(ax)

    return Chart(
        name=f"descent-over-{over}",
        title=title,
        reading=_reading(losses, smooth, held, over),
        table=_table(losses, smooth, held, over),
        draw=draw,
        height=0.72,
    )


def _draw_held(ax: Any, held: Sequence[Held], **options: Any) -> None:
    if not held:
        return
    reach = [
        [h.value - h.lo if h.lo is not None else 0.0 for h in held],
        [h.hi - h.value if h.hi is not None else 0.0 for h in held],
    ]
    many = len(held) > 40  # else bars would paint a wall
    options = {"color": drawing.RED, "label": "held out"} | options
    ax.errorbar(
        [h.at for h in held], [h.value for h in held],
        yerr=None if many else [[max(0.0, r) for r in row] for row in reach],
        fmt="--" if many else "o--", markersize=3.5, linewidth=1.3, elinewidth=1, **options,
    )  # fmt: skip
    ends = [(h.at, h.lo, h.hi) for h in held if h.lo is not None and h.hi is not None]
    if many and ends:
        ax.fill_between(*zip(*ends, strict=True), color=options["color"], alpha=0.15, linewidth=0)


def _set_scales(ax: Any, values: Sequence[float]) -> None:
    """A logarithmic axis where the loss falls through more than a decade above 0."""
    if values and min(values) > 0 and max(values) > 20 * min(values):
        ax.set_yscale("log")


def _cut_spikes(ax: Any, batches: Sequence[float], others: Sequence[float]) -> None:
    """Ends the axis where a few batches would else take all of it."""
    if not batches or not others:
        return
    common = sorted(batches)[int(COMMON * (len(batches) - 1))]
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, min(top, 1.15 * max(common, *others)))


def _draw_marks(ax: Any, marks: Sequence[tuple[float, int]]) -> None:
    """Numbers along the top edge, joined where they would overlap: 2-4."""
    left, right = ax.get_xlim()
    groups: list[list[tuple[float, int]]] = []
    for mark in sorted(marks):
        if groups and mark[0] - groups[-1][0][0] < NEAR * (right - left):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    for group in groups:
        numbers = sorted(n for _, n in group)
        words = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        ax.axvline(group[0][0], color=drawing.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        is_last = right - group[0][0] < NEAR * (right - left)
        ax.text(
            group[0][0], 0.985, f"{words} " if is_last else f" {words}", va="top",
            ha="right" if is_last else "left", transform=ax.get_xaxis_transform(),
            color=drawing.INK, fontsize=drawing.FONT_SIZE - 1,
        )  # fmt: skip
    ax.set_xlim(left, right)


def _reading(
    losses: Sequence[tuple[float, float, float]],
    smooth: Sequence[float],
    held: Sequence[Held],
    over: str,
) -> str:
    parts = []
    if losses:
        end = spoken(losses[-1][0]) if over == "time" else counted(losses[-1][0], "example")
        parts.append(
            f"The training loss went from {short(smooth[0])} to {short(smooth[-1])} in {end}"
        )
    if held:
        best = min(held, key=lambda h: h.value)
        at = spoken(best.at) if over == "time" else counted(best.at, "example")
        where = "its last evaluation" if best is held[-1] else at
        parts.append(f"the held-out loss was lowest, {short(best.value)}, at {where}")
        if best is not held[-1]:
            rise = held[-1].value - best.value
            parts[-1] += f" and ended {short(rise)} higher"
    return sentence("; ".join(parts))


def _table(
    losses: Sequence[tuple[float, float, float]],
    smooth: Sequence[float],
    held: Sequence[Held],
    over: str,
) -> Table:
    rows = [(s, x, y, t, None, None, None) for (x, y, s), t in zip(losses, smooth, strict=True)]
    rows += [(h.step, h.at, None, None, h.value, h.lo, h.hi) for h in held]
    rows.sort(key=lambda row: (row[1], row[0]))
    head = ("step", OVER[over], "mean of batches", "trend", "held out", "from", "to")
    return thinned(head, [(int(row[0]), *row[1:]) for row in rows])


def decided(run: RunData) -> list[Record]:
    """The decisions in order, those that a divergence took back among them."""
    return of_event(run.records, "decided")


def decision_marks(run: RunData, over: str) -> list[tuple[float, int]]:
    """(place, number) of each decision listed."""
    at = place(run, over)
    found = [(at(r), i) for i, r in enumerate(decided(run)[:MOST_DECISIONS], start=1)]
    return [(x, i) for x, i in found if x is not None]


def decisions(run: RunData) -> Notes | Gap:
    """Each decision with its number and its reason."""
    found = decided(run)
    if not found:
        return Gap(title="Decisions", reason="none was made")
    items = []
    for i, record in enumerate(found[:MOST_DECISIONS], start=1):
        seconds = number(record.get("seconds"))
        when = f"step {step_of(record):,.0f}" + (f", {spoken(seconds)}" if seconds else "")
        items.append((str(i), f"{when}: {change(record)}", sentence(text(record.get("because")))))
    more = len(found) - MOST_DECISIONS
    note = f"{more:,} later decisions are in the journal." if more > 0 else ""
    back = [percent_back(r) for r in of_event(run.records, "diverged")]
    note = " ".join([note, *back]).strip()
    return Notes(title="Decisions", items=tuple(items), note=note)


def change(record: Record) -> str:
    """A decision in a few words: the knob, before and after."""
    knob = cut(text(record.get("knob")).replace("_", " ") or "a knob")
    old, new = record.get("old"), record.get("new")
    return f"{knob} {cell(new)}" if old is None else f"{knob} {cell(old)} → {cell(new)}"


def percent_back(record: Record) -> str:
    """What a divergence undid."""
    bad, back = number(record.get("bad_step")), step_of(record)
    if not bad:
        return f"The run diverged and went back to step {back:,.0f}."
    lost = percent(max(0.0, bad - back) / bad)
    return f"Step {bad:,.0f} went wrong; back to step {back:,.0f} ({lost} of the way was lost)."
