"""The verdict: what was trained, how good it is, how long it took, what to do next."""

from __future__ import annotations

from downslope.estimate import Estimate, counted, percent, short, spoken
from downslope.report.advice import next_steps
from downslope.report.blocks import Facts, Gap, Notes, SectionPlan
from downslope.report.reading import estimate, listing, mapping, number, text
from downslope.report.run_data import RunData
from downslope.report.sections import descent
from downslope.report.words import brief, cut, sentence

KINDS = {
    ("linear",): "A linear model",
    ("mlp",): "A network",
    ("net",): "A network with embeddings of numbers",
    ("linear", "mlp"): "The mean of a linear model and a network",
    ("linear", "net"): "The mean of a linear model and a network",
}
# The first that is there is what a reader looks for.
SCORES = ("accuracy", "rmse", "quantile_loss", "loss")


def trained(run: RunData) -> str:
    """The model that was trained, in a sentence, and its progress where it is under way."""
    encoding, options = mapping(run.metadata.get("encoding")), mapping(run.metadata.get("options"))
    of = f" of {counted(run.size[0], 'parameter')}" if run.size else ""
    words = f"A model{of}"
    if run.metadata.get("recipe") == "table" and encoding:
        target = mapping(encoding.get("target"))
        classes = len(listing(target.get("classes")))
        what = counted(classes, "class", "classes") if classes else "a number"
        columns = counted(len(listing(encoding.get("columns"))), "column")
        kind = KINDS.get(tuple(map(str, listing(run.metadata.get("parts")))), "A model")
        kind = "A support vector machine" if options.get("model") == "svm" else kind
        words = f"{kind}{of} that predicts {cut(target.get('name'))} ({what}) from {columns}"
    how = text(run.result.get("optimizer")) or text(run.training.get("optimizer"))
    if how:
        words += ", solved directly" if how == "solve" else f", trained with {how}"
    return sentence(words) if run.is_over else f"{sentence(words)} {under_way(run)}"


def under_way(run: RunData) -> str:
    """Progress of a run that has not ended."""
    fractions = [number(r.get("fraction")) for r in run.of("progress")]
    done = f", about {percent(fractions[-1])} of it done" if fractions and fractions[-1] else ""
    return f"This run has not ended: its latest record is of step {run.num_steps:,.0f}{done}."


def figures(run: RunData) -> Facts:
    """The chief figures."""
    name, found = run.score(*SCORES)
    ends = found.reason or ""
    if found.lo is not None and found.hi is not None:
        ends = f"{_score(name, found.lo)} to {_score(name, found.hi)}"
    rows = [(f"Held-out {name.replace('_', ' ')}", _score(name, found.value), ends)]
    seconds = "not known" if run.seconds is None else spoken(run.seconds)
    rows.append(("Time", seconds, counted(run.num_steps, "step")))
    examples, epochs = (number(run.result.get(f"num_{name}")) for name in ("examples", "epochs"))
    if examples is not None:
        passes = f"{short(epochs)} passes over the rows" if epochs else ""
        rows.append(("Examples", brief(examples), passes))
    if run.is_over:
        reason = text(run.result.get("stop_reason")) or "not known"
        rows.append(("Ended", reason, cut(text(run.result.get("advice")), 200)))
        if longer := run.result.get("twice_as_long"):
            found = estimate(longer)
            value = "not estimable" if found.value is None else short(found.value)
            ends = found.reason or f"{short(found.lo or 0)} to {short(found.hi or 0)}"
            rows.append(("Held-out loss, run twice as long", value, ends))
    else:
        rows.append(("Ended", "not yet", "the figures are those so far"))
    return Facts(rows=tuple(rows), is_large=True)


def _score(name: str, value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{100 * value:.1f} %" if name == "accuracy" else short(value)


def comparison(run: RunData) -> Facts | Gap:
    """The score beside those of trees, of a linear model and of a constant."""
    title = "Compared with simple models"
    record = run.find("baselines")
    if record is None:
        return Gap(title=title, reason="not examined: the journal holds no such record")
    unit, count = text(record.get("unit")), number(record.get("num_rows"))
    model, rows = estimate(record.get("model"), unit), []
    if model.is_bounded:
        held_out = f", on {count:,.0f} held-out rows" if count else ""
        metric = text(record.get("metric")).replace("_", " ")
        rows.append(("This model", str(model), f"{metric}{held_out}"))
    for key, label in (("linear", "A linear model"), ("trivial", "A constant prediction")):
        found = estimate(record.get(key), unit)
        if found.is_bounded:
            how = [cut(text(record.get(f"{key}_how")), 200)]
            if record.get("lower_is_better") is not False:
                how.append(_gain(model, found))
            rows.append((label, str(found), "; ".join(filter(None, how))))
        else:
            why = text(record.get("reason")) or found.reason or ""
            rows.append((label, "not known", cut(why, 200)))
    trees = run.find("trees") or {}
    found = estimate(trees.get("trees"), unit)
    if found.is_bounded:
        how = [cut(text(trees.get("how")), 200)]
        if record.get("lower_is_better") is not False:
            how.append(_gain(model, found))
        rows.insert(1, ("Gradient-boosted trees", str(found), "; ".join(filter(None, how))))
    elif trees:
        rows.append(("Gradient-boosted trees", "not known", cut(text(trees.get("reason")), 200)))
    return Facts(title=title, rows=tuple(rows))


def _gain(model: Estimate, other: Estimate) -> str:
    """Difference of the model's loss to the other's, in words."""
    if model.value is None or other.value is None or other.value <= 0:
        return ""
    saved = 1 - model.value / other.value
    return f"this model is {percent(abs(saved))} {'lower' if saved >= 0 else 'higher'}"


def advice(run: RunData) -> Notes | Gap:
    """The three things most worth doing next."""
    title = "Most worth doing next"
    found = next_steps(run)
    if not found:
        reason = "nothing that was measured stands out"
        if not descent.held_out(run, "examples"):
            reason += "; hold out rows to learn more"
        return Gap(title=title, reason=reason)
    items = tuple((str(i), each.do, each.why) for i, each in enumerate(found, start=1))
    return Notes(title=title, items=items, is_broad=False)


PLAN = SectionPlan(title="The verdict", lead=trained, blocks=(figures, advice, comparison))
