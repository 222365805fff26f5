"""Several runs side by side: key figures with differences, losses in one chart, decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from downslope.estimate import Estimate, not_estimable
from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Gap, Notes, Section, Table, thinned
from downslope.report.reading import estimate, mapping, number, of_event, step_of, text, with_ends
from downslope.report.run_data import RunData
from downslope.report.sections import descent, machine, price, verdict
from downslope.report.words import (
    MINUS,
    NO_VALUE,
    TIMES,
    cell,
    cut,
    label,
    percent,
    sentence,
    short,
    spoken,
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One key figure: its name, its value in a run, and how the value is shown."""

    name: str
    value: Callable[[RunData], float | None]
    show: Callable[[float], str] = short
    is_time: bool = False


def comparison(runs: Sequence[RunData]) -> list[Section]:
    """The parts of the page that compares runs."""
    names = labels(runs)
    head = Section(
        name="verdict",
        title="Side by side",
        lead=_lead(runs, names),
        blocks=(key_figures(runs, names), settings(runs, names)),
    )
    charts: list[Block] = [held_chart(runs, names, over) for over in ("time", "examples")]
    return [
        head,
        Section(
            name="descent",
            title="The descents",
            blocks=tuple(charts),
            lead="The loss on rows kept out of training, with its interval.",
        ),
        Section(
            name="decisions",
            title="Decisions that differ",
            blocks=tuple(decided(runs, names)),
            lead="What one run chose and another did not, by knob and value.",
        ),
    ]


