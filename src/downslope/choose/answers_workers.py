"""Answers about a finished run: sharing its steps among workers."""

from __future__ import annotations

from downslope.choose.batch import grid
from downslope.choose.prediction import RunLaw
from downslope.choose.scenario import Answer, RunFacts, Scenario, unknown
from downslope.choose.step_time import StepTimes
from downslope.choose.workers import Link, best_workers, step_cost
from downslope.estimate import Estimate, short, spoken

LATE = "all workers are assumed to be equally fast"


def workers_if(
    seen: RunFacts,
    scenario: Scenario,
    law: RunLaw | None,
    times: StepTimes | None,
    batch_size: float | None,
    no_times: str,
) -> list[Answer]:
    """Answers on sharing steps among workers that are joined in a ring.

    Args:
        seen, scenario: as for `what_if`.
        law: steps by batch size, or None where the noise scale is not known.
        times: step times, or None with the reason in `no_times`.
        batch_size: examples of a step over all workers, or None where it is not known.
        no_times: why there are no step times.

    Returns:
        Answers in this order: `num_workers` (the best at this batch size), `slower_beyond`,
        `workers_step_seconds` and `workers_largest_cost` with the number asked for or the best,
        `workers_batch_size` (the best for that number) and `workers_seconds` with it.
    """
    link, reason = _link(seen, scenario)
    if times is None or batch_size is None or link is None:
        why = no_times or reason or "the batch size of its steps is not known"
        return [unknown("num_workers", "workers", why)]
    best = best_workers(int(batch_size), times=times, link=link)
    p = scenario.num_workers or best.num_workers
    cost = step_cost(p, max(batch_size, p), times=times, link=link)
    parts = (
        f"{p:,} workers share {short(max(batch_size, p))} examples: fixed {spoken(cost.fixed)}, "
        f"computing {spoken(cost.computing)}, exchanging {spoken(cost.exchanging)}"
    )
    extrapolated = () if times.is_measured_at(batch_size / p) else (
        f"no step as small as {short(batch_size / p)} examples a worker was timed",
    )  # fmt: skip
    workers = Estimate(value=best.num_workers, unit=_workers(best.num_workers))
    beyond = Estimate(value=best.slower_beyond, unit=_workers(best.slower_beyond))
    return [
        Answer(question="num_workers", value=workers, because=best.because, flags=(LATE,)),
        Answer(
            question="slower_beyond",
            value=beyond,
            because=f"exchanging {short(link.num_bytes)} bytes then costs more than sharing saves",
        ),
        Answer(
            question="workers_step_seconds",
            value=Estimate(value=cost.seconds, unit="s"),
            because=parts,
            flags=extrapolated,
        ),
        Answer(question="workers_largest_cost", words=cost.dominant, because=parts),
        *_joint(p, law, times, link),
    ]


def _joint(p: int, law: RunLaw | None, times: StepTimes, link: Link) -> list[Answer]:
    """Batch size at which p workers reach the target soonest, among those timed."""
    if law is None:
        reason = "no noise scale was measured in this run"
        return [
            unknown("workers_batch_size", "examples", reason),
            unknown("workers_seconds", "s", reason),
        ]
    sizes = [p * size for size in grid(times.batch_sizes[0], times.batch_sizes[-1])]
    steps = {size: step_cost(p, size, times=times, link=link).seconds for size in sizes}
    best = min(sizes, key=lambda size: (1 + law.noise_scale / size) * steps[size])
    edge = best in (sizes[0], sizes[-1]) and best > 1
    flags = ("at the edge of the sizes timed for a worker",) if edge else ()
    rounded = float(f"{best:.2g}") if best >= 10 else float(round(best))
    because = (
        f"for {p:,} workers (1 + {short(law.noise_scale)}/b) times a step of b examples is least"
    )
    count, each = law.steps(best), steps[best]
    return [
        Answer(
            question="workers_batch_size",
            value=Estimate(value=rounded, unit="examples"),
            because=because,
            flags=flags,
        ),
        Answer(
            question="workers_seconds",
            value=count.scaled(each, unit="s"),
            because=f"{short(count.value or 0)} steps of {spoken(each)} at {short(rounded)} "
            f"examples over {p:,} workers",
        ),
    ]


def _link(seen: RunFacts, scenario: Scenario) -> tuple[Link | None, str]:
    if scenario.bytes_per_second is None:
        return None, "the link between workers is not known; name it, such as 1Gbit/s"
    if seen.num_bytes is None:
        return None, "the number of parameters is not known"
    link = Link(
        num_bytes=seen.num_bytes,
        latency_seconds=scenario.latency_seconds,
        bytes_per_second=scenario.bytes_per_second,
    )
    return link, ""


def _workers(count: int) -> str:
    return "worker" if count == 1 else "workers"
