"""The machine: step time by batch size and its sweet spot, examples a second, waiting, memory."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from downslope.choose import StepTimes, SweetSpot, equivalent_steps, fit_step_times, sweet_spot
from downslope.errors import UsageError
from downslope.estimate import bytes_in_words, counted, percent, short, spoken
from downslope.report import drawing
from downslope.report.blocks import Facts, SectionPlan, Shown, chart, thinned
from downslope.report.measurements import readings, stretches, timed
from downslope.report.reading import number, step_of
from downslope.report.run_data import RunData
from downslope.report.words import brief, time_shares

NO_PROGRESS = "the journal holds no progress"
IN_TIME = 0.05  # share of the time spent waiting up to which the data kept up


@dataclass(frozen=True, kw_only=True)
class Sweet:
    """The fitted step times, the batch size in use, and the sweet spot or why there is none."""

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


@lru_cache(maxsize=1)  # the advice and the chart ask for it; its interval takes a quarter second
def sweet(run: RunData) -> Sweet | str:
    """Step times and the sweet spot, or the reason why there are none."""
    found = timed(run)
    if not found:
        return "no step was timed in this run"
    if len(found) == 1:
        ((size, seconds),) = found.items()
        return (
            f"only steps of {short(size)} examples were timed ({spoken(statistics.median(seconds))}"
            " each): the cost of other sizes is not known"
        )
    times = fit_step_times(list(found), list(found.values()))
    spot, why_not = _spot(run, times)
    in_use = run.course.batch_size(max((step_of(r) for r in run.kept), default=0.0))
    return Sweet(times=times, in_use=in_use, spot=spot, why_not=why_not)


def _spot(run: RunData, times: StepTimes) -> tuple[SweetSpot | None, str]:
    parts = stretches(readings(run), run.num_steps)
    if not parts:
        return None, "no noise scale was measured"
    scales, los, his = zip(*(reading.bounds for reading, _ in parts), strict=True)
    sizes, steps = [r.batch_size for r, _ in parts], [steps for _, steps in parts]
    try:
        law = equivalent_steps(scales, sizes, steps, noise_los=los, noise_his=his)
        lo, hi = law.noise_lo, law.noise_hi
        return sweet_spot(times=times, noise_scale=law.noise_scale, noise_lo=lo, noise_hi=hi), ""
    except UsageError as error:
        return None, str(error)


@chart("step-time", "Step time by batch size")
def step_chart(run: RunData) -> Shown | str:
    """Seconds of a step by batch size with the fitted curve and the sweet spot."""
    found = sweet(run)
    if isinstance(found, str):
        return found
    times, spot = found.times, found.spot
    lo, hi = times.batch_sizes[0], times.batch_sizes[-1]
    grid = [lo * (hi / lo) ** (i / 60) for i in range(61)]

    def draw(ax: Any) -> None:
        ax.plot(grid, [1e3 * t for t in times.predict_many(grid)], color=drawing.BLUE,
                label="curve")  # fmt: skip
        ax.plot(grid, [1e3 * times.line(b) for b in grid], color=drawing.MUTED, linewidth=1.2,
                linestyle=":", label="straight line")  # fmt: skip
        middle = list(zip(times.seconds, map(_quartiles, times.repeats), strict=True))
        bars = [[max(0.0, 1e3 * (t - low)) for t, (low, _) in middle],
                [max(0.0, 1e3 * (high - t)) for t, (_, high) in middle]]  # fmt: skip
        ax.errorbar(times.batch_sizes, [1e3 * t for t in times.seconds], yerr=bars, fmt="o",
                    color=drawing.BLUE, elinewidth=1, label="timed")  # fmt: skip
        ax.set_xscale("log", base=2)
        if spot is not None:
            ax.axvspan(*spot.near, color=drawing.GREEN, alpha=0.14, linewidth=0)
            ax.plot([spot.batch_size], [1e3 * times.predict(spot.batch_size)], "*",
                    color=drawing.GREEN, markersize=13, label="sweet spot")  # fmt: skip
        if found.in_use and times.is_measured_at(found.in_use):
            ax.plot([found.in_use], [1e3 * times.predict(found.in_use)], "s", color=drawing.RED,
                    markersize=7, markerfacecolor="none", label="in use")  # fmt: skip
        ticks = [b for b in times.batch_sizes if math.log2(b).is_integer()] or [lo, hi]
        ticks = ticks[:: math.ceil(len(ticks) / 6)]
        ax.set_xticks(ticks, [short(b) for b in ticks])
        ax.set(yscale="log", xlabel="examples a batch", ylabel="ms a step")

    rows = [(b, 1e3 * t, 1e3 * times.line(b), len(each), b / t)
            for b, t, each in zip(times.batch_sizes, times.seconds, times.repeats,
                                  strict=True)]  # fmt: skip
    head = ("batch size", "ms (median)", "ms by the line", "times", "examples/s")
    return Shown(_step_reading(found), thinned(head, rows), draw, height=0.74)


def _quartiles(times: tuple[float, ...]) -> tuple[float, float]:
    if len(times) == 1:
        return times[0], times[0]
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, high


def _step_reading(found: Sweet) -> str:
    spot, ratio = found.spot, found.ratio
    cost = f"{spoken(found.times.fixed_seconds)} of a step are spent whatever its size"
    if spot is None:
        return f"{cost}; the sweet spot is not known: {found.why_not}."
    words = (
        f"{cost}; a batch of {short(spot.batch_size)} reaches a given loss soonest, and anything "
        f"from {short(spot.near[0])} to {short(spot.near[1])} takes at most 10 % longer"
    )
    if ratio is None:
        return f"{words}."
    in_use = f"the {short(found.in_use or 0)} in use"
    if ratio <= 1.1:
        return f"{words}: {in_use} is as good."
    return f"{words}; {in_use} takes {short(ratio)} times as long."


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The speed at a progress record."""

    step: float
    seconds: float
    examples_per_second: float
    waiting_share: float
    reading_share: float


