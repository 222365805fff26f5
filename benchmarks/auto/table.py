"""Results table, and the bars that are met."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median

from benchmarks.auto import peers
from benchmarks.auto.grid import ALLOWANCE, FASTEST, LOWEST
from benchmarks.auto.study import LARGE_SECONDS, Study
from benchmarks.report import Row

LARGE_BAR, SMALL_BAR, WORST_BAR = 1.25, 1.6, 2.5
ADAM_BAR = 3.0
LOSS_BAR = 1.01
COST_BAR = 1 / 20
STEP_BAR = 0.1


def ratios(study: Study, *, compiling: bool) -> list[float]:
    """Auto's time to the target over the oracle's, by seed; infinite if it was not reached."""
    found = []
    for seed, trace in study.auto.items():
        oracle, point = study.oracle_seconds(seed, compiling=compiling), trace.reach(study.target)
        if oracle is None:
            continue  # no run reached it: there is no time to compare with
        if point is None:
            found.append(math.inf)
        else:
            found.append((point.seconds if compiling else point.training) / oracle)
    return found


def peer_ratio(study: Study, name: str, seed: str) -> tuple[float, bool] | None:
    """A peer's time over the oracle's, and whether it reached the target.

    If it did not, its time limit: the ratio is above that.
    """
    trace = study.peers.get(name, {}).get(seed)
    clock = study.is_large
    oracle = study.oracle_seconds(seed, compiling=clock)
    if trace is None or oracle is None:
        return None
    point = trace.reach(study.target)
    if point is not None:
        return (point.seconds if clock else point.training) / oracle, True
    return (trace.seconds - (0 if clock else trace.compiling)) / oracle, False


def adam_gains(study: Study) -> list[float]:
    """Speed-up of auto over Adam's default, by seed; a lower bound if Adam missed the target."""
    found = []
    own = dict(zip(_with_oracle(study), ratios(study, compiling=study.is_large), strict=True))
    for seed, ratio in own.items():
        adam = peer_ratio(study, peers.ADAM, seed)
        if adam is not None:
            found.append(adam[0] / ratio)
    return found


def _with_oracle(study: Study) -> list[str]:
    return [s for s in study.auto if study.oracle_seconds(s, compiling=False) is not None]


def loss_ratios(study: Study) -> list[float]:
    """Final loss in twice the oracle's time over the grid's best, by seed."""
    finals = [trace.final_loss for trace in study.in_time.values()]
    return [(math.inf if f is None else f) / study.best_loss for f in finals]


def cost_share(study: Study) -> float:
    """Seconds of a whole automatic run over those of the grid, both with compiling."""
    return median(trace.seconds for trace in study.auto.values()) / study.grid_seconds


def markdown(studies: Iterable[Study]) -> str:
    """Both tables: auto with the oracle, and the peers."""
    studies = list(studies)
    heads = ["task", "rows", "target", "oracle", "its time", "auto's time", "ratio with compiling",
             "without", "final loss / grid's best", "cost / grid's"]  # fmt: skip
    lines = [_own_line(study) for study in studies]
    peer_lines = [[study.name, *(_peer_cell(study, n) for n in peers.NAMES)] for study in studies]
    return _table(heads, lines) + "\n\n" + _table(["task", *peers.NAMES], peer_lines)


def _own_line(study: Study) -> list[str]:
    times = [
        (trace.reach(study.target), study.oracle_seconds(seed, compiling=True),
         study.oracle_seconds(seed, compiling=False))
        for seed, trace in study.auto.items()
    ]  # fmt: skip
    first = next((o for s in study.auto if (o := study.oracle(s)) is not None), None)
    return [
        study.name + (" (large)" if study.is_large else ""),
        f"{study.num_rows:,}",
        f"{study.target:.4g}",
        "none" if first is None else first[0].setting,
        _pair([t[1] for t in times], [t[2] for t in times]),
        _pair([t[0] and t[0].seconds for t in times], [t[0] and t[0].training for t in times]),
        _spread(ratios(study, compiling=True)),
        _spread(ratios(study, compiling=False)),
        _spread(loss_ratios(study), digits=3),
        f"1/{1 / cost_share(study):.0f}" if study.auto else "",
    ]


def _pair(compiling: list[float | None], without: list[float | None]) -> str:
    return f"{_seconds(compiling)}, {_seconds(without)}"


def _seconds(values: list[float | None]) -> str:
    known = [math.inf if v is None else v for v in values]
    if not known or math.isinf(median(known)):
        return "not reached"
    return f"{median(known):.3g} s"


def _spread(values: list[float], digits: int = 2) -> str:
    """Median and worst."""
    if not values:
        return "none"
    return " to ".join(_number(v, digits) for v in (median(values), max(values)))


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "not reached"


def _peer_cell(study: Study, name: str) -> str:
    found = [r for s in study.seeds if (r := peer_ratio(study, name, s)) is not None]
    if not found:
        return ""
    value = median(r for r, _ in found)
    return (
        f"{value:.3g}" if all(reached for _, reached in found) else f"not reached (> {value:.3g})"
    )


def _table(heads: list[str], lines: list[list[str]]) -> str:
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(rows + ["| " + " | ".join(line) + " |" for line in lines])


