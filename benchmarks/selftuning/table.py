"""The tables of the benchmark, and which bars are met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.report import Row
from benchmarks.selftuning import score
from benchmarks.selftuning.records import Record
from benchmarks.selftuning.rivals import DOWNSLOPE
from benchmarks.selftuning.targets import Search
from downslope.estimate import short

LEAST_SCORE = 0.85
LONG_SECONDS, LONG_RATIO, SHORT_RATIO, WORST_RATIO = 20.0, 1.25, 1.6, 2.5
MISSED_SEEDS = 1
TRANSFORMER, TRANSFORMER_LOSS = "transformer", 0.03  # nats above the hand-tuned loss
SPENT_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class Results:
    """Records and targets of the workloads that have both.

    Attributes:
        records: of every rival, one of each workload and seed.
        searches: of the targets, by workload.
        asked: workloads to count, in their order; by default all that have a target.
    """

    records: Sequence[Record]
    searches: dict[str, Search]
    asked: Sequence[str] | None = None

    @property
    def workloads(self) -> list[str]:
        """Workloads with a target and a run."""
        seen = dict.fromkeys(record.workload for record in self.records)
        names = seen if self.asked is None else self.asked
        return [w for w in names if w in seen and self.target(w) is not None]

    def target(self, workload: str) -> float | None:
        """Target of a workload."""
        found = self.searches.get(workload)
        return None if found is None else found.target

    @property
    def times(self) -> dict[str, dict[str, list[float]]]:
        """Seconds to the target by rival, workload and seed."""
        found: dict[str, dict[str, list[float]]] = {}
        for record in sorted(self.records, key=lambda r: r.seed):
            target = self.target(record.workload)
            if target is not None and record.workload in self.workloads:
                of_rival = found.setdefault(record.rival, {})
                of_rival.setdefault(record.workload, []).append(record.reach(target))
        return found

    def oracle(self, workload: str) -> float:
        """Median seconds of the oracle to the target."""
        target = self.target(workload)
        assert target is not None
        return median(record.reach(target) for record in self.searches[workload].runs)

    def complete(self) -> dict[str, dict[str, list[float]]]:
        """Times of the rivals that ran on every workload."""
        return {r: t for r, t in self.times.items() if set(t) >= set(self.workloads)}

    def to_oracle(self, rival: str) -> dict[str, float]:
        """Median times of a rival over the oracle's."""
        found = score.medians(self.times).get(rival, {})
        return {w: found[w] / self.oracle(w) for w in self.workloads if w in found}


def latest(records: Sequence[Record], versions: dict[str, str]) -> list[Record]:
    """Records of these versions of the rivals; where none is given, of the last one recorded."""
    wanted = {r.rival: r.version for r in records} | versions
    return [r for r in records if r.version == wanted[r.rival]]


def standings(results: Results) -> str:
    """Scores of the rivals that ran on every workload, the best first, as markdown."""
    times, workloads = results.complete(), results.workloads
    found = score.scores(times, workloads)
    lines = [
        "| method | score | targets missed | seeds | time over the oracle's, median "
        "| p: downslope is no faster (signed rank, sign flip) |",
        "|---|---|---|---|---|---|",
    ]
    for rival in sorted(found, key=lambda r: -found[r]):
        missed = sum(score.misses(times[rival][w]) for w in workloads)
        runs = sum(len(times[rival][w]) for w in workloads)
        against = list(results.to_oracle(rival).values())
        tests = ""
        if rival != DOWNSLOPE and DOWNSLOPE in found:
            ranked, flips = score.above(times, DOWNSLOPE, rival, workloads)
            tests = f"{ranked:.2g}, {flips:.2g}"
        seeds = max(len(times[rival][w]) for w in workloads)
        lines.append(
            f"| {rival} | {found[rival]:.3f} | {missed} of {runs} | {seeds} "
            f"| {_number(median(against))} | {tests} |"
        )
    return "\n".join(lines)


