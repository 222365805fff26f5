"""The data: checks, rows that carry the noise, columns by importance, errors by kind."""

from __future__ import annotations

from typing import Any

from downslope.estimate import Estimate
from downslope.report import drawing
from downslope.report.blocks import Block, Chart, Gap, Grid, Notes, Section, Table, thinned
from downslope.report.reading import (
    Record,
    estimate,
    listing,
    mapping,
    number,
    numbers,
    text,
)
from downslope.report.run_data import RunData
from downslope.report.words import cell, counted, cut, label, percent, sentence, short

MOST_COLUMNS = 15  # of the chart of importance
MOST_FINDINGS = 40
MOST_NOISY = 12
MOST_CLASSES = 30
NOT_LOOKED_AT = "not looked at: the journal has no such record"
SEVERITIES = ("error", "warning", "note", "fine")


def section(run: RunData) -> Section:
    """The part of the page."""
    task = text(mapping(run.asked.get("metadata")).get("task"))
    blocks: list[Block] = [checks(run), importance_chart(run)]
    if task != "regress" or run.find("calibration"):
        blocks.append(calibration_chart(run))
    if task != "classify" or run.find("residuals"):
        blocks.append(residual_chart(run))
    blocks.append(noisy_rows(run))
    if task != "regress" or run.find("confusion"):
        blocks.append(confusion(run))
    return Section(
        name="data",
        title="The data",
        lead="What was found in the table before training, and where the trained model is right "
        "and wrong.",
        blocks=tuple(blocks),
    )


def findings(run: RunData) -> list[Record]:
    """What the checks found before training, the worst first."""
    found = [mapping(each) for each in listing((run.find("checks") or {}).get("findings"))]

    def rank(finding: Record) -> int:
        severity = finding.get("severity")
        return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)

    return sorted(found, key=rank)


def said(finding: Record) -> str:
    """A finding in one sentence."""
    return text(finding.get("statement")) or text(finding.get("sentence"))


def checks(run: RunData) -> Notes | Gap:
    """The findings with their remedies."""
    title = "Checks before training"
    found = findings(run)
    if not found:
        record = run.find("checks")
        nothing = "nothing was found to worry about" if record is not None else NOT_LOOKED_AT
        return Gap(title=title, reason=text((record or {}).get("reason")) or nothing)
    items = []
    for finding in found[:MOST_FINDINGS]:
        severity = text(finding.get("severity"))
        remedy = sentence(text(finding.get("remedy")))
        words = f"{sentence(said(finding))} {remedy}".strip()
        items.append((severity if severity in SEVERITIES else "", text(finding.get("name")), words))
    more = len(found) - MOST_FINDINGS
    note = f"{more:,} more are in the journal." if more > 0 else ""
    return Notes(title=title, items=tuple(items), note=note)


def columns(run: RunData) -> list[tuple[str, Estimate]]:
    """Columns with their importance, the largest first."""
    found = []
    for each in map(mapping, listing((run.find("importance") or {}).get("columns"))):
        value = estimate(each)
        if value.value is not None:
            found.append((str(each.get("name")), value))
    return sorted(found, key=lambda column: -(column[1].value or 0.0))


def importance_chart(run: RunData) -> Chart | Gap:
    """The rise of the held-out loss when a column's values are permuted."""
    title = "Columns by importance"
    record, found = run.find("importance") or {}, columns(run)
    if not found:
        return Gap(title=title, reason=text(record.get("reason")) or NOT_LOOKED_AT)
    shown = found[:MOST_COLUMNS]

    def draw(ax: Any) -> None:
        places = list(range(len(shown)))
        values = [e.value or 0.0 for _, e in shown]
        reach = [[max(0.0, v - e.lo) if e.lo is not None else 0.0
                  for v, (_, e) in zip(values, shown, strict=True)],
                 [max(0.0, e.hi - v) if e.hi is not None else 0.0
                  for v, (_, e) in zip(values, shown, strict=True)]]  # fmt: skip
        ax.barh(places, values, color=drawing.BLUE, height=0.62, alpha=0.85)
        ax.errorbar(values, places, xerr=reach, fmt="none", ecolor=drawing.INK, elinewidth=1.1)
        ax.set_yticks(places, [label(name) for name, _ in shown])
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.axvline(0, color=drawing.MUTED, linewidth=0.8)
        unit = text(record.get("unit"))
        ax.set_xlabel(f"rise of the loss{f' ({cut(unit, 20)})' if unit else ''}")

    left_out = number(record.get("left_out"))
    table = thinned(("column", "rise of the loss", "from", "to"),
                    [(cut(name), e.value, e.lo, e.hi) for name, e in found])  # fmt: skip
    if left_out:
        note = f"{counted(left_out, 'column')} were left out for want of time."
        table = Table(head=table.head, rows=table.rows, note=f"{table.note} {note}".strip())
    return Chart(
        name="importance",
        title=title,
        reading=_importance_reading(found),
        table=table,
        draw=draw,
        height=max(0.4, 0.2 + 0.068 * len(shown)),
    )


