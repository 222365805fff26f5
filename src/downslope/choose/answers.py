"""Answers about a finished run: another batch size, another machine, more workers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from downslope.choose.answers_workers import workers_if
from downslope.choose.batch import SweetSpot, sweet_spot
from downslope.choose.prediction import RunLaw, equivalent_steps, predict
from downslope.choose.scenario import Answer, RunFacts, Scenario, unknown
from downslope.choose.step_time import StepTimes, fit_step_times
from downslope.errors import UsageError
from downslope.estimate import Estimate, short, spoken

TUNED = "holds if the learning rate is tuned for each batch size"


def what_if(seen: RunFacts, scenario: Scenario | None = None) -> tuple[Answer, ...]:
    """Answer what-if questions about a run from its own measurements.

    Where they do not suffice, an answer has no value but the reason.

    Args:
        seen: facts about the run.
        scenario: conditions to change; None for the run's own machine and its best batch size.

    Returns:
        Answers in this order: `same_batch_size` (time of the run at the batch size it had),
        `batch_size` (the best), `seconds` and `largest_cost` at the batch size asked for or
        the best, and those of `workers_if`.

    Raises:
        UsageError: numbers of the run outside their range.

    Example:
        >>> sizes = (64, 256, 1024)
        >>> seen = RunFacts(num_steps=3000, batch_size=100, stretch_steps=(3000,),
        ...             batch_sizes=(100,), noise_scales=(200,), noise_los=(150,),
        ...             noise_his=(260,), timed_sizes=sizes,
        ...             timed_seconds=tuple((5e-3 + 2e-5 * b,) for b in sizes))
        >>> for answer in what_if(seen)[:3]:
        ...     print(answer.question, answer)
        same_batch_size 21 s
        batch_size 220 (197 to 256) examples
        seconds 17.95 (17.09 to 18.97) s
    """
    scenario = scenario or Scenario()
    law, no_law = _law(seen)
    times, no_times = _times(seen, scenario)
    spot: SweetSpot | None = None
    answers = [_same(seen, scenario)]
    if law is None or times is None:
        answers.append(unknown("batch_size", "examples", no_law or no_times))
    else:
        spot, answer = _best(seen, scenario, law, times)
        answers.append(answer)
    size = scenario.batch_size or (spot.batch_size if spot else None) or seen.batch_size
    answers += _at(size, law, times, no_law or no_times)
    answers += workers_if(seen, scenario, law, times, size, no_times)
    return tuple(answers)


def _law(seen: RunFacts) -> tuple[RunLaw | None, str]:
    if not seen.stretch_steps:
        return None, "no noise scale was measured in this run"
    law = equivalent_steps(
        seen.noise_scales,
        seen.batch_sizes,
        seen.stretch_steps,
        noise_los=seen.noise_los,
        noise_his=seen.noise_his,
    )
    return law, ""


def _times(seen: RunFacts, scenario: Scenario) -> tuple[StepTimes | None, str]:
    if not seen.timed_sizes:
        return None, "no step was timed in this run"
    if len(seen.timed_sizes) == 1:
        only = short(seen.timed_sizes[0])
        return None, (
            f"only steps of {only} examples were timed: their cost by size is not known; "
            "--measure times others"
        )
    times = fit_step_times(seen.timed_sizes, seen.timed_seconds)
    return times.with_overhead(scenario.step_overhead_seconds), ""


def _same(seen: RunFacts, scenario: Scenario) -> Answer:
    """Time of the run at the batch sizes it had, with the given overhead."""
    name, extra = "same_batch_size", scenario.step_overhead_seconds
    stretches = list(zip(seen.batch_sizes, seen.stretch_steps, strict=True))
    if not stretches and seen.batch_size is not None:
        stretches = [(seen.batch_size, seen.num_steps)]
    if not stretches:
        return unknown(name, "s", "the batch size of its steps is not known")
    step = _step_seconds(seen)
    if isinstance(step, str):
        return unknown(name, "s", step)
    each = [(count, step(size)) for size, count in stretches]
    if any(seconds is None for _, seconds in each):
        return unknown(name, "s", "steps of one of its batch sizes were not timed")
    total = sum(count * ((seconds or 0.0) + extra) for count, seconds in each)
    typical = total / seen.num_steps
    because = f"{seen.num_steps:,} steps of {spoken(typical)} each"
    if seen.seconds and not extra:
        because += f"; it took {spoken(seen.seconds)} with compiling and evaluating"
    flags = _time_flags(seen)
    ends = seen.timed_sizes[0], seen.timed_sizes[-1]
    if any(not ends[0] <= size <= ends[1] for size, _ in stretches):
        flags += ("some of its batch sizes lie outside those timed: their time is extrapolated",)
    return Answer(
        question=name, value=Estimate(value=total, unit="s"), because=because, flags=flags
    )


def _step_seconds(seen: RunFacts) -> Callable[[float], float | None] | str:
    """Seconds of a step by batch size, without overhead; or why they are unknown."""
    if not seen.timed_sizes:
        return "no step was timed in this run"
    if len(seen.timed_sizes) > 1:
        return fit_step_times(seen.timed_sizes, seen.timed_seconds).predict
    repeats = dict(zip(seen.timed_sizes, seen.timed_seconds, strict=True))
    typical = {size: statistics.median(seconds) for size, seconds in repeats.items()}
    return typical.get


def _best(
    seen: RunFacts, scenario: Scenario, law: RunLaw, times: StepTimes
) -> tuple[SweetSpot, Answer]:
    most, memory_flags = _most(seen, scenario)
    lo, hi = law.noise_lo, law.noise_hi
    spot = sweet_spot(times=times, noise_scale=law.noise_scale, noise_lo=lo, noise_hi=hi, most=most)
    value = Estimate(
        value=spot.batch_size,
        lo=None if spot.optimum.lo is None else min(spot.optimum.lo, spot.batch_size),
        hi=None if spot.optimum.hi is None else max(spot.optimum.hi, spot.batch_size),
        unit="examples",
    )
    flags = (*spot.flags, *memory_flags, *_noise_flags(seen), *_time_flags(seen), TUNED)
    return spot, Answer(question="batch_size", value=value, because=spot.because, flags=flags)


def _most(seen: RunFacts, scenario: Scenario) -> tuple[float | None, tuple[str, ...]]:
    """Largest batch size that fits in memory."""
    if scenario.memory_bytes is None:
        return None, ()
    if seen.example_bytes is None or seen.fixed_bytes is None or seen.example_bytes <= 0:
        return None, ("what an example takes in memory was not recorded: memory is no bound here",)
    most = math.floor((scenario.memory_bytes - seen.fixed_bytes) / seen.example_bytes)
    if most < 1:
        needed = seen.fixed_bytes + seen.example_bytes
        raise UsageError(
            f"memory_bytes must be {needed:,.0f} or more, for a step of one example; "
            f"got {scenario.memory_bytes:,.0f}"
        )
    return float(most), ()


def _at(
    size: float | None, law: RunLaw | None, times: StepTimes | None, reason: str
) -> list[Answer]:
    """Time and largest cost at the batch size in question."""
    if size is None or law is None or times is None:
        return [unknown("seconds", "s", reason), unknown("largest_cost", "", reason)]
    found = predict(law, times, size)
    each = times.predict(size)
    because = (
        f"{short(found.num_steps.value or 0)} steps of {spoken(each)} at {short(size)} examples, "
        f"from S_min = {short(law.min_steps)} steps and E_min = {short(law.min_examples)} examples"
    )
    seconds = Answer(
        question="seconds", value=found.seconds, because=because, flags=(*found.flags, TUNED)
    )
    fixed = min(times.fixed_seconds, each)
    words = "computing" if each - fixed > fixed else "the fixed cost of a step"
    because = f"of a step of {spoken(each)} the fixed cost is {spoken(fixed)}"
    return [seconds, Answer(question="largest_cost", words=words, because=because)]


def _noise_flags(seen: RunFacts) -> tuple[str, ...]:
    bounded = sum(
        steps
        for steps, scale in zip(seen.stretch_steps, seen.noise_scales, strict=True)
        if scale is None
    )
    flags = []
    if bounded:
        share = 100 * bounded / sum(seen.stretch_steps)
        flags.append(
            f"in {share:.0f} % of the steps the noise scale is known from below only: "
            "a larger batch may do better"
        )
    if seen.num_unread:
        flags.append(f"{seen.num_unread} readings of the noise scale failed; others were used")
    return tuple(flags)


def _time_flags(seen: RunFacts) -> tuple[str, ...]:
    if seen.was_timed or not seen.timed_sizes:
        return ()
    return ("step times are those of the run and include waiting for data and evaluating",)
