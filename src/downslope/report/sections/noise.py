"""The noise: its scale beside the batch, signal and noise, what is spent beyond need, angles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Gap, Notes, Section, thinned
from downslope.report.reading import (
    Estimate,
    estimate,
    listing,
    mapping,
    number,
    of_event,
    step_of,
    text,
)
from downslope.report.run import Run
from downslope.report.words import cut, interval, percent, sentence, short

SUBJECTS = ("gradient", "scale", "required", "tails", "order")  # of the anatomy
NOT_MEASURED = "no noise was measured in this run"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One record of what the measured steps say: where, at which batch size, and what."""

    step: float
    examples: float
    batch_size: float
    scale: Estimate
    signal: Estimate
    trace: Estimate


def section(run: Run) -> Section:
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


def readings(run: Run) -> list[Reading]:
    """The readings of the noise over the run, in order."""
    found = []
    for record in of_event(run.kept, "measured"):
        size, step = number(record.get("batch_size")), step_of(record)
        if not size or size <= 0:
            continue
        names = ("noise_scale", "gradient_signal", "gradient_noise")
        scale, signal, trace = (estimate(record.get(name)) for name in names)
        found.append(
            Reading(
                step=step,
                examples=run.course.examples(step) or 0.0,
                batch_size=size,
                scale=scale,
                signal=signal,
                trace=trace,
            )
        )
    return found


def _bounds(found: Estimate, most: float) -> tuple[float, float]:
    """The ends of a band on a logarithmic axis; what has no upper end reaches its top."""
    lo = found.lo if found.lo and found.lo > 0 else (found.value or most) / 30
    hi = found.hi if found.hi and found.hi > 0 else most
    return lo, max(hi, lo)


def scale_chart(run: Run) -> Chart | Gap:
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
    words = f"At the end the noise scale was {interval(r.scale, 'examples')}"
    size = f"a batch of {short(r.batch_size)}"
    lo, hi = r.scale.lo or 0.0, r.scale.hi or math.inf
    if r.batch_size < lo:
        return f"{words}: in {size} the noise outweighed the gradient."
    if r.batch_size > hi:
        return f"{words}: in {size} the gradient outweighed the noise."
    return f"{words}: {size} had about as much noise as gradient, as far as that can be told."


def signal_chart(run: Run) -> Chart | Gap:
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


def share_spent(batch_size: float, noise_scale: float) -> float:
    """The share of the examples used beyond the least number: z/(1 + z) at z = B/B_noise.

    Example:
        >>> share_spent(100, 300)
        0.25

    Source: McCandlish et al. (2018), section 2.2: examples are E_min (1 + B/B_noise).
    """
    return batch_size / (batch_size + noise_scale)


def spent(run: Run) -> list[tuple[Reading, float | None, float, float]]:
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


def whole_share(run: Run) -> tuple[float, float, float] | None:
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


def spent_chart(run: Run) -> Chart | Gap:
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


def angle_chart(run: Run) -> Chart | Gap:
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


def _measured_angles(run: Run) -> list[tuple[float, float]]:
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


def anatomy(run: Run, subjects: Sequence[str], title: str) -> list[Notes]:
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