def bars(studies: Iterable[Study]) -> list[Row]:
    """All bars, each met or not."""
    studies = [study for study in studies if study.auto]
    large = [s for s in studies if s.is_large]
    small = [s for s in studies if not s.is_large]
    every = [r for s in studies for r in ratios(s, compiling=s.is_large)]
    reached = [t.reach(s.target) is not None for s in studies for t in s.auto.values()]
    rows = [
        _at_most("larger tasks, median, with compiling", _medians(large, True), LARGE_BAR),
        _at_most("smaller tasks, median, without", _medians(small, False), SMALL_BAR),
        _at_most("worst task and seed", every, WORST_BAR, max),
        Row(what="target reached", ours=f"{sum(reached)} of {len(reached)} runs", bar="all",
            met=all(reached)),
        _gain([g for s in studies for g in adam_gains(s)]),
        _loss([r for s in studies for r in loss_ratios(s)]),
        _cost(studies),
    ]  # fmt: skip
    return [*rows, *_luck(studies), *_foresight(studies)]


def _medians(studies: list[Study], compiling: bool) -> list[float]:
    found = [ratios(study, compiling=compiling) for study in studies]
    return [median(each) for each in found if each]


def _at_most(
    what: str, values: list[float], bar: float, pick: Callable[[list[float]], float] = median
) -> Row:
    if not values:
        return Row(what=what, ours="no such task", bar=f"at most {bar:g}")
    value = pick(values)
    shown = "time to target over the oracle's"
    return Row(what=what, ours=shown, ratio=_number(value), bar=f"at most {bar:g}",
               met=value <= bar)  # fmt: skip


def _gain(gains: list[float]) -> Row:
    what, bar = f"faster than {peers.ADAM}, median", f"at least {ADAM_BAR:g} times"
    if not gains:
        return Row(what=what, ours="not measured", bar=bar)
    value = median(gains)
    ours = "its time over auto's, where it did not reach the target the time it was given"
    return Row(what=what, ours=ours, ratio=value, bar=bar, met=value >= ADAM_BAR)


def _loss(found: list[float]) -> Row:
    what, bar = "final loss in twice the oracle's time", "at most 1.01 of the grid's best"
    if not found:
        return Row(what=what, ours="not measured", bar=bar)
    within = sum(r <= LOSS_BAR for r in found)
    return Row(what=what, ours=f"{within} of {len(found)} runs", ratio=_spread(found, 3), bar=bar,
               met=within == len(found))  # fmt: skip


def _cost(studies: list[Study]) -> Row:
    auto = sum(median(t.seconds for t in study.auto.values()) for study in studies)
    grid = sum(study.grid_seconds for study in studies)
    share = auto / max(grid, 1e-9)
    return Row(what="whole cost, all tasks", ours=f"{auto:.0f} s", peer=f"grid {grid:.0f} s",
               ratio=share, bar="at most 1/20", met=share <= COST_BAR)  # fmt: skip


def _luck(studies: list[Study]) -> list[Row]:
    """Share of other seeds that reach the lowest loss of the first seed, plus 3 %."""
    grids = [
        any(run.best_loss <= ALLOWANCE * s.luckiest_loss for run in runs)
        for s in studies
        for runs in s.full.values()
    ]
    autos = [t.best_loss <= ALLOWANCE * s.luckiest_loss for s in studies for t in s.auto.values()]
    if not grids:
        return []
    return [
        Row(
            what="lowest loss of the grid on its one seed, plus 3 %",
            ours=f"reached in {sum(autos)} of {len(autos)} runs",
            peer=f"the grid's best settings reach it on {sum(grids)} of {len(grids)} other seeds",
        )
    ]


def _foresight(studies: list[Study]) -> list[Row]:
    steps = [abs(e) for s in studies for e in (s.step_errors or {}).values()]
    times = [r for s in studies for r in (s.time_ratios or {}).values()]
    rows = []
    if steps:
        rows.append(
            Row(what="step time at batch sizes not fitted", ours=f"{len(steps)} sizes",
                ratio=f"{median(steps):.1%} off, worst {max(steps):.0%}", bar="median under 10 %",
                met=median(steps) < STEP_BAR)
        )  # fmt: skip
    if times:
        rows.append(
            Row(what="time to target at batch sizes not fitted", ours=f"{len(times)} sizes",
                ratio=f"predicted over measured {median(times):.2f} "
                f"({min(times):.2f} to {max(times):.2f})")
        )  # fmt: skip
    return rows


NOTES = (
    "Times are medians of the seeds; ratios are median to worst of the seeds, each against the "
    f"oracle of its own seed; (large): the oracle takes over {LARGE_SECONDS:g} s without "
    "compiling.",
    f"The whole grid ran on one seed, its {LOWEST} settings of lowest loss to their end on the "
    "others. The target is the lowest held-out loss that one setting reaches on every seed, plus "
    f"3 %. The {FASTEST} settings that were fastest to it ran again on every seed, and the "
    "fastest run is that seed's oracle.",
    "Runs of the grid that were far behind ended early, and its programs were compiled once: its "
    "cost is understated; runs on other seeds are not counted in it.",
    "Peers: time to the target over the oracle's, with compiling on large tasks. Adam at 1e-3 and "
    f"batch 32 on every seed, the others on the first; each was given {peers.CAP:g} times the "
    f"oracle's time, at least {peers.LEAST_CAP:g} s.",
)
