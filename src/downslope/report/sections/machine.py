"""The machine: step time by batch size and its sweet spot, examples a second, waiting, memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from downslope.choose import StepTimes, SweetSpot, equivalent_steps, fit_step_times, sweet_spot
from downslope.errors import UsageError
from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Facts, Gap, Section, thinned
from downslope.report.noise_readings import readings
from downslope.report.reading import listing, mapping, number, numbers, of_event, step_of, text
from downslope.report.run_data import RunData
from downslope.report.words import brief, bytes_in_words, counted, percent, short, spoken


@dataclass(frozen=True, kw_only=True)
class Sweet:
    """The fitted step times, the batch size in use, and the sweet spot where it can be told."""

    times: StepTimes
    in_use: float | None
    spot: SweetSpot | None
    why_not: str

    @property
    def ratio(self) -> float | None:
        """Time to the same loss at the batch in use over that at the sweet spot, tuned anew."""
        if self.spot is None or self.in_use is None or not self.times.is_measured_at(self.in_use):
            return None
        scale, best = self.spot.noise_scale, self.spot.batch_size
        now, then = self.times.predict_many([self.in_use, best])
        return (1 + scale / self.in_use) * now / ((1 + scale / best) * then)


def section(run: RunData) -> Section:
    """The part of the page."""
    blocks: list[Block] = [step_chart(run), rate_chart(run), waiting_chart(run)]
    return Section(
        name="machine",
        title="The machine",
        lead="A step has a fixed cost and one that grows with its batch. The sweet spot is the "
        "batch size that reaches a given loss soonest: fewer steps against dearer ones.",
        blocks=(*blocks, costs(run), Gap(title="Several workers", reason=_workers(run))),
    )


def _workers(run: RunData) -> str:
    asked = number(mapping(run.asked.get("training")).get("workers"))
    if asked and asked > 1:
        return "the journal holds no times of single workers"
    return "this run had one worker: nothing was exchanged and nobody waited for a straggler"


def timed(run: RunData) -> dict[float, list[float]]:
    """Seconds of steps by batch size, from the records that timed them."""
    found: dict[float, list[float]] = {}
    for record in of_event(run.kept, "timed"):
        sizes, seconds = numbers(record.get("batch_sizes")), listing(record.get("step_seconds"))
        for size, each in zip(sizes, seconds, strict=False):
            several = numbers(each) if isinstance(each, (list, tuple)) else [number(each)]
            good = [t for t in several if t is not None and t > 0]
            if size and size > 0 and good:
                found.setdefault(size, []).extend(good)
    return dict(sorted(found.items()))


@lru_cache(maxsize=1)  # the advice and the chart ask for it; its interval takes a quarter second
def sweet(run: RunData) -> Sweet | str:
    """Step times and the sweet spot; or why there are none."""
    found = timed(run)
    if not found:
        return "no step was timed in this run"
    if len(found) == 1:
        ((size, seconds),) = found.items()
        return (
            f"only steps of {short(size)} examples were timed ({spoken(statistics.median(seconds))}"
            " each): what other sizes cost is not known"
        )
    times = fit_step_times(list(found), list(found.values()))
    spot, why_not = _spot(run, times)
    last = max((step_of(r) for r in run.kept), default=0.0)
    return Sweet(times=times, in_use=run.course.batch_size(last), spot=spot, why_not=why_not)


def _spot(run: RunData, times: StepTimes) -> tuple[SweetSpot | None, str]:
    known = [r for r in readings(run) if (r.scale.value or r.scale.lo or 0) > 0]
    if not known:
        return None, "no noise scale was measured"
    steps = [b - a for a, b in zip([0.0, *(r.step for r in known[:-1])],
                                   [r.step for r in known], strict=True)]  # fmt: skip
    rows = [(r, n) for r, n in zip(known, steps, strict=True) if n > 0]
    try:
        law = equivalent_steps(
            [r.scale.value for r, _ in rows],
            [r.batch_size for r, _ in rows],
            [n for _, n in rows],
            noise_los=[_positive(r.scale.lo) for r, _ in rows],
            noise_his=[_positive(r.scale.hi) for r, _ in rows],
        )
        lo, hi = law.noise_lo, law.noise_hi
        return sweet_spot(times=times, noise_scale=law.noise_scale, noise_lo=lo, noise_hi=hi), ""
    except UsageError as error:
        return None, str(error)


def _positive(value: float | None) -> float | None:
    return value if value and value > 0 else None


def step_chart(run: RunData) -> Chart | Gap:
    """Seconds of a step by batch size with the fitted curve and the sweet spot."""
    title = "Step time by batch size"
    found = sweet(run)
    if isinstance(found, str):
        return Gap(title=title, reason=found)
    times, spot = found.times, found.spot
    lo, hi = times.batch_sizes[0], times.batch_sizes[-1]
    grid = [lo * (hi / lo) ** (i / 60) for i in range(61)]

    def draw(ax: Any) -> None:
        spread = [_quartiles(each) for each in times.repeats]
        spans = list(zip(times.seconds, spread, strict=True))
        reach = [[max(0.0, 1e3 * (t - a)) for t, (a, _) in spans],
                 [max(0.0, 1e3 * (b - t)) for t, (_, b) in spans]]  # fmt: skip
        ax.plot(grid, [1e3 * t for t in times.predict_many(grid)], color=drawing.BLUE,
                label="curve")  # fmt: skip
        ax.plot(grid, [1e3 * times.line(b) for b in grid], color=drawing.MUTED, linewidth=1.2,
                linestyle=":", label="straight line")  # fmt: skip
        ax.errorbar(times.batch_sizes, [1e3 * t for t in times.seconds], yerr=reach, fmt="o",
                    color=drawing.BLUE, elinewidth=1, label="timed")  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        if spot is not None:
            ax.axvspan(*spot.near, color=drawing.GREEN, alpha=0.14, linewidth=0)
            at = 1e3 * times.predict(spot.batch_size)
            ax.plot([spot.batch_size], [at], "*", color=drawing.GREEN, markersize=13,
                    label="sweet spot")  # fmt: skip
        if found.in_use and times.is_measured_at(found.in_use):
            ax.plot([found.in_use], [1e3 * times.predict(found.in_use)], "s", color=drawing.RED,
                    markersize=7, markerfacecolor="none", label="in use")  # fmt: skip
        ticks = [b for b in times.batch_sizes if math.log2(b).is_integer()] or list((lo, hi))
        ticks = ticks[:: max(1, math.ceil(len(ticks) / 6))]
        ax.set_xticks(ticks, [short(b) for b in ticks])
        ax.set_xlabel("examples a batch")
        ax.set_ylabel("ms a step")
        drawing.legend(ax, columns=3)

    rows = [
        (b, 1e3 * t, 1e3 * times.line(b), len(each), b / t)
        for b, t, each in zip(times.batch_sizes, times.seconds, times.repeats, strict=True)
    ]
    head = ("batch size", "ms (median)", "ms by the line", "times", "examples/s")
    return Chart(
        name="step-time",
        title=title,
        reading=_step_reading(found),
        table=thinned(head, rows),
        draw=draw,
        height=0.74,
    )


def _quartiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 4], ordered[(3 * (len(ordered) - 1) + 3) // 4]


def _step_reading(found: Sweet) -> str:
    times, spot = found.times, found.spot
    cost = f"Of a step {spoken(times.fixed_seconds)} are spent whatever its size"
    if spot is None:
        return f"{cost}; the sweet spot is not known: {found.why_not}."
    lo, hi = spot.near
    words = (
        f"{cost}; a batch of {short(spot.batch_size)} reaches a given loss soonest, and anything "
        f"from {short(lo)} to {short(hi)} within 10 % of that"
    )
    ratio = found.ratio
    if ratio is None:
        return f"{words}."
    if ratio <= 1.1:
        return f"{words}: the {short(found.in_use or 0)} in use is as good."
    return f"{words}; the {short(found.in_use or 0)} in use takes {short(ratio)} times as long."


def rates(run: RunData) -> list[tuple[float, float, float, float, float]]:
    """(seconds, examples/s, waiting share, reading share, step) of the progress records."""
    found = []
    for record in of_event(run.kept, "progress"):
        values = [number(record.get(name)) for name in ("seconds", "examples_per_second")]
        waits = [number(record.get(name)) or 0.0 for name in ("waiting_share", "reading_share")]
        if values[0] is not None and values[1] is not None:
            found.append((values[0], values[1], *waits, step_of(record)))
    return found


def rate_chart(run: RunData) -> Chart | Gap:
    """Examples a second over the run."""
    title = "Examples a second"
    found = rates(run)
    if not found:
        return Gap(title=title, reason="the journal holds no progress")

    def draw(ax: Any) -> None:
        dot = "o" if len(found) < 60 else ""
        ax.plot([r[0] for r in found], [r[1] for r in found], color=drawing.BLUE, marker=dot,
                markersize=3.5)  # fmt: skip
        values = [r[1] for r in found if r[1] > 0]
        if values and max(values) > 30 * min(values):
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.set_xlabel("seconds")
        ax.set_ylabel("examples a second")

    middle = statistics.median(r[1] for r in found)
    rows = [(int(r[4]), r[0], r[1]) for r in found]
    return Chart(
        name="rate",
        title=title,
        reading=f"Half the time more than {brief(middle)} examples a second were trained on.",
        table=thinned(("step", "seconds", "examples/s"), rows),
        draw=draw,
    )


def waiting_share(run: RunData) -> float | None:
    """Share of the time spent waiting for data, over the whole run."""
    spans = [number(r.get("span_seconds")) or 0.0 for r in of_event(run.kept, "progress")]
    shares = [number(r.get("waiting_share")) or 0.0 for r in of_event(run.kept, "progress")]
    total = sum(spans)
    return sum(s * w for s, w in zip(spans, shares, strict=True)) / total if total else None


def waiting_chart(run: RunData) -> Chart | Gap:
    """The share of time that training waited for its rows."""
    title = "Waiting for data"
    found, whole = rates(run), waiting_share(run)
    if whole is None:
        return Gap(title=title, reason="the journal holds no progress")

    def draw(ax: Any) -> None:
        xs = [r[0] for r in found]
        ax.plot(xs, [100 * r[3] for r in found], color=drawing.MUTED, linestyle="--",
                linewidth=1.3, label="reading")  # fmt: skip
        ax.plot(xs, [100 * r[2] for r in found], color=drawing.RED, marker="o" if len(xs) < 60
                else "", markersize=3.5, label="waiting")  # fmt: skip
        highest = max(max(r[2], r[3]) for r in found)
        ax.set_ylim(0, max(5.0, min(100.0, 115 * highest)))
        ax.set_xlabel("seconds")
        ax.set_ylabel("% of the time")
        drawing.legend(ax)

    rows = [(int(r[4]), r[0], r[2], r[3]) for r in found]
    tail = "data was there in time" if whole < 0.05 else "the device stood idle meanwhile"
    return Chart(
        name="waiting",
        title=title,
        reading=f"{percent(whole)} of the time went into waiting for rows: {tail}.",
        table=thinned(("step", "seconds", "waiting (share)", "reading (share)"), rows),
        draw=draw,
    )


def costs(run: RunData) -> Facts:
    """Start-up, memory and the size of the model, in words."""
    record = run.find("record") or {}
    peak = number(record.get("peak_memory_bytes"))
    first = next(iter(rates(run)), None)
    rows = [
        ("Most memory used", bytes_in_words(peak) if peak else "not known",
         "of the whole process" if peak else "the journal holds no measurement of it"),
        ("Model", parameters(run), ""),
    ]  # fmt: skip
    if first:
        note = "with reading the first rows, compiling and choosing the first settings"
        rows.insert(0, (f"Until step {first[4]:,.0f}", spoken(first[0]), note))
    return Facts(title="Start and memory", rows=tuple(rows))


def num_parameters(run: RunData) -> tuple[int, float] | None:
    """How many numbers are trained, and their bytes."""
    shapes = mapping(run.asked.get("params"))
    count, size = 0, 0.0
    for shape in shapes.values():
        kind, *sides = listing(shape) or [""]
        whole = [number(side) for side in sides]
        if not text(kind) or None in whole:
            return None
        numbers_in = math.prod(int(side or 0) for side in whole)
        digits = text(kind)[len(text(kind).rstrip("0123456789")) :]
        count += numbers_in
        size += numbers_in * (int(digits) if digits else 8) / 8
    return (count, size) if shapes else None


def parameters(run: RunData) -> str:
    """The size of the model in words."""
    found = num_parameters(run)
    if found is None:
        return "not known"
    return f"{counted(found[0], 'parameter')}, {bytes_in_words(found[1])}"