def rates(run: RunData) -> list[Rate]:
    """The speed at each progress record."""
    found = []
    for record in run.of("progress"):
        seconds, speed = number(record.get("seconds")), number(record.get("examples_per_second"))
        if seconds is not None and speed is not None:
            waiting, reading = (number(record.get(f"{name}_share")) or 0.0
                                for name in ("waiting", "reading"))  # fmt: skip
            found.append(Rate(step=step_of(record), seconds=seconds, examples_per_second=speed,
                              waiting_share=waiting, reading_share=reading))  # fmt: skip
    return found


@chart("rate", "Examples a second")
def rate_chart(run: RunData) -> Shown | str:
    """Examples a second over the run."""
    found = rates(run)
    if not found:
        return NO_PROGRESS
    speeds = [rate.examples_per_second for rate in found]

    def draw(ax: Any) -> None:
        ax.plot([rate.seconds for rate in found], speeds, color=drawing.BLUE,
                marker=drawing.markers(found), markersize=3.5)  # fmt: skip
        positive = [speed for speed in speeds if speed > 0]
        if positive and max(positive) > 30 * min(positive):
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.set(xlabel="seconds", ylabel="examples a second")

    rows = [(int(rate.step), rate.seconds, rate.examples_per_second) for rate in found]
    reading = f"The median speed was {brief(statistics.median(speeds))} examples a second."
    return Shown(reading, thinned(("step", "seconds", "examples/s"), rows), draw)


def waiting_share(run: RunData) -> float | None:
    """Share of the time spent waiting for data, over the whole run."""
    spans = [(number(r.get("span_seconds")) or 0.0, number(r.get("waiting_share")) or 0.0)
             for r in run.of("progress")]  # fmt: skip
    total = sum(seconds for seconds, _ in spans)
    return sum(seconds * share for seconds, share in spans) / total if total else None


@chart("waiting", "Waiting for data")
def waiting_chart(run: RunData) -> Shown | str:
    """The share of the time that training waited for its rows."""
    found, whole = rates(run), waiting_share(run)
    if whole is None:
        return NO_PROGRESS

    def draw(ax: Any) -> None:
        xs = [rate.seconds for rate in found]
        ax.plot(xs, [100 * rate.reading_share for rate in found], color=drawing.MUTED,
                linestyle="--", linewidth=1.3, label="reading")  # fmt: skip
        ax.plot(xs, [100 * rate.waiting_share for rate in found], color=drawing.RED,
                marker=drawing.markers(found), markersize=3.5, label="waiting")  # fmt: skip
        highest = max((max(rate.waiting_share, rate.reading_share) for rate in found), default=0.0)
        ax.set(ylim=(0, max(5.0, min(100.0, 115 * highest))), xlabel="seconds",
               ylabel="% of the time")  # fmt: skip

    rows = [(int(r.step), r.seconds, r.waiting_share, r.reading_share) for r in found]
    tail = "the data kept up" if whole < IN_TIME else "the device was idle meanwhile"
    head = ("step", "seconds", "waiting (share)", "reading (share)")
    reading = f"{percent(whole)} of the time was spent waiting for rows: {tail}."
    return Shown(reading, thinned(head, rows), draw)


def costs(run: RunData) -> Facts:
    """Time by kind of work, start-up, memory and the size of the model, in words."""
    peak = number((run.find("record") or {}).get("peak_memory_bytes"))
    shown = ("not known", "the journal holds no measurement of it") if not peak else (
        bytes_in_words(peak), "of the whole process"
    )  # fmt: skip
    model = "not known"
    if run.size is not None:
        model = f"{counted(run.size[0], 'parameter')}, {bytes_in_words(run.size[1])}"
    rows = [("Peak memory", *shown), ("Model", model, "")]
    if first := next(iter(rates(run)), None):
        note = "including reading the first rows, compiling and choosing the first settings"
        rows.insert(0, (f"Until step {first.step:,.0f}", spoken(first.seconds), note))
    if shares := time_shares((run.find("stopped") or {}).get("spent_seconds")):
        seconds = "not known" if run.seconds is None else spoken(run.seconds)
        rows.insert(0, ("Time", seconds, shares))
    return Facts(title="Time and memory", rows=tuple(rows))


PLAN = SectionPlan(
    title="The machine",
    lead="A step has a fixed cost and one that grows with its batch. The sweet spot is the batch "
    "size that reaches a given loss soonest: with larger batches there are fewer steps, but each "
    "costs more.",
    blocks=(step_chart, rate_chart, waiting_chart, costs),
)
