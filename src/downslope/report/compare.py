"""Several runs side by side: key figures with differences, losses in one chart, decisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from downslope.estimate import Estimate, percent, short, spoken
from downslope.report import drawing
from downslope.report.blocks import Block, CellTable, Chart, Gap, PageSection, thinned
from downslope.report.measurements import readings
from downslope.report.reading import mapping, number, text
from downslope.report.run_data import RunData
from downslope.report.sections import descent, machine, price, verdict
from downslope.report.words import MINUS, NO_VALUE, TIMES, cell, cut, label


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One key figure: its name, its value in a run, and how the value is shown."""

    name: str
    value: Callable[[RunData], float | None]
    show: Callable[[float], str] = short


def comparison(runs: Sequence[RunData]) -> list[PageSection]:
    """The parts of the page that compares runs."""
    names = labels(runs)
    return [
        PageSection(
            name="verdict",
            title="Side by side",
            lead=_lead(runs, names),
            blocks=(key_figures(runs, names), settings(runs, names)),
        ),
        PageSection(
            name="descent",
            title="The descents",
            lead="The loss on rows kept out of training, with its interval.",
            blocks=tuple(held_chart(runs, names, over) for over in ("time", "examples")),
        ),
        PageSection(
            name="decisions",
            title="Decisions that differ",
            lead="What one run chose and another did not, by knob and value.",
            blocks=tuple(decided(runs, names)),
        ),
    ]


