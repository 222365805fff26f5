"""The descent: training loss, its trend, held-out loss, and the decisions along the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from downslope.estimate import counted, percent, short, spoken
from downslope.report import drawing
from downslope.report.blocks import Gap, Notes, SectionPlan, Shown, chart, thinned
from downslope.report.reading import Record, estimate, mapping, number, numbers, step_of, text
from downslope.report.run_data import RunData
from downslope.report.words import cell, cut, sentence

OVER = {"examples": "examples", "time": "seconds"}
TREND_SHARE = 1 / 16  # of the points on either side that a point of the trend is the mean of
NEAR = 0.035  # of the axis: marks nearer than this are one mark
MAX_DECISIONS = 60
MAX_BARS = 40  # evaluations with a bar each; more are shown with a band
FRAMED_SHARE = 0.98  # of the batches inside the frame at least
MAX_BATCHES = 1200  # points of the saw-tooth: the page stays small


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """The held-out loss at one evaluation: place on the axis, step, loss and interval."""

    at: float
    step: float
    value: float
    lo: float | None
    hi: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval; the value itself at an end that is missing."""
        lo = self.value if self.lo is None else min(self.lo, self.value)
        return lo, self.value if self.hi is None else max(self.hi, self.value)


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """The training loss at a progress record: place on the axis, step, loss and trend.

    `start` counts the restarts from the first parameters before it.
    """

    at: float
    step: float
    loss: float
    trend: float
    start: int = 0


def place(run: RunData, over: str) -> Callable[[Record], float | None]:
    """The function that gives a record's place on the axis."""

    def of(record: Record) -> float | None:
        if over == "examples":
            return run.course.examples(step_of(record))
        seconds = number(record.get("seconds"))
        return run.clock.seconds(step_of(record)) if seconds is None else seconds

    return of


def training_losses(run: RunData, over: str) -> list[TrainingLoss]:
    """The training losses of the progress records."""
    at = place(run, over)
    rows = [(at(r), step_of(r), number(r.get("loss"))) for r in run.of("progress")]
    known = [(x, step, y) for x, step, y in rows if x is not None and y is not None]
    restarts = [step_of(r) for r in run.of("decided") if r.get("from_start")]
    found: list[TrainingLoss] = []
    for start, rows in itertools.groupby(known, lambda row: sum(s < row[1] for s in restarts)):
        points = list(rows)
        smooth = trend([loss for *_, loss in points])
        found += [TrainingLoss(at=x, step=step, loss=loss, trend=mean, start=start)
                  for (x, step, loss), mean in zip(points, smooth, strict=True)]  # fmt: skip
    return found


def _draw_trend(ax: Any, losses: Sequence[TrainingLoss]) -> None:
    """Draw one line for each start, from a dotted line where the run began anew."""
    for start, points in itertools.groupby(losses, lambda each: each.start):
        part = list(points)
        ax.plot([each.at for each in part], [each.trend for each in part], color=drawing.BLUE,
                linewidth=2.2, label="" if start else "trend")  # fmt: skip
        if start:
            ax.axvline(part[0].at, color=drawing.MUTED, linewidth=1, linestyle=":",
                       label="new start" if start == 1 else "")  # fmt: skip


def trend(values: Sequence[float]) -> list[float]:
    """Means over a sixteenth of the points on either side, fewer towards the ends.

    Example:
        >>> trend([4.0, 2.0, 3.0])
        [4.0, 2.0, 3.0]
    """
    reach, found = int(len(values) * TREND_SHARE), []
    for i in range(len(values)):
        near = min(reach, i, len(values) - 1 - i)  # the same on both sides: never aslant
        window = values[i - near : i + near + 1]
        found.append(sum(window) / len(window))
    return found


