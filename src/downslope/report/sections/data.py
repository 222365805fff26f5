"""The data: checks, columns by importance, calibration or residuals, noisy rows, confusions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from downslope.estimate import Estimate, counted, percent, short
from downslope.report import drawing
from downslope.report.blocks import (
    NOT_RECORDED,
    Block,
    Gap,
    Grid,
    Notes,
    SectionPlan,
    Shown,
    chart,
    thinned,
    why_not,
)
from downslope.report.reading import Record, estimate, listing, mapping, number, numbers, text
from downslope.report.run_data import RunData
from downslope.report.words import cut, label, sentence

MAX_COLUMNS = 15  # of the chart of importance
MAX_FINDINGS = 40
MISCALIBRATED_LEVEL = 0.01  # of the test of all bins
SMALL_PART = 0.5  # of a column's effect on training rows, that held-out rows have; assumed
FEW_ROWS = 2  # that are no sign of anything
MAX_NOISY_ROWS = 12
MAX_CLASSES = 30
MAX_RESIDUALS = 400
SEVERITIES = ("error", "warning", "note", "fine")


def findings(run: RunData) -> list[Record]:
    """The findings of the checks before training, the worst first."""
    found = [mapping(each) for each in listing((run.find("checks") or {}).get("findings"))]
    ranks = {severity: rank for rank, severity in enumerate(SEVERITIES)}
    return sorted(found, key=lambda each: ranks.get(text(each.get("severity")), len(ranks)))


def statement(finding: Record) -> str:
    """A finding in one sentence."""
    return text(finding.get("statement")) or text(finding.get("sentence"))


def checks(run: RunData) -> Notes | Gap:
    """The findings with their remedies."""
    title = "Checks before training"
    record, found = run.find("checks"), findings(run)
    if not found:
        reason = why_not(record, "they found nothing") if record else NOT_RECORDED
        return Gap(title=title, reason=reason)
    items = []
    for finding in found[:MAX_FINDINGS]:
        severity = text(finding.get("severity"))
        remedy = sentence(text(finding.get("remedy")))
        words = f"{sentence(statement(finding))} {remedy}".strip()
        items.append((severity if severity in SEVERITIES else "", text(finding.get("name")), words))
    more = len(found) - MAX_FINDINGS
    note = f"{more:,} more are in the journal." if more > 0 else ""
    return Notes(title=title, items=tuple(items), note=note)


def columns(run: RunData) -> list[tuple[str, Estimate]]:
    """Columns with their importance, the largest first."""
    given = map(mapping, listing((run.find("importance") or {}).get("columns")))
    found = [(str(each.get("name")), estimate(each)) for each in given]
    return sorted((each for each in found if each[1].is_measured), key=lambda c: -float(c[1]))


def without_effect(found: list[tuple[str, Estimate]]) -> list[str]:
    """Columns whose interval includes 0: permuting them did no visible harm."""
    return [name for name, e in found if e.lo is not None and e.lo <= 0]


def idle_together(run: RunData) -> Estimate:
    """Rise of the loss when all columns without effect are permuted at once."""
    return estimate((run.find("importance") or {}).get("idle_together"))


def memorized(run: RunData) -> list[tuple[str, Estimate, Estimate]]:
    """Columns that matter far more to training rows than to held-out ones, with both rises.

    The model tells training rows apart by such a column: what it learned of them holds for no
    others.
    """
    found = []
    for each in map(mapping, listing((run.find("importance") or {}).get("columns"))):
        held, train = estimate(each), estimate(each.get("train"))
        if held.value is None or held.hi is None or train.value is None or train.lo is None:
            continue
        if train.lo > max(0.0, held.hi) and held.hi < SMALL_PART * train.value:
            found.append((str(each.get("name")), held, train))
    return sorted(found, key=lambda column: float(column[1]) - float(column[2]))


@chart("importance", "Columns by importance")
def importance_chart(run: RunData) -> Shown | str:
    """The rise of the held-out loss when a column's values are permuted."""
    record, found = run.find("importance") or {}, columns(run)
    if not found:
        return why_not(record)
    shown = found[:MAX_COLUMNS]
    unit = text(record.get("unit"))

    def draw(ax: Any) -> None:
        places, values = range(len(shown)), [float(e) for _, e in shown]
        bars = [[0.0 if e.lo is None else max(0.0, float(e) - e.lo) for _, e in shown],
                [0.0 if e.hi is None else max(0.0, e.hi - float(e)) for _, e in shown]]  # fmt: skip
        ax.barh(places, values, color=drawing.BLUE, height=0.62, alpha=0.85)
        ax.errorbar(values, places, xerr=bars, fmt="none", ecolor=drawing.INK, elinewidth=1.1)
        ax.set_yticks(places, [label(name) for name, _ in shown])
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.axvline(0, color=drawing.MUTED, linewidth=0.8)
        ax.set_xlabel(f"rise of the loss{f' ({cut(unit, 20)})' if unit else ''}")

    name, value = found[0]
    reading = f"Without the values of {cut(name, 40)} the held-out loss rises by {value}"
    idle, left_out = len(without_effect(found)), number(record.get("left_out"))
    rest = f"; {idle} of {len(found)} columns make no measurable difference."
    note = f"{counted(left_out, 'column')} were left out for lack of time." if left_out else ""
    rows = [(cut(name), e.value, e.lo, e.hi) for name, e in found]
    reading += rest if idle else f", the most of {len(found)} columns."
    table = thinned(("column", "rise of the loss", "from", "to"), rows, note=note)
    return Shown(reading, table, draw, height=max(0.4, 0.2 + 0.068 * len(shown)))


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows of similar prediction: mean prediction, observed share with its interval, rows."""

    predicted: float
    observed: float
    lo: float
    hi: float
    num_rows: int

    @property
    def sentence(self) -> str:
        """Predicted and observed in words, without a full stop."""
        return (
            f"where {percent(self.predicted)} were predicted, {percent(self.observed)} "
            f"({percent(self.lo)} to {percent(self.hi)}) were observed"
        )


def calibration_bins(run: RunData) -> list[Bin]:
    """The bins of the calibration."""
    found = []
    for each in map(mapping, listing((run.find("calibration") or {}).get("bins"))):
        x, y = number(each.get("predicted")), number(each.get("observed"))
        if x is not None and y is not None:
            lo, hi = number(each.get("lo")), number(each.get("hi"))
            count = int(number(each.get("count")) or 0)
            found.append(Bin(predicted=x, observed=y, lo=y if lo is None else lo,
                             hi=y if hi is None else hi, num_rows=count))  # fmt: skip
    return found


def is_miscalibrated(run: RunData) -> bool:
    """True if all bins together differ from their predictions by more than chance allows."""
    p_value = number((run.find("calibration") or {}).get("p_value"))
    return p_value is not None and p_value < MISCALIBRATED_LEVEL


def worst_bin(run: RunData) -> Bin | None:
    """The bin whose prediction lies furthest outside the interval of the observed share."""
    outside = [(max(b.lo - b.predicted, b.predicted - b.hi), b) for b in calibration_bins(run)]
    distance, worst = max(outside, key=lambda each: each[0], default=(0.0, None))
    return worst if distance > 0 else None


@chart("calibration", "Calibration")
def calibration_chart(run: RunData) -> Shown | str:
    """Predicted against observed shares."""
    record, bins = run.find("calibration") or {}, calibration_bins(run)
    if not bins:
        return why_not(record)

    def draw(ax: Any) -> None:
        bars = [[max(0.0, b.observed - b.lo) for b in bins],
                [max(0.0, b.hi - b.observed) for b in bins]]  # fmt: skip
        ax.plot([0, 1], [0, 1], color=drawing.MUTED, linestyle="--", linewidth=1.2,
                label="as predicted")  # fmt: skip
        ax.errorbar([b.predicted for b in bins], [b.observed for b in bins], yerr=bars, fmt="o-",
                    color=drawing.BLUE, elinewidth=1.1, label="observed")  # fmt: skip
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability",
               ylabel="observed share")  # fmt: skip

    of, worst = cut(text(record.get("of")), 60) or "share", worst_bin(run)
    which = "the one bin" if len(bins) == 1 else f"all {len(bins)} bins"
    reading = f"In {which} the predicted {of} lies within the observed interval."
    if worst is not None:
        reading = f"{worst.sentence.capitalize()} ({of}): the worst of {len(bins)} bins."
    rows = [(b.predicted, b.observed, b.lo, b.hi, b.num_rows) for b in bins]
    head = ("predicted", "observed", "from", "to", "rows")
    table = thinned(head, rows, caption=of)
    return Shown(reading, table, draw, height=0.78)


@chart("residuals", "Residuals")
def residual_chart(run: RunData) -> Shown | str:
    """Target less prediction, over the prediction."""
    record = run.find("residuals") or {}
    pairs = zip(numbers(record.get("predicted")), numbers(record.get("residual")), strict=False)
    points = [(x, y) for x, y in pairs if x is not None and y is not None][:MAX_RESIDUALS]
    if not points:
        return why_not(record)
    unit = cut(text(record.get("unit")), 30)
    quantiles = mapping(record.get("quantiles"))
    lo, middle, hi = (number(quantiles.get(name)) for name in ("0.05", "0.5", "0.95"))

    def draw(ax: Any) -> None:
        ax.plot(*zip(*points, strict=True), "o", color=drawing.BLUE, markersize=3.2, alpha=0.55,
                markeredgewidth=0)  # fmt: skip
        ax.axhline(0, color=drawing.MUTED, linewidth=1)
        for value in (lo, hi):
            if value is not None:
                ax.axhline(value, color=drawing.RED, linewidth=1.2, linestyle="--")
        xlabel = f"predicted{f' ({unit})' if unit else ''}"
        ax.set(xlabel=xlabel, ylabel="target less prediction")

    reading = f"{counted(len(points), 'held-out row')} are shown."
    if lo is not None and hi is not None:
        half = f"; half of them lie above {short(middle)}" if middle is not None else ""
        reading = (
            f"Nine rows in ten lie {short(lo)} to {short(hi)} {unit} from the prediction "
            f"(dashed lines){half}."
        )
    table = thinned(("predicted", "target less prediction"), sorted(points))
    return Shown(reading, table, draw, height=0.72)


def top_share(run: RunData) -> float | None:
    """Share of the gradient's noise that one row in a hundred carries."""
    shares = mapping((run.find("noisy_rows") or {}).get("top_share"))
    return number(shares.get("one_percent"))


