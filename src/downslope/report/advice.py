"""Advice on what to do next, each piece from a number that was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from downslope.estimate import Estimate, counted, percent, short, spoken
from downslope.report.reading import estimate, of_event, text
from downslope.report.run_data import RunData
from downslope.report.sections import data, descent, landscape, machine
from downslope.report.words import cut, sentence

# What comes first: a result without meaning, then a better one, then a sooner one, then what is
# good to know. Within a rank the larger share goes first.
MEANINGLESS, BETTER, SOONER, WORTH_KNOWING = range(4)
MIN_WAITING_SHARE = 0.1  # of the time; assumed
MIN_SLOWDOWN = 1.15  # of the time at the sweet spot; below, timing jitter decides
MIN_NOISY_SHARE = 0.2  # of the noise in one row of a hundred; of equal rows it is 0.01
MIN_MISCALIBRATION = 0.1  # between predicted and observed shares
MIN_GAIN = 0.05  # of the held-out loss's half-width, in the last evaluation
MIN_GAIN_OF_TWICE = 0.02  # of the held-out loss, that twice the updates would give; assumed
MAX_ADVICE = 3


class Advice(NamedTuple):
    """One thing to do.

    Attributes:
        rank: its kind; lower ones come first.
        size: how much is at stake, 0 to 1, to order advice of one rank.
        do: what to do, in a few words.
        why: one sentence, with the number.
    """

    rank: int
    size: float
    do: str
    why: str


def next_steps(run: RunData) -> list[Advice]:
    """The three things most worth doing next; fewer where fewer stand out."""
    found = [advice for rule in RULES if (advice := rule(run)) is not None]
    found.sort(key=lambda advice: (advice.rank, -advice.size))
    return [advice._replace(why=sentence(advice.why)) for advice in found[:MAX_ADVICE]]


def _stop(run: RunData) -> Any:
    """The newest decision to stop; empty where there is none."""
    stops = [r for r in of_event(run.records, "decided") if r.get("knob") == "stop"]
    return stops[-1] if stops else {}


def _diverged(run: RunData) -> Advice | None:
    if run.result.get("stop_reason") != "diverged":
        return None
    because = text(_stop(run).get("because"))
    if "drop" in because:  # rows whose loss is not finite at any rate
        return Advice(MEANINGLESS, 1.0, "Mend or drop rows", because)
    at = run.result.get("diverged_at_step")
    where = f" at step {at:,}" if isinstance(at, int) else ""
    why = f"the loss diverged{where}; the parameters kept are those before it"
    do = "Take a learning rate ten times smaller, or clip gradients"
    return Advice(MEANINGLESS, 1.0, do, why)


def _no_better_than(run: RunData) -> Advice | None:
    record = run.find("baselines") or {}
    model, trivial, linear = (estimate(record.get(n)) for n in ("model", "trivial", "linear"))
    lower = record.get("lower_is_better") is not False
    if not (model.is_measured and trivial.is_measured):
        return None
    # row by row: most of what rows differ in, they differ in for both models
    if _lead(model, trivial, estimate(record.get("gain_over_trivial")), lower) <= 0:
        why = f"the held-out score is {model}, and predicting a constant gives {trivial}"
        do = "Check the target and its columns: nothing was learned that shows"
        return Advice(MEANINGLESS, 0.9, do, why)
    if _lead(model, linear, estimate(record.get("gain_over_linear")), lower) < 0:
        why = f"a linear model has {linear}, this one {model}"
        return Advice(BETTER, 0.9, "Take the linear model: --model linear", why)
    return None


def _lead(one: Estimate, other: Estimate, gain: Estimate, lower: bool) -> int:
    """1 where a model is better than another beyond noise, -1 where it is worse, else 0."""
    if one.value is None or other.value is None:
        return 0
    if gain.lo is not None and gain.hi is not None:
        return (gain.lo > 0) - (gain.hi < 0)
    better = other.value - one.value if lower else one.value - other.value
    return (better > 0) - (better < 0)


def _trees_are_better(run: RunData) -> Advice | None:
    record = run.find("trees") or {}
    model, found = estimate(record.get("model")), estimate(record.get("trees"))
    gain, lower = estimate(record.get("gain_over_trees")), record.get("lower_is_better")
    if gain.hi is None or _lead(model, found, gain, lower is not False) >= 0:
        return None
    metric = text(record.get("metric")).replace("_", " ")
    why = (
        f"on the same held-out rows their {metric} is {found}, this model's {model}: better by "
        f"{short(-float(gain))}, which is more than noise"
    )
    return Advice(BETTER, 1.0, "Try gradient-boosted trees: here they predict better", why)


def _check_findings(run: RunData) -> Advice | None:
    worst = next(iter(data.findings(run)), {})
    if worst.get("severity") not in ("error", "warning"):
        return None
    rank = MEANINGLESS if worst.get("severity") == "error" else BETTER
    do = cut(text(worst.get("remedy")) or "See the checks below", 160)
    return Advice(rank, 0.8, do[0].upper() + do[1:], data.statement(worst))


def _still_falling(run: RunData) -> Advice | None:
    held = descent.held_out(run, "time")
    ends = ("finished", "time up", "interrupted")
    if run.result.get("stop_reason") not in ends or len(held) < 3:
        return None
    before, last = held[-2:]
    fell = before.value - last.value
    is_lowest = last.value <= min(h.value for h in held)
    if not is_lowest or fell <= max(0.0, MIN_GAIN * (last.ends[1] - last.value)):
        return None
    if _stop(run).get("new") == "converged":
        return None  # and training was continued
    longer = estimate(run.result.get("twice_as_long"))
    if longer.value is not None:  # the loss fell because the rate did, down to 0
        gain = 1 - longer.value / last.value if last.value > 0 else 0.0
        why = f"a new run of twice the updates would give a held-out loss of about {longer}"
        return Advice(BETTER, gain, "Train longer", why) if gain > MIN_GAIN_OF_TWICE else None
    why = (
        f"the last {spoken(last.at - before.at)} lowered the held-out loss by {short(fell)}, to "
        f"{short(last.value)}: the limit ended the run, not the data"
    )
    size = min(1.0, fell / max(abs(last.value), 1e-12))
    return Advice(BETTER, size, "Continue: resume with more time", why)


def _overfits(run: RunData) -> Advice | None:
    held = descent.held_out(run, "examples")
    if len(held) < 3:
        return None
    best, end = min(held, key=lambda h: h.value), held[-1]
    if best.hi is None or end.value <= best.hi:
        return None
    why = (
        f"the held-out loss rose from {short(best.value)} at step {best.step:,.0f} to "
        f"{short(end.value)}: the model began to overfit its rows"
    )
    size = min(1.0, (end.value - best.value) / max(abs(best.value), 1e-12))
    return Advice(BETTER, size, "Stop earlier, or add l2", why)


def _memorized(run: RunData) -> Advice | None:
    found = data.memorized(run)
    if not found:
        return None
    name, held, train = found[0]
    why = (
        f"permuting it raises the loss of training rows by {train}, that of held-out rows by "
        f"{held}: the model memorizes rows by its values"
    )
    helps = (held.lo or 0.0) > 0
    do = f"{'Group the values of' if helps else 'Leave out'} {cut(name, 30)}"
    size = min(1.0, 1 - float(held) / float(train))
    return Advice(BETTER, size, do, why)


def _near_limit(run: RunData) -> Advice | None:
    value = landscape.is_near_limit(run)
    if value is None:
        return None
    why = f"the correlation of neighbouring updates is {short(value)}: they undo each other"
    return Advice(BETTER, 0.5, "Take a smaller learning rate", why)


def _miscalibrated(run: RunData) -> Advice | None:
    worst = data.worst_bin(run)
    if worst is None or not data.is_miscalibrated(run):
        return None
    if abs(worst.observed - worst.predicted) < MIN_MISCALIBRATION:
        return None
    size = abs(worst.observed - worst.predicted)
    return Advice(BETTER, size, "Do not rely on the probabilities", worst.sentence)


def _other_batch(run: RunData) -> Advice | None:
    found = machine.sweet(run)
    if isinstance(found, str) or found.spot is None or (found.ratio or 0) < MIN_SLOWDOWN:
        return None
    ratio = found.ratio or 1.0
    why = (
        f"by the noise and the step times, {short(found.in_use or 0)} takes {short(ratio)} times "
        f"as long to the same loss, if the learning rate is tuned anew"
    )
    do = f"Set the batch size to about {found.spot.batch_size:,}"
    return Advice(SOONER, 1 - 1 / ratio, do, why)


def _waits(run: RunData) -> Advice | None:
    share = machine.waiting_share(run)
    if share is None or share < MIN_WAITING_SHARE:
        return None
    why = f"{percent(share)} of the time was spent waiting for rows"
    return Advice(SOONER, share, "Keep the data on a faster disk, or in memory", why)


def _noisy_rows(run: RunData) -> Advice | None:
    share = data.top_share(run)
    if share is None or share < MIN_NOISY_SHARE or data.holds_what_is_expected(run):
        return None
    why = f"one row in a hundred carries {percent(share)} of the gradient's noise"
    do = "Look at the rows listed under the data: mislabelled, or of another kind"
    return Advice(WORTH_KNOWING, share, do, why)


def _idle_columns(run: RunData) -> Advice | None:
    found = data.columns(run)
    idle = data.without_effect(found)
    if not idle or len(found) < 2:
        return None
    why = (
        f"permuting {counted(len(idle), 'column')} of {len(found)}, one by one, made no measurable "
        "difference to the held-out loss"
    )
    do = f"Try without the columns of no effect, such as {cut(idle[-1], 30)}"
    together = data.idle_together(run)
    if together.is_measured and (together.lo or 0) > 0:
        do = f"Drop columns of no effect one at a time, {cut(idle[-1], 30)} first"
        why += f"; all of them at once raised it by {together}: they stand in for each other"
    return Advice(WORTH_KNOWING, len(idle) / len(found), do, why)


def _unmeasured(run: RunData) -> Advice | None:
    if of_event(run.records, "measured") or run.find("solved"):
        return None
    if run.training and run.training.get("measure_every") is None:
        return None  # as was asked for, or a table too small for it to pay
    why = "the journal holds no measurement of the noise, so the batch size cannot be judged"
    return Advice(WORTH_KNOWING, 0.1, "Measure the noise in the next run", why)


RULES: tuple[Callable[[RunData], Advice | None], ...] = (
    _diverged, _no_better_than, _trees_are_better, _check_findings, _still_falling, _overfits,
    _memorized, _near_limit, _miscalibrated, _other_batch, _waits, _noisy_rows,
    _idle_columns, _unmeasured,
)  # fmt: skip