def labels(runs: Sequence[RunData]) -> list[str]:
    """A name for each run, numbered where two folders have the same."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{i} {name}" for i, name in enumerate(names, start=1)]


def _held(run: RunData) -> Estimate:
    return run.score("loss")[1]


def _lead(runs: Sequence[RunData], names: Sequence[str]) -> str:
    parts = ["All were trained on the same data."]
    if len({str(run.asked.get("data")) for run in runs}) > 1:
        parts = ["They were trained on different data, so their losses may not be comparable."]
    losses = [(loss, i) for i, run in enumerate(runs) if (loss := _held(run)).is_measured]
    if len(losses) > 1:
        (best, i), *others = sorted(losses, key=lambda each: float(each[0]))
        apart = best.hi is not None and all(
            other.lo is not None and best.hi < other.lo for other, _ in others
        )
        tail = "" if apart else ", though the intervals overlap"
        parts.append(f"{cut(names[i])} has the lowest held-out loss, {short(float(best))}{tail}.")
    going = [cut(name) for name, run in zip(names, runs, strict=True) if not run.is_over]
    if going:
        parts.append(f"Not ended yet: {', '.join(going)}.")
    return " ".join(parts)


def _metric(name: str) -> Callable[[RunData], float | None]:
    return lambda run: number(mapping(run.result.get("validation")).get(name))


def _result(name: str) -> Callable[[RunData], float | None]:
    return lambda run: number(run.result.get(name))


def _noise_scale(run: RunData) -> float | None:
    found = readings(run)
    return found[-1].scale.value if found else None


FIGURES = (
    Figure(name="held-out loss", value=lambda run: _held(run).value),
    Figure(name="accuracy", value=_metric("accuracy"), show=percent),
    Figure(name="auc", value=_metric("auc")),
    Figure(name="rmse", value=_metric("rmse")),
    Figure(name="quantile loss", value=_metric("quantile_loss")),
    Figure(name="r2", value=_metric("r2")),
    Figure(name="training loss", value=_result("train_loss")),
    Figure(name="time", value=lambda run: run.seconds, show=spoken),
    Figure(name="steps", value=lambda run: run.num_steps),
    Figure(name="examples", value=_result("num_examples")),
    Figure(name="batch size at the end", value=lambda run: run.course.batch_size(run.num_steps)),
    Figure(name="learning rate at the end", value=_result("learning_rate")),
    Figure(name="noise scale in the optimizer's metric, examples", value=_noise_scale),
    Figure(name="examples spent beyond need", show=percent,
           value=lambda run: (price.whole_share(run) or (None,))[0]),
    Figure(name="waiting for data", value=machine.waiting_share, show=percent),
)  # fmt: skip


def key_figures(runs: Sequence[RunData], names: Sequence[str]) -> CellTable:
    """Each figure by run, with its difference to that of the first run."""
    rows: list[tuple[Any, ...]] = []
    for figure in FIGURES:
        values = [figure.value(run) for run in runs]
        if all(value is None for value in values):
            continue
        shown = [NO_VALUE if value is None else figure.show(value) for value in values]
        if figure.name == "held-out loss":
            shown = [str(_held(run)) for run in runs]
        rest = [words + _against(value, values[0])
                for words, value in zip(shown[1:], values[1:], strict=True)]  # fmt: skip
        rows.append((figure.name, shown[0], *rest))
    ends = [text(r.result.get("stop_reason")) if r.is_over else "under way" for r in runs]
    rows.append(("ended", *ends))
    rows.append(("what", *map(verdict.trained, runs)))
    head = ("figure", *(cut(name, 40) for name in names))
    note = "In square brackets: the difference to the first run."
    return CellTable(caption="Key figures", head=head, rows=tuple(rows), note=note)


def _against(value: float | None, first: float | None) -> str:
    """The difference to the first run, in per cent of it."""
    if value is None or not first:
        return ""
    change = (value - first) / abs(first)
    if abs(change) < 5e-4:
        return " [same]"
    if abs(change) >= 9:
        return f" [{TIMES}{short(value / first)}]"
    return f" [{'+' if change > 0 else MINUS}{percent(abs(change))}]"


def settings(runs: Sequence[RunData], names: Sequence[str]) -> CellTable | Gap:
    """The settings asked for that are not the same in all runs."""
    rows = []
    for part in ([mapping(run.metadata.get("options")) for run in runs],
                 [run.training for run in runs]):  # fmt: skip
        for key in sorted({key for one in part for key in one}):
            values = [cell(one.get(key)) for one in part]
            if len(set(values)) > 1:
                rows.append((cut(key), *values))
    if not rows:
        return Gap(title="Settings", reason="they are the same for all runs")
    head = ("setting", *(cut(name, 40) for name in names))
    return CellTable(caption="Settings that differ", head=head, rows=tuple(rows))


def held_chart(runs: Sequence[RunData], names: Sequence[str], over: str) -> Chart | Gap:
    """The held-out losses of all runs in one chart."""
    title = f"Held-out loss over {over}"
    found = [(name, held) for name, run in zip(names, runs, strict=True)
             if (held := descent.held_out(run, over))]  # fmt: skip
    if not found:
        return Gap(title=title, reason="no run has a held-out loss yet")

    def draw(ax: Any) -> None:
        styles = dict(zip(names, drawing.STYLES * 2, strict=False))
        for name, held in found:
            descent.draw_held(ax, held, *styles[name], label=label(name))
        ax.set(xlabel=descent.OVER[over], ylabel="held-out loss")

    name, best = min(
        ((name, h) for name, held in found for h in held), key=lambda each: each[1].value
    )
    rows = [(cut(name), h.at, h.value, h.lo, h.hi) for name, held in found for h in held]
    return Chart(
        name=f"held-over-{over}", title=title, draw=draw,
        reading=f"The lowest loss, {short(best.value)}, is that of {cut(name)} after "
                f"{descent.distance(best.at, over)}.",
        height=0.68 + 0.09 * max(0, (len(runs) + 1) // 2 - 1),
        table=thinned(("run", descent.OVER[over], "held-out loss", "from", "to"), rows),
    )  # fmt: skip


def decided(runs: Sequence[RunData], names: Sequence[str]) -> list[Block]:
    """By run, the decisions that not all runs made."""
    made = [descent.decided(run) for run in runs]
    common = set.intersection(*(set(map(descent.change, one)) for one in made))
    blocks: list[Block] = []
    for name, one in zip(names, made, strict=True):
        if own := [record for record in one if descent.change(record) not in common]:
            notes = descent.list_decisions(cut(name), own)
            blocks.append(dataclasses.replace(notes, is_folded=len(notes.items) > 12))
        else:
            blocks.append(Gap(title=cut(name), reason="it decided nothing that the others did not"))
    return blocks
