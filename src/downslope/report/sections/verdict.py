"""The verdict: what was trained, how good it is, how long it took, what to do next."""

from __future__ import annotations

from downslope.estimate import Estimate, not_estimable
from downslope.report.advice import next_steps
from downslope.report.blocks import Block, Facts, Gap, Notes, Section
from downslope.report.reading import estimate, listing, mapping, number, step_of, text, with_ends
from downslope.report.run_data import RunData
from downslope.report.sections import descent
from downslope.report.sections.machine import num_parameters
from downslope.report.words import brief, counted, cut, percent, sentence, short, spoken

KINDS = {"linear": "A linear model", "mlp": "A network", "svm": "A support vector machine"}
SCORES = ("accuracy", "rmse", "loss")  # the first that is there is what a reader looks for


def section(run: RunData) -> Section:
    """The part of the page."""
    blocks: list[Block] = [figures(run), advice(run), comparison(run)]
    return Section(name="verdict", title="The verdict", lead=trained(run), blocks=tuple(blocks))


def trained(run: RunData) -> str:
    """What was trained, in a sentence; that it is under way, where it is."""
    metadata = mapping(run.asked.get("metadata"))
    encoding, options = mapping(metadata.get("encoding")), mapping(metadata.get("options"))
    size = num_parameters(run)
    of = f" of {counted(size[0], 'parameter')}" if size else ""
    if metadata.get("recipe") == "table" and encoding:
        target = mapping(encoding.get("target"))
        classes = listing(target.get("classes"))
        kind = KINDS.get(text(options.get("model")), "A model")
        what = (
            f"{counted(len(classes), 'class').replace('classs', 'classes')}"
            if classes
            else "a number"
        )
        columns = counted(len(listing(encoding.get("columns"))), "column")
        words = f"{kind}{of} that predicts {cut(target.get('name'))} ({what}) from {columns}"
    else:
        words = f"A model{of}"
    how = text(run.result.get("optimizer")) or text(mapping(run.asked.get("training"))
                                                    .get("optimizer"))  # fmt: skip
    words += {"solve": ", solved at once"}.get(how, f", trained with {how}" if how else "")
    return f"{sentence(words)}{'' if run.is_over else ' ' + under_way(run)}"


def under_way(run: RunData) -> str:
    """Where a run stands that has not ended."""
    last = max((step_of(r) for r in run.kept), default=0.0)
    fraction = [number(r.get("fraction")) for r in run.kept if r.get("event") == "progress"]
    done = f", about {percent(fraction[-1])} of the way" if fraction and fraction[-1] else ""
    return f"This run has not ended: it was last heard of at step {last:,.0f}{done}."


def score(run: RunData) -> tuple[str, Estimate]:
    """The held-out metric that a reader looks for first, and its estimate."""
    values = mapping(run.result.get("validation"))
    intervals = mapping(run.result.get("validation_intervals"))
    for name in SCORES:
        value = number(values.get(name))
        if value is not None:
            return name, with_ends(value, intervals.get(name))
    records = [r for r in run.kept if r.get("event") == "evaluated"]
    metrics = mapping(records[-1].get("metrics")) if records else {}
    for name in SCORES:
        found = estimate(metrics.get(name))
        if found.value is not None:
            return name, found
    return "loss", not_estimable("no rows were held out", unit="")


def figures(run: RunData) -> Facts:
    """The chief figures."""
    name, found = score(run)
    value = short_score(name, found.value)
    ends = ""
    if found.lo is not None and found.hi is not None:
        ends = " to ".join(short_score(name, end) for end in (found.lo, found.hi))
    elif found.value is None:
        ends = found.reason or ""
    rows = [(f"Held-out {name.replace('_', ' ')}", value, ends)]
    seconds = number(run.result.get("seconds"))
    if seconds is None:
        known = [number(r.get("seconds")) for r in run.records]
        seconds = max((s for s in known if s is not None), default=None)
    steps = number(run.result.get("num_steps"))
    steps = max((step_of(r) for r in run.kept), default=0.0) if steps is None else steps
    rows.append(("Time", spoken(seconds) if seconds is not None else "not known",
                 counted(steps, "step")))  # fmt: skip
    examples = number(run.result.get("num_examples"))
    if examples is not None:
        epochs = number(run.result.get("num_epochs"))
        rows.append(("Examples", brief(examples),
                     f"{short(epochs)} times through the rows" if epochs else ""))  # fmt: skip
    if run.is_over:
        rows.append(("Ended", text(run.result.get("stop_reason")) or "not known",
                     cut(text(run.result.get("advice")), 200)))  # fmt: skip
    else:
        rows.append(("Ended", "not yet", "the figures are those so far"))
    return Facts(rows=tuple(rows), is_large=True)


def short_score(name: str, value: float | None) -> str:
    """A score as its metric is read: shares in per cent."""
    if value is None:
        return "not known"
    return f"{100 * value:.1f} %" if name == "accuracy" else short(value)


def comparison(run: RunData) -> Facts | Gap:
    """The score beside a trivial and a linear baseline."""
    title = "Against simple models"
    record = run.find("baselines")
    if record is None:
        return Gap(title=title, reason="not looked at: the journal has no such record")
    unit = text(record.get("unit"))
    name = text(record.get("metric")).replace("_", " ")
    count = number(record.get("num_rows"))
    name += f", on {count:,.0f} held-out rows" if count else ""
    rows = []
    model = estimate(record.get("model"))
    for key, label in (("model", "This model"), ("linear", "A linear model"),
                       ("trivial", "Knowing nothing")):  # fmt: skip
        found = estimate(record.get(key), unit)
        how = cut(text(record.get(f"{key}_how")), 200)
        if found.is_bounded:
            rows.append((label, str(found), _gain(model, found, record, how)
                         if key != "model" else name))  # fmt: skip
        elif key != "model":
            why = text(record.get("reason")) or found.reason or "it was not trained"
            rows.append((label, "not known", cut(why, 200)))
    if not rows:
        return Gap(title=title, reason=text(record.get("reason")) or "no score was kept")
    return Facts(title=title, rows=tuple(rows))


def _gain(model: Estimate, other: Estimate, record: object, how: str) -> str:
    """How much of the other's loss the model saves, where lower is better and it is above 0."""
    lower = mapping(record).get("lower_is_better") is not False
    if model.value is None or other.value is None or not lower or other.value <= 0:
        return how
    saved = 1 - model.value / other.value
    words = f"this model is {percent(abs(saved))} {'lower' if saved >= 0 else 'higher'}"
    return f"{how}; {words}" if how else words


def advice(run: RunData) -> Notes | Gap:
    """The three things most worth doing next."""
    title = "Most worth doing next"
    found = next_steps(run)
    if not found:
        reason = "nothing stands out in what was measured"
        if not descent.held_out(run, "examples"):
            reason += "; hold rows out to be told more"
        return Gap(title=title, reason=reason)
    items = tuple((str(i), each.do, each.why) for i, each in enumerate(found, start=1))
    return Notes(title=title, items=items, is_broad=False)