def saw_tooth(run: RunData, over: str) -> list[tuple[float, float]]:
    """(place, loss) of single batches: the latest ones before each progress record."""
    at, found = place(run, over), []
    records = run.of("progress")
    most = max(1, MAX_BATCHES // max(1, len(records)))
    before, x_before = 0.0, 0.0
    for record in records:
        x, step = at(record), step_of(record)
        losses = numbers(record.get("batch_losses"))
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


def held_out(run: RunData, over: str) -> list[HeldOutLoss]:
    """The held-out losses of the run."""
    at, found = place(run, over), []
    for record in run.of("evaluated"):
        loss, x = estimate(mapping(record.get("metrics")).get("loss")), at(record)
        if loss.value is not None and x is not None:
            step = step_of(record)
            found.append(HeldOutLoss(at=x, step=step, value=loss.value, lo=loss.lo, hi=loss.hi))
    return found


@dataclass(frozen=True, kw_only=True)
class TrialLoss:
    """A trial or an arm of a branch: when it began and ended, and its losses then."""

    begin: float
    end: float
    first_loss: float | None
    loss: float | None
    learning_rate: float


def trials(run: RunData) -> list[TrialLoss]:
    """The trials and arms of branches, over time; one that diverged has no loss."""
    found = []
    for record in run.of("trial"):
        end, rate = number(record.get("seconds")), number(record.get("learning_rate"))
        first, loss = number(record.get("first_loss")), number(record.get("loss"))
        if end is not None and rate is not None:
            begin = max(0.0, end - (number(record.get("span_seconds")) or 0.0))
            found.append(TrialLoss(begin=begin, end=end, first_loss=first, loss=loss,
                                   learning_rate=rate))  # fmt: skip
    return found


def _draw_trials(ax: Any, found: Sequence[TrialLoss]) -> None:
    """Draw each trial as a line from its first loss to a cross at its last one."""
    known = [each for each in found if each.loss is not None]
    for each in known:
        if each.first_loss is not None:
            ax.plot([each.begin, each.end], [each.first_loss, each.loss], color=drawing.MUTED,
                    linewidth=1)  # fmt: skip
    if known:
        ax.plot([each.end for each in known], [each.loss for each in known], "x",
                color=drawing.MUTED, markersize=5, label="trials")  # fmt: skip


def _losses(run: RunData, over: str) -> Shown | str:
    """Losses over "examples" or "time", decisions marked on the axis."""
    losses, held = training_losses(run, over), held_out(run, over)
    if run.find("solved") and not losses:
        return "the minimum was computed directly: there was no descent"
    if not losses and not held:
        return "the journal holds no loss yet"
    marks, batches = decision_marks(run, over), saw_tooth(run, over)
    tried = trials(run) if over == "time" else []

    def draw(ax: Any) -> None:
        if batches:
            ax.plot(*zip(*batches, strict=True), color=drawing.SKY, linewidth=0.8, label="batches")
        smooth = [each.trend for each in losses]
        _draw_trend(ax, losses)
        draw_held(ax, held)
        _draw_trials(ax, tried)
        shown = [*smooth, *(h.value for h in held)]
        if min(shown) > 0 and max(shown) > 20 * min(shown):
            ax.set_yscale("log")
        if batches:  # a few spikes must not take all of the axis
            common = sorted(y for _, y in batches)[int(FRAMED_SHARE * (len(batches) - 1))]
            bottom, top = ax.get_ylim()
            ends = [*smooth, *(h.ends[1] for h in held)]
            ax.set_ylim(bottom, min(top, 1.15 * max(common, *ends)))
        ax.set(xlabel=OVER[over], ylabel="loss")
        _draw_marks(ax, marks)

    rows = [(int(t.step), t.at, t.loss, t.trend, None, None, None) for t in losses]
    rows += [(int(h.step), h.at, None, None, h.value, h.lo, h.hi) for h in held]
    rows.sort(key=lambda row: (row[1], row[0]))
    head = ("step", OVER[over], "mean of batches", "trend", "held out", "from", "to")
    return Shown(_reading(losses, held, over), thinned(head, rows), draw, height=0.72)


over_examples, over_time = (
    chart(f"descent-over-{over}", f"Loss over {over}")(partial(_losses, over=over)) for over in OVER
)


def draw_held(
    ax: Any, held: Sequence[HeldOutLoss], colour: str = drawing.RED, dash: Any = "--",
    label: str = "held out",
) -> None:  # fmt: skip
    """Draw held-out losses: bars for few evaluations, a band for many."""
    if not held:
        return
    xs, ys, ends = [h.at for h in held], [h.value for h in held], [h.ends for h in held]
    has_band = len(held) > MAX_BARS
    bars = [[y - lo for y, (lo, _) in zip(ys, ends, strict=True)],
            [hi - y for y, (_, hi) in zip(ys, ends, strict=True)]]  # fmt: skip
    ax.errorbar(xs, ys, yerr=None if has_band else bars, linestyle=dash, linewidth=1.3,
                marker="" if has_band else "o", markersize=3.5, elinewidth=1, color=colour,
                label=label)  # fmt: skip
    if has_band:
        ax.fill_between(xs, *zip(*ends, strict=True), color=colour, alpha=0.15, linewidth=0)


def _draw_marks(ax: Any, marks: Sequence[tuple[float, int]]) -> None:
    """Draw numbers along the top edge, joined where they would overlap: 2-4."""
    left, right = ax.get_xlim()
    groups: list[list[tuple[float, int]]] = []
    for mark in sorted(marks):
        if groups and mark[0] - groups[-1][0][0] < NEAR * (right - left):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    for group in groups:
        at, found = group[0][0], sorted(n for _, n in group)
        words = str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"
        is_last = right - at < NEAR * (right - left)
        ax.axvline(at, color=drawing.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        ax.text(
            at, 0.985, f"{words} " if is_last else f" {words}", va="top",
            ha="right" if is_last else "left", transform=ax.get_xaxis_transform(),
            color=drawing.INK, fontsize=drawing.FONT_SIZE - 1,
        )  # fmt: skip
    ax.set_xlim(left, right)


def distance(at: float, over: str) -> str:
    """A place on the axis in words."""
    return spoken(at) if over == "time" else counted(at, "example")


def _reading(losses: Sequence[TrainingLoss], held: Sequence[HeldOutLoss], over: str) -> str:
    parts = []
    if losses:
        first, end = losses[0], losses[-1]
        parts.append(
            f"The training loss went from {short(first.trend)} to {short(end.trend)} in "
            f"{distance(end.at, over)}"
        )
    if held:
        best, end = min(held, key=lambda h: h.value), held[-1]
        where = "its last evaluation" if best is end else distance(best.at, over)
        words = f"the held-out loss was lowest, {short(best.value)}, at {where}"
        rise = f" and ended {short(end.value - best.value)} higher"
        parts.append(words if best is end else words + rise)
    return sentence("; ".join(parts))


def decided(run: RunData) -> list[Record]:
    """The decisions in order, including those that a divergence took back."""
    return [record for record in run.records if record.get("event") == "decided"]


def decision_marks(run: RunData, over: str) -> list[tuple[float, int]]:
    """(place, number) of each decision listed."""
    at = place(run, over)
    found = [(at(r), i) for i, r in enumerate(decided(run)[:MAX_DECISIONS], start=1)]
    return [(x, i) for x, i in found if x is not None]


def decisions(run: RunData) -> Notes | Gap:
    """Each decision with its number and its reason."""
    found = decided(run)
    if not found:
        return Gap(title="Decisions", reason="none was made")
    notes = [_rollback(r) for r in run.records if r.get("event") == "diverged"]
    return list_decisions("Decisions", found, *notes)


def list_decisions(title: str, found: Sequence[Record], *notes: str) -> Notes:
    """The first decisions with their numbers and reasons, and how many more there are."""
    items = []
    for i, record in enumerate(found[:MAX_DECISIONS], start=1):
        seconds = number(record.get("seconds"))
        when = f"step {step_of(record):,.0f}" + (f", {spoken(seconds)}" if seconds else "")
        items.append((str(i), f"{when}: {change(record)}", sentence(text(record.get("because")))))
    more = len(found) - len(items)
    if more:
        notes = (f"{more:,} later decisions are in the journal.", *notes)
    return Notes(title=title, items=tuple(items), note=" ".join(notes))


def change(record: Record) -> str:
    """A decision in a few words: the knob, before and after."""
    knob = cut(text(record.get("knob")).replace("_", " ") or "a knob")
    old, new = record.get("old"), record.get("new")
    return f"{knob} {cell(new)}" if old is None else f"{knob} {cell(old)} → {cell(new)}"


def _rollback(record: Record) -> str:
    bad, back = number(record.get("bad_step")), step_of(record)
    if not bad:
        return f"The run diverged and was rolled back to step {back:,.0f}."
    undone = percent(max(0.0, bad - back) / bad)
    return f"Diverged at step {bad:,.0f}; rolled back to step {back:,.0f} ({undone} of the steps)."


PLAN = SectionPlan(
    title="The descent",
    lead="Thin line: the loss of single batches, a saw-tooth, since each is a sample of a few "
    "rows; only the last batches before each journal record are drawn. Thick line: its trend. "
    "Single spikes may leave the frame. Points with bars: the loss on rows kept out of training. "
    "Crosses: trials of the learning-rate search and arms of branches, each with a line from its "
    "first loss. Dotted line: a new start from the first parameters. "
    "Numbers on the axis are the decisions listed below.",
    blocks=(over_examples, over_time, decisions),
)
