"""The noise: its scale beside the batch size, signal and noise, diagnostics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from downslope.estimate import short
from downslope.report import drawing
from downslope.report.blocks import Notes, SectionPlan, Shown, chart, thinned
from downslope.report.measurements import NOT_MEASURED, Reading, positive_ends, readings
from downslope.report.reading import listing, step_of, text
from downslope.report.run_data import RunData
from downslope.report.sections.price import angle_chart, spent_chart
from downslope.report.words import cut, sentence

SUBJECTS = ("gradient", "scale", "required", "tails", "order")  # of the diagnostics


@chart("noise-scale", "Noise scale and batch size")
def scale_chart(run: RunData) -> Shown | str:
    """The noise scale with its interval, against the batch size in use."""
    every = readings(run)
    found = [(r, r.level) for r in every if r.level]
    if not found:
        return (every[-1].scale.reason if every else "") or NOT_MEASURED

    def draw(ax: Any) -> None:
        highest = max(level for _, level in found)
        tops = [r.bounds[2] or 3 * level for r, level in found]
        top = max(min(max(tops), 100 * highest), 1)  # of intervals without an upper end
        points = []
        for r, _ in found:
            value, lo, hi = r.bounds
            lo = lo or (value or top) / 30
            points.append((r.examples, value, lo, max(lo, min(hi or top, top))))
        drawing.band(ax, points, drawing.BLUE, found[-1][0].name)
        if found[-1][0].is_preconditioned:
            euclidean = [(r.examples, positive_ends(r.euclidean)[0] or math.nan) for r, _ in found]
            ax.plot(*zip(*euclidean, strict=True), color=drawing.GREEN, linestyle=":",
                    marker=drawing.markers(found), markersize=3.5, label="Euclidean")  # fmt: skip
        open_ended = [(r.examples, level) for r, level in found if r.bounds[0] is None]
        if open_ended:
            ax.plot(*zip(*open_ended, strict=True), "^", color=drawing.BLUE,
                    markerfacecolor="none", label="at least")  # fmt: skip
        ax.plot([r.examples for r, _ in found], [r.batch_size for r, _ in found], label="batch",
                color=drawing.RED, linestyle="--", marker="" if len(found) > 1 else "s",
                drawstyle="steps-pre")  # fmt: skip
        ax.set(yscale="log", xlabel="examples", ylabel="examples")

    rows = [(int(r.step), r.examples, r.batch_size, r.scale.value, r.scale.lo, r.scale.hi,
             r.euclidean.value, r.euclidean.lo, r.euclidean.hi) for r in every]  # fmt: skip
    head = ("step", "examples", "batch size", every[-1].name, "from", "to",
            "Euclidean", "from", "to")  # fmt: skip
    if not every[-1].is_preconditioned:
        head, rows = head[:6], [row[:6] for row in rows]
    table = thinned(head, rows)
    return Shown(_scale_reading(found[-1][0]), table, draw)


def _scale_reading(r: Reading) -> str:
    words = f"At the end the {r.name} was {r.scale}"
    if r.is_preconditioned:
        words += f", the Euclidean one {r.euclidean}"
    size = f"a batch of {short(r.batch_size)}"
    if r.batch_size < (r.scale.lo or 0.0):
        return f"{words}: in {size} the noise outweighed the gradient."
    if r.batch_size > (r.scale.hi or math.inf):
        return f"{words}: in {size} the gradient outweighed the noise."
    return f"{words}: {size} had about as much noise as gradient, within the interval."


@chart("signal", "Signal and noise in a batch")
def signal_chart(run: RunData) -> Shown | str:
    """Squared length of the gradient, and of the noise in a batch's mean."""
    found = [
        (r, r.signal.value, r.trace.value / r.batch_size)
        for r in readings(run)
        if r.trace.value and r.signal.value is not None
    ]
    if not found:
        return NOT_MEASURED

    def draw(ax: Any) -> None:
        xs, dot = [r.examples for r, *_ in found], drawing.markers(found)
        signals = [signal if signal > 0 else math.nan for _, signal, _ in found]
        ax.plot(xs, signals, color=drawing.BLUE, marker=dot, markersize=3.5, label="gradient")
        ax.plot(xs, [noise for *_, noise in found], color=drawing.RED, linestyle="--", marker=dot,
                markersize=3.5, label="noise")  # fmt: skip
        ax.set(yscale="log", xlabel="examples", ylabel="squared length")

    last, signal, noise = found[-1]
    if last.signal.lo is not None and last.signal.lo > 0 and signal > 0:
        reading = (f"At the end the noise of a batch was {short(noise / signal)} times the "
                   "gradient in squared length.")  # fmt: skip
    else:
        reading = "At the end the gradient could not be distinguished from zero."
    hidden = sum(signal <= 0 for _, signal, _ in found)
    if hidden:
        reading += f" In {hidden} of {len(found)} readings the noise hid the gradient."
    rows = [(int(r.step), r.examples, signal, r.signal.lo, r.signal.hi, noise)
            for r, signal, noise in found]  # fmt: skip
    head = ("step", "examples", "|G|², (loss/parameter)²", "from", "to", "noise of a batch")
    return Shown(reading, thinned(head, rows), draw)


def diagnostics(title: str, *subjects: str) -> Callable[[RunData], Notes | None]:
    """A function that makes notes on the newest diagnostics of these subjects."""

    def notes(run: RunData) -> Notes | None:
        items = []
        for subject in subjects:
            records = run.of("anatomy", "diagnostics")
            newest = next((r for r in reversed(records) if r.get("subject") == subject), {})
            sentences = [text(each) for each in listing(newest.get("sentences"))]
            step = f"step {step_of(newest):,.0f}"
            items += [("", step, sentence(words)) for words in sentences]
            if not sentences and newest.get("reason"):
                items.append(("", subject, f"Not examined: {cut(newest['reason'], 200)}."))
        folded = len(items) > 6
        return Notes(title=title, items=tuple(items), is_folded=folded) if items else None

    return notes


PLAN = SectionPlan(
    title="The noise",
    lead="A batch is a sample, so its gradient is the true one plus noise. The noise scale is the "
    "batch size at which both are equally large: far below it a step is mostly noise, far above "
    "it examples are spent without need.",
    blocks=(
        scale_chart,
        signal_chart,
        spent_chart,
        angle_chart,
        diagnostics("Diagnostics of the noise", *SUBJECTS),
    ),
)