def labels(runs: Sequence[RunData]) -> list[str]:
    """A name for each run, its place put before where two folders share one."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{i} {name}" for i, name in enumerate(names, start=1)]


def _lead(runs: Sequence[RunData], names: Sequence[str]) -> str:
    data = {str(run.asked.get("data")) for run in runs}
    same = "All were trained on the same data." if len(data) == 1 else (
        "They were trained on different data, so their losses may not be comparable."
    )  # fmt: skip
    kept = [(held.value, i) for i, run in enumerate(runs) if (held := _held(run)).value is not None]
    best = ""
    if len(kept) > 1:
        value, i = min(kept)
        whose = f"{cut(names[i])}{_lead_of(runs, i)}"
        best = f" The lowest held-out loss, {short(value)}, is that of {whose}."
    going = [names[i] for i, run in enumerate(runs) if not run.is_over]
    tail = f" Not ended yet: {', '.join(map(cut, going))}." if going else ""
    return same + best + tail


def _lead_of(runs: Sequence[RunData], best: int) -> str:
    """Whether the best stands apart from the others by more than the intervals."""
    end = _held(runs[best])
    others = [_held(run) for i, run in enumerate(runs) if i != best]
    apart = all(
        end.hi is not None and o.lo is not None and end.hi < o.lo for o in others if o.value
    )
    return "" if apart else ", though the intervals overlap"


def _held(run: RunData) -> Estimate:
    """The held-out loss of the model that was kept, or the latest of a run under way."""
    value = number(mapping(run.result.get("validation")).get("loss"))
    if value is not None:
        return with_ends(value, mapping(run.result.get("validation_intervals")).get("loss"))
    held = descent.held_out(run, "examples")
    if not held:
        return not_estimable("no rows were held out", unit="")
    return Estimate(value=held[-1].value, lo=held[-1].lo, hi=held[-1].hi, unit="")


def _metric(name: str) -> Callable[[RunData], float | None]:
    return lambda run: number(mapping(run.result.get("validation")).get(name))


def _seconds(run: RunData) -> float | None:
    found = number(run.result.get("seconds"))
    known = [s for r in run.records if (s := number(r.get("seconds"))) is not None]
    return found if found is not None else max(known, default=None)


def _steps(run: RunData) -> float | None:
    found = number(run.result.get("num_steps"))
    return found if found is not None else max((step_of(r) for r in run.kept), default=None)


def _noise_scale(run: RunData) -> float | None:
    records = of_event(run.kept, "measured")
    return estimate(records[-1].get("noise_scale")).value if records else None


FIGURES = (
    Figure(name="held-out loss", value=lambda run: _held(run).value),
    Figure(name="accuracy", value=_metric("accuracy"), show=percent),
    Figure(name="auc", value=_metric("auc")),
    Figure(name="rmse", value=_metric("rmse")),
    Figure(name="r2", value=_metric("r2")),
    Figure(name="training loss", value=lambda run: number(run.result.get("train_loss"))),
    Figure(name="time", value=_seconds, show=spoken, is_time=True),
    Figure(name="steps", value=_steps),
    Figure(name="examples", value=lambda run: number(run.result.get("num_examples"))),
    Figure(name="batch size at the end",
           value=lambda run: run.course.batch_size(_steps(run) or 0.0)),
    Figure(name="learning rate at the end",
           value=lambda run: number(run.result.get("learning_rate"))),
    Figure(name="noise scale, examples", value=_noise_scale),
    Figure(name="examples spent beyond need", show=percent,
           value=lambda run: (price.whole_share(run) or (None,))[0]),
    Figure(name="waiting for data", value=machine.waiting_share, show=percent),
)  # fmt: skip


def key_figures(runs: Sequence[RunData], names: Sequence[str]) -> Table:
    """Each figure by run; after the first, with the ratio to it."""
    rows: list[tuple[Any, ...]] = []
    for figure in FIGURES:
        values = [figure.value(run) for run in runs]
        if all(value is None for value in values):
            continue
        first = values[0]
        shown = [
            NO_VALUE if v is None else figure.show(v) + (_against(v, first) if i else "")
            for i, v in enumerate(values)
        ]
        if figure.name == "held-out loss":
            shown = [str(_held(run)) + (_against(v, first) if i else "")
                     for i, (run, v) in enumerate(zip(runs, values, strict=True))]  # fmt: skip
        rows.append((figure.name, *shown))
    ends = ["under way" if not r.is_over else text(r.result.get("stop_reason")) for r in runs]
    rows.append(("ended", *ends))
    rows.append(("what", *(verdict.trained(run) for run in runs)))
    head = ("figure", *(cut(name, 40) for name in names))
    note = "In brackets after a figure: how far it lies from that of the first run."
    return Table(caption="Key figures", head=head, rows=tuple(rows), note=note)


def _against(value: float | None, first: float | None) -> str:
    """The difference to the first run, in per cent of it."""
    if value is None or first is None or first == 0:
        return ""
    change = (value - first) / abs(first)
    if abs(change) < 5e-4:
        return " [same]"
    if abs(change) >= 9:
        return f" [{TIMES}{short(value / first)}]"
    return f" [{'+' if change > 0 else MINUS}{percent(abs(change))}]"


def settings(runs: Sequence[RunData], names: Sequence[str]) -> Table | Gap:
    """The settings asked for that are not the same in all runs."""
    asked = [mapping(run.asked.get("training")) for run in runs]
    models = [mapping(mapping(run.asked.get("metadata")).get("options")) for run in runs]
    rows = []
    for part in (models, asked):
        for key in sorted({key for one in part for key in one}):
            values = [cell(one.get(key)) for one in part]
            if len(set(values)) > 1:
                rows.append((cut(key), *values))
    if not rows:
        return Gap(title="Settings", reason="all runs were asked for the same")
    head = ("setting", *(cut(name, 40) for name in names))
    return Table(caption="Settings that differ", head=head, rows=tuple(rows))


def held_chart(runs: Sequence[RunData], names: Sequence[str], over: str) -> Chart | Gap:
    """The held-out losses of all runs in one chart."""
    title = f"Held-out loss over {over}"
    found = [descent.held_out(run, over) for run in runs]
    if not any(found):
        return Gap(title=title, reason="no run has a held-out loss yet")

    def draw(ax: Any) -> None:
        for held, name, (colour, dash) in zip(found, names, drawing.STYLES * 2, strict=False):
            if not held:
                continue
            xs, ys = [h.at for h in held], [h.value for h in held]
            dot = "o" if len(xs) < 30 else ""
            ax.plot(
                xs, ys, color=colour, linestyle=dash, marker=dot, markersize=3, label=label(name)
            )
            ends = [(h.at, h.lo, h.hi) for h in held if h.lo is not None and h.hi is not None]
            if len(ends) > 1:
                ax.fill_between(*zip(*ends, strict=True), color=colour, alpha=0.1, linewidth=0)
        ax.set_xlabel(descent.OVER[over])
        ax.set_ylabel("held-out loss")
        drawing.legend(ax, columns=2)

    rows = [(cut(name), h.at, h.value, h.lo, h.hi)
            for name, held in zip(names, found, strict=True) for h in held]  # fmt: skip
    lowest = [(min(h.value for h in held), i) for i, held in enumerate(found) if held]
    best = min(lowest)
    where = min(found[best[1]], key=lambda h: h.value).at
    at = spoken(where) if over == "time" else f"{where:,.0f} examples"
    reading = f"{cut(names[best[1]])} went lowest, to {short(best[0])} after {at}."
    extra = 0.09 * max(0, (len(runs) + 1) // 2 - 1)
    return Chart(
        name=f"held-over-{over}", title=title, reading=reading, draw=draw, height=0.68 + extra,
        table=thinned(("run", descent.OVER[over], "held-out loss", "from", "to"), rows),
    )  # fmt: skip


def decided(runs: Sequence[RunData], names: Sequence[str]) -> list[Block]:
    """By run, the decisions that not all runs made."""
    made = [[(descent.change(r), r) for r in descent.decided(run)] for run in runs]
    common = set.intersection(*({words for words, _ in one} for one in made))
    blocks: list[Block] = []
    for name, one in zip(names, made, strict=True):
        own = [(words, r) for words, r in one if words not in common]
        if not own:
            blocks.append(
                Gap(title=cut(name), reason="it made no decision that the others did not")
            )
            continue
        shown = own[: descent.MOST_DECISIONS]
        items = tuple((str(i), f"step {step_of(r):,.0f}: {words}", sentence(text(r.get("because"))))
                      for i, (words, r) in enumerate(shown, start=1))  # fmt: skip
        more = (
            f"{len(own) - len(shown):,} more are in its journal." if len(own) > len(shown) else ""
        )
        blocks.append(Notes(title=cut(name), items=items, note=more, is_folded=len(items) > 12))
    return blocks