def without_effect(found: list[tuple[str, Estimate]]) -> list[str]:
    """Columns whose interval has 0 or less in it: permuting them did no visible harm."""
    return [name for name, e in found if e.lo is not None and e.lo <= 0]


def _importance_reading(found: list[tuple[str, Estimate]]) -> str:
    name, value = found[0]
    words = f"Without the values of {cut(name, 40)} the held-out loss rises by {value}"
    none = len(without_effect(found))
    if none:
        return f"{words}; {none} of {len(found)} columns make no difference that can be told."
    return f"{words}, the most of {len(found)} columns."


def calibration_bins(run: RunData) -> list[tuple[float, float, float, float, int]]:
    """(predicted, observed, from, to, rows) of each bin."""
    found = []
    for each in map(mapping, listing((run.find("calibration") or {}).get("bins"))):
        x, y = number(each.get("predicted")), number(each.get("observed"))
        if x is not None and y is not None:
            lo, hi = number(each.get("lo")), number(each.get("hi"))
            count = int(number(each.get("count")) or 0)
            found.append((x, y, y if lo is None else lo, y if hi is None else hi, count))
    return found


def worst_bin(run: RunData) -> tuple[float, float, float, float, int] | None:
    """The bin whose predicted share lies furthest outside the observed one's interval."""
    outside = [(max(b[2] - b[0], b[0] - b[3]), b) for b in calibration_bins(run)]
    outside = [(distance, each) for distance, each in outside if distance > 0]
    return max(outside)[1] if outside else None


def calibration_chart(run: RunData) -> Chart | Gap:
    """Predicted against observed shares."""
    title = "Calibration"
    record, bins = run.find("calibration") or {}, calibration_bins(run)
    if not bins:
        return Gap(title=title, reason=text(record.get("reason")) or NOT_LOOKED_AT)

    def draw(ax: Any) -> None:
        xs, ys = [b[0] for b in bins], [b[1] for b in bins]
        reach = [[max(0.0, b[1] - b[2]) for b in bins], [max(0.0, b[3] - b[1]) for b in bins]]
        ax.plot([0, 1], [0, 1], color=drawing.MUTED, linestyle="--", linewidth=1.2,
                label="as predicted")  # fmt: skip
        ax.errorbar(xs, ys, yerr=reach, fmt="o-", color=drawing.BLUE, elinewidth=1.1,
                    label="observed")  # fmt: skip
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlabel("predicted probability")
        ax.set_ylabel("observed share")
        drawing.legend(ax)

    far = worst_bin(run)
    if far is None:
        which = "the one bin" if len(bins) == 1 else f"all {len(bins)} bins"
        reading = f"In {which} the predicted share lies within the observed interval."
    else:
        reading = (
            f"Where {percent(far[0])} were predicted, {percent(far[1])} ({percent(far[2])} to "
            f"{percent(far[3])}) were observed: the furthest of {len(bins)} bins."
        )
    of = text(record.get("of"))
    table = thinned(("predicted", "observed", "from", "to", "rows"), bins, caption=cut(of))
    return Chart(
        name="calibration", title=f"{title}: {cut(of, 60)}" if of else title, reading=reading,
        table=table, draw=draw, height=0.78,
    )  # fmt: skip