def holds_what_is_expected(run: RunData) -> bool:
    """True for classes of which no more are all but impossible than the model expects itself."""
    record = mapping((run.find("noisy_rows") or {}).get("surprise"))
    seen, expected = number(record.get("observed")), number(record.get("expected"))
    if seen is None or expected is None:
        return False
    return seen <= expected + 3 * math.sqrt(expected) + FEW_ROWS


def noisy_rows(run: RunData) -> Notes | Gap:
    """The rows that carry most of the gradient's noise."""
    title = "Rows that carry the noise"
    record = run.find("noisy_rows") or {}
    items = []
    for each in map(mapping, listing(record.get("rows"))[:MAX_NOISY_ROWS]):
        row, share = number(each.get("row")), number(each.get("share"))
        if row is not None and share is not None:
            items.append(("", f"row {row:,.0f}", f"{percent(share)} of the noise"))
    if not items:
        return Gap(title=title, reason=why_not(record))
    top, count = top_share(run), number(record.get("num_rows"))
    of = f" of the {count:,.0f} examined" if count else ""
    note = f"One row in a hundred{of} carries {percent(top)} of it." if top is not None else ""
    return Notes(title=title, items=tuple(items), note=note, is_broad=False)


def confusion(run: RunData) -> Grid | Gap:
    """Counts of predicted classes by true class."""
    title = "Which classes are taken for which"
    record = run.find("confusion") or {}
    names = tuple(cut(each, 40) for each in listing(record.get("classes"))[:MAX_CLASSES])
    rows = [numbers(row)[: len(names)] for row in listing(record.get("counts"))[: len(names)]]
    if not names or len(rows) != len(names) or any(len(row) != len(names) for row in rows):
        return Gap(title=title, reason=why_not(record))
    counts = tuple(tuple(int(n or 0) for n in row) for row in rows)
    right = sum(row[i] for i, row in enumerate(counts))
    total = counted(sum(map(sum, counts)), "row")
    reading = f"{right:,} of {total} are on the diagonal, where the class is right."
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j]
    most, i, j = max(wrong, key=lambda each: each[0], default=(0, 0, 0))
    if most:
        reading += (
            f" The most common mistake: {counted(most, 'row')} of {names[i]} taken for "
            f"{names[j]}, {percent(most / max(sum(counts[i]), 1))} of that class."
        )
    left_out = number(record.get("left_out"))
    note = f"{left_out:,.0f} smaller classes are left out." if left_out else ""
    return Grid(title=title, reading=reading, names=names, counts=counts, note=note)


def _if_task(task: str, event: str, make: Any) -> Any:
    """The block, unless the run had another task and no such record."""

    def block(run: RunData) -> Block | None:
        asked = text(run.metadata.get("task")) or task
        return make(run) if asked == task or run.find(event) else None

    return block


PLAN = SectionPlan(
    title="The data",
    lead="What the checks found in the table before training, and where the trained model is "
    "right and wrong.",
    blocks=(
        checks,
        importance_chart,
        _if_task("classify", "calibration", calibration_chart),
        _if_task("regress", "residuals", residual_chart),
        noisy_rows,
        _if_task("classify", "confusion", confusion),
    ),
)
