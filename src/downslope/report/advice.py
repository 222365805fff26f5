"""What is most worth doing next, each piece of advice from a number that was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from downslope.estimate import Estimate
from downslope.report.reading import estimate, of_event, text
from downslope.report.run_data import RunData
from downslope.report.sections import data, descent, landscape, machine
from downslope.report.words import counted, cut, percent, sentence, short, spoken

# What comes first: a result that means nothing, then a better one, then a sooner one, then
# what is good to know. Within a rank the larger share goes first.
MEANINGLESS, BETTER, SOONER, WORTH_KNOWING = range(4)
WAITING = 0.1  # share of the time from which waiting is worth a word; assumed
SLOWER = 1.15  # times as long as at the sweet spot; below, timing jitter decides
START_SHARE = 0.5  # of a run's time that went by before its first steps
HEAVY = 0.2  # share of the noise in one row of a hundred; of equal rows it is 0.01
OFF = 0.1  # between predicted and observed shares
MOST = 3


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to do.

    Attributes:
        rank: which kind it is; lower ones come first.
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
    return sorted(found, key=lambda advice: (advice.rank, -advice.size))[:MOST]


def diverged(run: RunData) -> Advice | None:
    """After a run that ended by divergence."""
    if run.result.get("stop_reason") != "diverged":
        return None
    at = run.result.get("diverged_at_step")
    where = f" at step {at:,}" if isinstance(at, int) else ""
    why = f"the loss left for good{where}; the parameters kept are those before it"
    stops = [r for r in of_event(run.records, "decided") if r.get("knob") == "stop"]
    because = text(stops[-1].get("because")) if stops else ""
    if "drop" in because:  # rows whose loss is not finite at any rate
        return Advice(rank=MEANINGLESS, size=1.0, do="Mend or drop rows", why=sentence(because))
    do = "Take a learning rate ten times smaller, or clip gradients"
    return Advice(rank=MEANINGLESS, size=1.0, do=do, why=sentence(why))


def no_better_than(run: RunData) -> Advice | None:
    """Where the model is no better than knowing nothing, or than a straight line."""
    found = baselines(run)
    if found is None:
        return None
    model, trivial, linear, lower = found
    if not _beats(model, trivial, lower):
        why = f"the held-out score is {model}, and knowing nothing but the target gives {trivial}"
        do = "Check the target and its columns: nothing was learned that shows"
        return Advice(rank=MEANINGLESS, size=0.9, do=do, why=sentence(why))
    if linear is not None and linear.is_bounded and _beats(linear, model, lower):
        why = f"a linear model has {linear}, this one {model}"
        return Advice(rank=BETTER, size=0.9, do="Try the linear model", why=sentence(why))
    return None


def baselines(run: RunData) -> tuple[Estimate, Estimate, Estimate | None, bool] | None:
    """Scores of the model, of the trivial and of the linear baseline; whether lower is better."""
    record = run.find("baselines")
    if record is None:
        return None
    model, trivial = estimate(record.get("model")), estimate(record.get("trivial"))
    if model.value is None or trivial.value is None:
        return None
    linear = estimate(record.get("linear")) if record.get("linear") else None
    return model, trivial, linear, record.get("lower_is_better") is not False


def _beats(one: Estimate, other: Estimate, lower: bool) -> bool:
    """Whether one is better by more than its own interval leaves open."""
    if one.value is None or other.value is None:
        return False
    end = one.hi if lower else one.lo
    end = one.value if end is None else end
    return end < other.value if lower else end > other.value


def check_worries(run: RunData) -> Advice | None:
    """The worst finding of the checks before training."""
    worst = next((f for f in data.findings(run) if f.get("severity") in ("error", "warning")), None)
    if worst is None:
        return None
    is_error = worst.get("severity") == "error"
    remedy = worst.get("remedy")
    do = cut(remedy if isinstance(remedy, str) and remedy else "See the checks below", 160)
    return Advice(
        rank=MEANINGLESS if is_error else BETTER,
        size=0.8,
        do=do[0].upper() + do[1:],
        why=sentence(data.said(worst)),
    )


def still_falling(run: RunData) -> Advice | None:
    """Where a limit ended the run while the held-out loss still fell."""
    if run.result.get("stop_reason") not in ("finished", "time up", "interrupted"):
        return None
    stops = [r for r in of_event(run.records, "decided") if r.get("knob") == "stop"]
    if stops and stops[-1].get("new") == "converged":
        return None  # and was gone on with
    held = descent.held_out(run, "time")
    if len(held) < 3:
        return None
    late = held[-1].at - held[-2].at
    fell = held[-2].value - held[-1].value
    half = (held[-1].hi or held[-1].value) - held[-1].value
    if held[-1].value > min(h.value for h in held) or fell <= 0.05 * half or fell <= 0:
        return None
    why = (
        f"the last {spoken(late)} lowered the held-out loss by {short(fell)}, to "
        f"{short(held[-1].value)}: the limit ended the run, not the data"
    )
    size = min(1.0, fell / max(abs(held[-1].value), 1e-12))
    return Advice(rank=BETTER, size=size, do="Go on: resume with more time", why=sentence(why))


def overfits(run: RunData) -> Advice | None:
    """Where the held-out loss has risen well above its lowest."""
    held = descent.held_out(run, "examples")
    if len(held) < 3:
        return None
    best, end = min(held, key=lambda h: h.value), held[-1]
    if best.hi is None or end.value <= best.hi:
        return None
    why = (
        f"the held-out loss rose from {short(best.value)} at step {best.step:,.0f} to "
        f"{short(end.value)}: the model began to learn its rows by heart"
    )
    size = min(1.0, (end.value - best.value) / max(abs(best.value), 1e-12))
    return Advice(rank=BETTER, size=size, do="Stop earlier, or add l2", why=sentence(why))


def near_limit(run: RunData) -> Advice | None:
    """Where neighbouring updates undo each other."""
    value = landscape.is_near_limit(run)
    if value is None:
        return None
    why = f"the correlation of neighbouring updates is {short(value)}: they undo each other"
    return Advice(rank=BETTER, size=0.5, do="Take a smaller learning rate", why=sentence(why))


def miscalibrated(run: RunData) -> Advice | None:
    """Where predicted probabilities are far from observed shares."""
    far = data.worst_bin(run)
    if far is None or abs(far[1] - far[0]) < OFF:
        return None
    why = (
        f"where {percent(far[0])} were predicted, {percent(far[1])} ({percent(far[2])} to "
        f"{percent(far[3])}) were observed"
    )
    do = "Do not take the probabilities at their word"
    return Advice(rank=BETTER, size=abs(far[1] - far[0]), do=do, why=sentence(why))


def other_batch(run: RunData) -> Advice | None:
    """Where another batch size reaches the same loss sooner."""
    found = machine.sweet(run)
    if isinstance(found, str) or found.spot is None or (found.ratio or 0) < SLOWER:
        return None
    ratio = found.ratio or 1.0
    why = (
        f"by the noise and the step times, {short(found.in_use or 0)} takes {short(ratio)} times "
        f"as long to the same loss, if the learning rate is tuned anew"
    )
    do = f"Set the batch size to about {found.spot.batch_size:,}"
    return Advice(rank=SOONER, size=1 - 1 / ratio, do=do, why=sentence(why))


def waits(run: RunData) -> Advice | None:
    """Where the device waits for rows."""
    share = machine.waiting_share(run)
    if share is None or share < WAITING:
        return None
    why = f"{percent(share)} of the time went into waiting for rows"
    do = "Give the data a faster disk, or keep it in memory"
    return Advice(rank=SOONER, size=share, do=do, why=sentence(why))


def slow_start(run: RunData) -> Advice | None:
    """Where a short run is mostly start-up."""
    rates, last = machine.rates(run), run.result.get("seconds")
    if not rates or not isinstance(last, (int, float)) or last <= 0:
        return None
    share = rates[0][0] / last
    if not START_SHARE < share <= 1 or rates[0][4] > 0.1 * rates[-1][4]:
        return None
    why = (
        f"{spoken(rates[0][0])} of {spoken(last)} went by before step {rates[0][4]:,.0f}: reading, "
        "compiling, choosing the first settings"
    )
    do = "Expect longer runs to be cheap: most of this one was its start"
    return Advice(rank=WORTH_KNOWING, size=share, do=do, why=sentence(why))


def heavy_rows(run: RunData) -> Advice | None:
    """Where a few rows carry the noise."""
    share = data.top_share(run)
    if share is None or share < HEAVY:
        return None
    why = f"one row in a hundred carries {percent(share)} of the gradient's noise"
    return Advice(
        rank=WORTH_KNOWING,
        size=share,
        do="Look at the rows listed under the data: mislabelled, or of another kind",
        why=sentence(why),
    )


def idle_columns(run: RunData) -> Advice | None:
    """Where columns make no difference."""
    found = data.columns(run)
    idle = data.without_effect(found)
    if not idle or len(found) < 2:
        return None
    why = (
        f"permuting {counted(len(idle), 'column')} of {len(found)} made no difference that can be "
        "told to the held-out loss"
    )
    do = f"Try without the columns of no effect, such as {cut(idle[-1], 30)}"
    return Advice(rank=WORTH_KNOWING, size=len(idle) / len(found), do=do, why=sentence(why))


def unmeasured(run: RunData) -> Advice | None:
    """Where the noise was not measured."""
    if of_event(run.records, "measured") or run.find("solved"):
        return None
    why = "0 readings of the noise are in the journal, so nothing is said about the batch size"
    return Advice(
        rank=WORTH_KNOWING, size=0.1, do="Measure the noise in the next run", why=sentence(why)
    )


RULES: tuple[Callable[[RunData], Advice | None], ...] = (
    diverged, no_better_than, check_worries, still_falling, overfits, near_limit, miscalibrated,
    other_batch, waits, slow_start, heavy_rows, idle_columns, unmeasured,
)  # fmt: skip