def residual_chart(run: RunData) -> Chart | Gap:
    """What is left of the target, over the prediction."""
    title = "Residuals"
    record = run.find("residuals") or {}
    pairs = zip(numbers(record.get("predicted")), numbers(record.get("residual")), strict=False)
    points = [(x, y) for x, y in pairs if x is not None and y is not None][:400]
    if not points:
        return Gap(title=title, reason=text(record.get("reason")) or NOT_LOOKED_AT)
    unit = cut(text(record.get("unit")), 30)
    marks = {k: number(v) for k, v in mapping(record.get("quantiles")).items()}
    lo, middle, hi = (marks.get(name) for name in ("0.05", "0.5", "0.95"))

    def draw(ax: Any) -> None:
        ax.plot([x for x, _ in points], [y for _, y in points], "o", color=drawing.BLUE,
                markersize=3.2, alpha=0.55, markeredgewidth=0)  # fmt: skip
        ax.axhline(0, color=drawing.MUTED, linewidth=1)
        for value in (lo, hi):
            if value is not None:
                ax.axhline(value, color=drawing.RED, linewidth=1.2, linestyle="--")
        ax.set_xlabel(f"predicted{f' ({unit})' if unit else ''}")
        ax.set_ylabel("target less prediction")

    reading = f"{counted(len(points), 'held-out row')} are shown."
    if lo is not None and hi is not None:
        off = f"; half lie above {short(middle)}" if middle is not None else ""
        reading = (
            f"Nine rows in ten lie from {short(lo)} to {short(hi)} {unit} off the prediction"
            f" (dashed lines){off}."
        )
    rows = sorted(points)
    table = thinned(("predicted", "target less prediction"), rows)
    return Chart(
        name="residuals", title=title, reading=reading, table=table, draw=draw, height=0.72
    )


def top_share(run: RunData) -> float | None:
    """Share of the gradient's noise that one row in a hundred carries."""
    shares = mapping((run.find("noisy_rows") or {}).get("top_share"))
    return number(shares.get("one_percent"))


def noisy_rows(run: RunData) -> Notes | Gap:
    """The rows that carry most of the gradient's noise."""
    title = "Rows that carry the noise"
    record = run.find("noisy_rows") or {}
    rows = []
    for each in map(mapping, listing(record.get("rows"))[:MOST_NOISY]):
        row, share = number(each.get("row")), number(each.get("share"))
        if row is not None and share is not None:
            rows.append(("", f"row {row:,.0f}", f"{percent(share)} of the noise"))
    if not rows:
        return Gap(title=title, reason=text(record.get("reason")) or NOT_LOOKED_AT)
    top, count = top_share(run), number(record.get("num_rows"))
    of = f" of the {count:,.0f} looked at" if count else ""
    words = f"One row in a hundred{of} carries {percent(top)} of it." if top is not None else ""
    return Notes(title=title, items=tuple(rows), note=words, is_broad=False)


def confusion(run: RunData) -> Grid | Gap:
    """How often each true class was predicted as each."""
    title = "Which classes are taken for which"
    record = run.find("confusion") or {}
    names = tuple(cut(each, 40) for each in listing(record.get("classes"))[:MOST_CLASSES])
    rows = [numbers(row)[: len(names)] for row in listing(record.get("counts"))[: len(names)]]
    if not names or len(rows) != len(names) or any(len(row) != len(names) for row in rows):
        return Gap(title=title, reason=text(record.get("reason")) or NOT_LOOKED_AT)
    counts = tuple(tuple(int(n or 0) for n in row) for row in rows)
    total, right = sum(map(sum, counts)), sum(counts[i][i] for i in range(len(names)))
    wrong = [(counts[i][j], i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    reading = (
        f"{right:,} of {counted(total, 'row')} stand on the diagonal, where the class is right."
    )
    if wrong and max(wrong)[0]:
        most, i, j = max(wrong, key=lambda each: each[0])
        of = sum(counts[i])
        reading += (
            f" The commonest mistake: {counted(most, 'row')} of {names[i]} taken for {names[j]}, "
            f"{percent(most / max(of, 1))} of that class."
        )
    left = number(record.get("left_out"))
    note = f"{cell(int(left))} smaller classes are left out." if left else ""
    return Grid(title=title, reading=reading, names=names, counts=counts, note=note)