def by_workload(results: Results) -> str:
    """Median seconds to the target, with the missed seeds, by workload and rival, as markdown."""
    times = results.times
    rivals = sorted(times, key=lambda r: (r != DOWNSLOPE, r))
    lines = [
        "| workload | horizon, s | target | oracle, s | " + " | ".join(rivals) + " |",
        "|---|---|---|---|" + "---|" * len(rivals),
    ]
    for workload in results.workloads:
        cells = [_seconds(times[rival].get(workload, [])) for rival in rivals]
        search = results.searches[workload]
        lines.append(
            f"| {workload} | {search.horizon_seconds:g} | {search.target:.4g} "
            f"| {_number(results.oracle(workload))} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def without_target(results: Results) -> str:
    """Final test losses on workloads whose target is not searched for yet, a line each."""
    lines = []
    known = set(results.workloads)
    names = dict.fromkeys(r.workload for r in results.records if r.workload not in known)
    for workload in names:
        found: dict[str, list[float]] = {}
        for record in results.records:
            if record.workload == workload:
                found.setdefault(record.rival, []).append(record.final_loss)
        losses = (f"{rival} {median(values):.4g}" for rival, values in found.items())
        lines.append(f"{workload}, no target yet, final test loss: {', '.join(losses)}")
    return "\n".join(lines)


def branches(results: Results) -> str:
    """Predicted against branched critical batch sizes of every branch, as markdown.

    The line below counts all branches, and those of which both sides are known or bounded.
    """
    lines = [
        "| workload | seed | at, s | sizes | predicted critical batch | branched |",
        "|---|---|---|---|---|---|",
    ]
    near = overlapping = valued = bounded = number = 0
    for record in results.records:
        for each in record.notes.get("decisions", []):
            if record.rival != DOWNSLOPE or "branched" not in each:
                continue
            number += 1
            predicted, branched = each["predicted"], each["branched"]
            lines.append(
                f"| {record.workload} | {record.seed} | {each['seconds']:g} | {each['candidate']} "
                f"proposed, {each['new']} kept | {ends_text(predicted)} | {ends_text(branched)} |"
            )
            if predicted[0] is not None and branched[0] is not None:
                valued += 1
                near += max(predicted[0], branched[0]) <= 2 * min(predicted[0], branched[0])
            if any(end is not None for end in predicted) and any(e is not None for e in branched):
                bounded += 1
                least = max(lower_end(predicted), lower_end(branched))
                overlapping += least <= min(upper_end(predicted), upper_end(branched))
    told = (
        f"{number} branches; {valued} with two values, {near} of them within a factor of 2; "
        f"{bounded} with values or bounds, of which {overlapping} overlap"
    )
    return "\n".join([*lines, "", told]) if number else ""


def lower_end(found: Sequence[float | None]) -> float:
    """Lower end of (value, lo, hi), 0 if unknown."""
    return 0.0 if found[1] is None else found[1]


def upper_end(found: Sequence[float | None]) -> float:
    """Upper end of (value, lo, hi), infinite if unknown."""
    return math.inf if found[2] is None else found[2]


def ends_text(found: Sequence[float | None]) -> str:
    """A value with its interval, or its bounds, for people."""
    value, lo, hi = found
    if value is None:
        bounds = ((lo, "at least"), (hi, "at most"))
        return ", ".join(f"{word} {short(end)}" for end, word in bounds if end is not None)
    return f"{short(value)} ({short(lower_end(found))} to {'any' if hi is None else short(hi)})"


def _seconds(seconds: Sequence[float]) -> str:
    if not seconds:
        return ""
    missed = score.misses(seconds)
    if missed == len(seconds):
        return "missed"
    return _number(median(seconds)) + (f" ({missed} of {len(seconds)} missed)" if missed else "")


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "missed"


@dataclass(kw_only=True)
class _Bars:
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, ours: str, bar: str, met: bool | None, peer: str = "") -> None:
        self.rows.append(Row(what=what, ours=ours, peer=peer, bar=bar, met=met))


def bars(results: Results) -> list[Row]:
    """Bars and whether they are met; None where nothing was measured."""
    found, times = _Bars(), results.complete()
    if DOWNSLOPE not in times or not results.workloads:
        return []
    order = score.scores(times, results.workloads)
    ours = order.pop(DOWNSLOPE)
    best = max(order, key=lambda rival: order[rival], default=None)
    peer = "" if best is None else f"{best} {order[best]:.3f}"
    above = None if best is None else ours > order[best]
    found.add("score of the performance profile", f"{ours:.3f}", "above all rivals", above, peer)
    found.add("the same", f"{ours:.3f}", f"at least {LEAST_SCORE}", ours >= LEAST_SCORE)
    worst = max(results.workloads, key=lambda w: score.misses(times[DOWNSLOPE][w]))
    missed = score.misses(times[DOWNSLOPE][worst])
    found.add(
        f"seeds that miss the target, at most ({worst})", str(missed),
        f"{MISSED_SEEDS} a workload", missed <= MISSED_SEEDS,
    )  # fmt: skip
    _ratio_bars(found, results)
    _transformer_bar(found, results)
    _spent_bar(found, results)
    return found.rows


def _ratio_bars(found: _Bars, results: Results) -> None:
    ratios = results.to_oracle(DOWNSLOPE)
    is_long = {w: results.searches[w].horizon_seconds > LONG_SECONDS for w in ratios}
    for what, bound, wanted in (
        (f"time over the oracle's, median of those above {LONG_SECONDS:g} s", LONG_RATIO, True),
        (f"time over the oracle's, median of those up to {LONG_SECONDS:g} s", SHORT_RATIO, False),
    ):
        values = [ratios[w] for w in ratios if is_long[w] is wanted]
        if values:
            middle = median(values)
            found.add(what, _number(middle), f"at most {bound:g}", middle <= bound)
    if ratios:
        worst = max(ratios, key=lambda w: ratios[w])
        found.add(
            f"time over the oracle's, at worst ({worst})", _number(ratios[worst]),
            f"at most {WORST_RATIO:g}", ratios[worst] <= WORST_RATIO,
        )  # fmt: skip


def _transformer_bar(found: _Bars, results: Results) -> None:
    search = results.searches.get(TRANSFORMER)
    ends = [r.final_loss for r in results.records
            if r.rival == DOWNSLOPE and r.workload == TRANSFORMER]  # fmt: skip
    if search is None or not search.whole or not ends:
        return
    hand = median(record.final_loss for record in search.whole)
    apart = median(ends) - hand
    found.add(
        f"{TRANSFORMER}, loss at the end over the hand-tuned one", f"{apart:+.3f} nats",
        f"at most {TRANSFORMER_LOSS:g}", apart <= TRANSFORMER_LOSS, f"{hand:.3f}",
    )  # fmt: skip


def _spent_bar(found: _Bars, results: Results) -> None:
    """Share of the time for search, evaluation and measuring, of runs that chose for themselves."""
    shares = [
        sum(r.notes["spent"].get(name, 0.0) for name in ("search", "evaluation", "measuring"))
        for r in results.records
        if r.rival == DOWNSLOPE and "spent" in r.notes
    ]
    if shares:
        most = max(shares)
        found.add(
            "share of the time for search, evaluation and measuring, at most", f"{most:.1%}",
            f"at most {SPENT_SHARE:.0%}", most <= SPENT_SHARE,
        )  # fmt: skip
