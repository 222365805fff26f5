"""Next batch size while training, from step times and the noise scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from downslope.arguments import number
from downslope.choose.decision import Decision, policy
from downslope.choose.step_time import StepTimes, fit_step_times
from downslope.errors import UsageError
from downslope.estimate import short, spoken

BATCH_STRIDE = 4  # from one batch size to the next; a finer ladder would gain at most an eighth
MIN_SAVING = 0.05  # share of the time left below which a move is not worthwhile; assumed


@policy
def next_batch_size(
    *,
    batch_size: int,
    noise_scale: float | None,
    noise_lo: float | None,
    noise_hi: float | None,
    timed_sizes: Sequence[float],
    timed_seconds: Sequence[float | Sequence[float]],
    ladder: Sequence[int] | None = None,
    most: float | None = None,
    compiled: Sequence[int] = (),
    compile_seconds: float = 0.0,
    seconds_left: float | None = None,
    gain: float = MIN_SAVING,
    is_preconditioned: bool = False,
) -> Decision | None:
    """Choose the batch size to continue with, if a move is sure to pay; None to stay.

    At batch size b the time left is proportional to (1 + B_noise/b) t(b). A move must save the
    share `gain` of it, and its compile time, at both ends of the noise scale's interval, so that
    the scatter of readings does not cause moves back and forth.

    Args:
        batch_size: current examples per step.
        noise_scale: B_noise in examples, or None; only shown, since the interval decides.
        noise_lo, noise_hi: ends of its 95 % interval. A missing lower end counts as 0, a missing
            upper end as infinity; without both there is no move.
        timed_sizes, timed_seconds: as for `fit_step_times`.
        ladder: sizes to move on; None for the powers of two. Sizes outside those timed are
            left out.
        most: largest batch size that fits in memory, or None.
        compiled: sizes that are compiled already.
        compile_seconds: time to compile another size.
        seconds_left: time left at the current batch size; None if unknown: compile time is
            then ignored.
        gain: least share of the time left that a move must save.
        is_preconditioned: the noise scale is B_P, in the metric of a preconditioned optimizer such
            as Adam; else it is Euclidean.

    Returns:
        None if fewer than two sizes were timed.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> sizes = [32, 64, 128, 256, 512]
        >>> found = next_batch_size(
        ...     batch_size=32, noise_scale=300, noise_lo=210, noise_hi=430, timed_sizes=sizes,
        ...     timed_seconds=[5e-3 + 2e-5 * b for b in sizes], compile_seconds=0.8,
        ...     seconds_left=60)
        >>> found.new, found.because
        (256, 'the Euclidean noise scale is 300 (210 to 430) examples, a step of 32 takes 5.64 ms
        and one of 256 10.1 ms: the rest then takes 0.43 to 0.33 of its time, which saves at least
        34.1 s of 60 s for 800 ms of compiling')
    """
    number("batch_size", batch_size, least=1)
    number("compile_seconds", compile_seconds, least=0)
    number("seconds_left", seconds_left, least=0, optional=True)
    number("gain", gain, least=0, below=1)
    noise = (noise_lo or 0.0, math.inf if noise_hi is None else noise_hi)
    if not 0 <= noise[0] <= noise[1]:
        raise UsageError(f"noise_lo must be 0 to noise_hi; got {noise_lo} and noise_hi {noise_hi}")
    fitting = math.inf if most is None else most
    if batch_size > fitting:
        return _shrink(batch_size, fitting, ladder)
    if len(set(timed_sizes)) < 2 or (noise_lo is None and noise_hi is None):
        return None
    times = fit_step_times(timed_sizes, timed_seconds)
    rungs = [rung for rung in _rungs(times, ladder, fitting) if rung != batch_size]
    now, *each = times.predict_many([batch_size, *rungs])
    best, least = None, math.inf
    for rung, seconds in zip(rungs, each, strict=True):
        ratios = [relative_time(end, (batch_size, now), (rung, seconds)) for end in noise]
        cost = 0.0 if rung in compiled else compile_seconds
        share = 0.0 if seconds_left is None else cost / max(seconds_left, 1e-9)
        if max(ratios) + share < least:
            best, least = (rung, seconds, ratios, cost), max(ratios) + share
    if best is None or least >= 1 - gain:
        return None
    rung, seconds, ratios, cost = best
    words = (
        f"the {scale_name(is_preconditioned)} is {scale_text(noise_scale, *noise)} examples, a "
        f"step of {batch_size:,} takes {spoken(now)} and one of {rung:,} {spoken(seconds)}"
    )
    saved = _saved(max(ratios), cost, seconds_left)
    because = f"{words}: the rest then takes {_between(ratios)} of its time{saved}"
    return Decision(knob="batch_size", old=batch_size, new=rung, because=because)


def scale_name(is_preconditioned: bool) -> str:
    """Name of the noise scale in a sentence, with its metric.

    Example:
        >>> scale_name(True)
        'preconditioned noise scale'
    """
    return "preconditioned noise scale" if is_preconditioned else "Euclidean noise scale"


def relative_time(noise_scale: float, old: tuple[float, float], new: tuple[float, float]) -> float:
    """Time to the target at a new batch size, relative to the old one.

    Args:
        noise_scale: in examples, 0 to infinity: there the limit.
        old, new: batch size, and seconds of its step.

    Example:
        >>> old, new = (200, 9e-3), (400, 13e-3)
        >>> [round(relative_time(scale, old, new), 4) for scale in (0, 200, float("inf"))]
        [1.4444, 1.0833, 0.7222]
    """
    (b, before), (more, after) = old, new
    if math.isinf(noise_scale):
        return b / more * after / before
    return (1 + noise_scale / more) / (1 + noise_scale / b) * after / before


def _rungs(times: StepTimes, ladder: Sequence[int] | None, most: float) -> list[int]:
    smallest, largest = times.batch_sizes[0], min(times.batch_sizes[-1], most)
    if ladder is None:
        ladder = [2**i for i in range(math.floor(math.log2(max(largest, 1))) + 1)]
    return [int(rung) for rung in ladder if smallest <= rung <= largest]


def _shrink(batch_size: int, most: float, ladder: Sequence[int] | None) -> Decision:
    """Move to the largest size that fits."""
    rungs = ladder or [2**i for i in range(math.floor(math.log2(max(most, 1))) + 1)]
    fitting = [int(rung) for rung in rungs if rung <= most]
    if not fitting:
        raise UsageError(f"most must leave a size of the ladder; got {most:g}, {list(rungs)}")
    because = f"at most {short(most)} examples of a step fit in memory"
    return Decision(knob="batch_size", old=batch_size, new=max(fitting), because=because)


def scale_text(scale: float | None, lo: float, hi: float) -> str:
    """Noise scale with its interval, of which `hi` may be infinite.

    Example:
        >>> scale_text(900, 700, 1200), scale_text(900, 700, float("inf"))
        ('900 (700 to 1,200)', '900 (at least 700)')
    """
    if math.isinf(hi):
        return (
            f"at least {short(lo)}" if scale is None else f"{short(scale)} (at least {short(lo)})"
        )
    ends = f"{short(lo)} to {short(hi)}"
    return ends if scale is None else f"{short(scale)} ({ends})"


def _between(ratios: list[float]) -> str:
    a, b = (f"{ratio:.2f}" for ratio in ratios)
    return a if a == b else f"{a} to {b}"


def _saved(ratio: float, cost: float, seconds_left: float | None) -> str:
    if seconds_left is None:
        return ""
    paid = f" for {spoken(cost)} of compiling" if cost else ""
    saved = spoken(seconds_left * (1 - ratio))
    return f", which saves at least {saved} of {spoken(seconds_left)}{paid}"
