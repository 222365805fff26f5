"""The noise: its scale beside the batch, signal and noise, closer looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from downslope.estimate import Estimate
from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Gap, Notes, Section, thinned
from downslope.report.noise_readings import NOT_MEASURED, Reading, readings
from downslope.report.reading import listing, of_event, step_of, text
from downslope.report.run_data import RunData
from downslope.report.sections.price import angle_chart, spent_chart
from downslope.report.words import cut, sentence, short

SUBJECTS = ("gradient", "scale", "required", "tails", "order")  # of the anatomy


def section(run: RunData) -> Section:
    """The part of the page."""
    blocks: list[Block] = [
        scale_chart(run),
        signal_chart(run),
        spent_chart(run),
        angle_chart(run),
        *anatomy(run, SUBJECTS, "Closer looks at the noise"),
    ]
    return Section(
        name="noise",
        title="The noise",
        lead="A batch is a sample, so its gradient is the true one plus noise. The noise scale is "
        "the batch size at which both are equally large: far below it a step is mostly noise, far "
        "above it examples are spent without need.",
        blocks=tuple(blocks),
    )


def _bounds(found: Estimate, most: float) -> tuple[float, float]:
    """The ends of a band on a logarithmic axis; what has no upper end reaches its top."""
    lo = found.lo if found.lo and found.lo > 0 else (found.value or most) / 30
    hi = found.hi if found.hi and found.hi > 0 else most
    return lo, max(hi, lo)


def scale_chart(run: RunData) -> Chart | Gap:
    """The noise scale with its band, against the batch size in use."""
    title = "Noise scale and batch size"
    all_found = readings(run)
    found = [r for r in all_found if (r.scale.value or r.scale.lo or 0) > 0]
    if not found:
        why = all_found[-1].scale.reason if all_found else ""
        return Gap(title=title, reason=why or NOT_MEASURED)

    def draw(ax: Any) -> None:
        tops = [r.scale.hi or 3 * (r.scale.value or r.scale.lo or 1) for r in found]
        top = max(min(max(tops), 100 * max(r.scale.value or r.scale.lo or 1 for r in found)), 1)
        xs = [r.examples for r in found]
        band = [_bounds(r.scale, top) for r in found]
        if len(found) > 1:
            ax.fill_between(xs, [lo for lo, _ in band], [min(hi, top) for _, hi in band],
                            color=drawing.BLUE, alpha=0.16, linewidth=0)  # fmt: skip
        known = [r for r in found if r.scale.value]
        error = None
        if len(known) == 1:
            lo, hi = _bounds(known[0].scale, top)
            value = known[0].scale.value or 0.0
            error = [[max(0.0, value - lo)], [max(0.0, hi - value)]]
        ax.errorbar(
            [r.examples for r in known], [r.scale.value for r in known], yerr=error, fmt="o-",
            color=drawing.BLUE, markersize=3.5 if len(known) < 60 else 0, label="noise scale",
        )  # fmt: skip
        open_ended = [r for r in found if not r.scale.value]
        if open_ended:
            ax.plot([r.examples for r in open_ended], [r.scale.lo for r in open_ended], "^",
                    color=drawing.BLUE, markerfacecolor="none", label="at least")  # fmt: skip
        ax.plot(xs, [r.batch_size for r in found], color=drawing.RED, linestyle="--",
                marker="" if len(xs) > 1 else "s", drawstyle="steps-pre",
                label="batch")  # fmt: skip
        ax.set_yscale("log")
        ax.set_xlabel("examples")
        ax.set_ylabel("examples")
        drawing.legend(ax)

    last = found[-1]
    rows = [
        (int(r.step), r.examples, r.batch_size, r.scale.value, r.scale.lo, r.scale.hi)
        for r in all_found
    ]
    return Chart(
        name="noise-scale",
        title=title,
        reading=_scale_reading(last),
        table=thinned(("step", "examples", "batch size", "noise scale", "from", "to"), rows),
        draw=draw,
    )


def _scale_reading(r: Reading) -> str:
    words = f"At the end the noise scale was {r.scale}"
    size = f"a batch of {short(r.batch_size)}"
    lo, hi = r.scale.lo or 0.0, r.scale.hi or math.inf
    if r.batch_size < lo:
        return f"{words}: in {size} the noise outweighed the gradient."
    if r.batch_size > hi:
        return f"{words}: in {size} the gradient outweighed the noise."
    return f"{words}: {size} had about as much noise as gradient, as far as that can be told."


def signal_chart(run: RunData) -> Chart | Gap:
    """Squared length of the gradient, and of the noise in a batch's mean."""
    title = "Signal and noise in a batch"
    found = [r for r in readings(run) if r.trace.value and r.signal.value is not None]
    if not found:
        return Gap(title=title, reason=NOT_MEASURED)
    noise = [(r.trace.value or 0.0) / r.batch_size for r in found]
    signal = [r.signal.value for r in found]

    def draw(ax: Any) -> None:
        xs = [r.examples for r in found]
        dot = "o" if len(xs) < 60 else ""
        positive = [y if y is not None and y > 0 else math.nan for y in signal]
        ax.plot(xs, positive, color=drawing.BLUE, marker=dot, markersize=3.5, label="gradient")
        ax.plot(xs, noise, color=drawing.RED, linestyle="--", marker=dot, markersize=3.5,
                label="noise")  # fmt: skip
        ax.set_yscale("log")
        ax.set_xlabel("examples")
        ax.set_ylabel("squared length")
        drawing.legend(ax)

    lost = sum(1 for y in signal if y is not None and y <= 0)
    tail = (
        f" In {lost} of {len(found)} readings the gradient was lost in its noise." if lost else ""
    )
    last = found[-1].signal
    resolved = last.value is not None and last.lo is not None and last.lo > 0
    ratio = noise[-1] / last.value if resolved and last.value else None
    end = (
        f"At the end the noise of a batch was {short(ratio)} times the gradient in squared length."
        if ratio
        else "At the end the gradient could not be told from its noise."
    )
    rows = [
        (int(r.step), r.examples, s, r.signal.lo, r.signal.hi, n)
        for r, s, n in zip(found, signal, noise, strict=True)
    ]
    head = ("step", "examples", "|G|², (loss/parameter)²", "from", "to", "noise of a batch")
    return Chart(
        name="signal", title=title, reading=end + tail, table=thinned(head, rows), draw=draw
    )


def anatomy(run: RunData, subjects: Sequence[str], title: str) -> list[Notes]:
    """The sentences of the newest look at each subject."""
    items = []
    for subject in subjects:
        looks = [r for r in of_event(run.kept, "anatomy") if r.get("subject") == subject]
        said = [text(s) for s in listing(looks[-1].get("sentences"))] if looks else []
        for words in said:
            items.append(("", f"step {step_of(looks[-1]):,.0f}", sentence(words)))
        if looks and not said and looks[-1].get("reason"):
            items.append(("", subject, f"Not looked at: {cut(looks[-1]['reason'], 200)}."))
    return [Notes(title=title, items=tuple(items), is_folded=len(items) > 6)] if items else []
