"""Batch size while training: other sizes are tried to time their updates."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from downslope.choose.controller import (
    CompiledSizes,
    Context,
    NoiseReading,
    Observation,
    Order,
    Prepare,
    decision_on,
)
from downslope.choose.decision import Decision, policy
from downslope.choose.next_batch import BATCH_STRIDE, next_batch_size, scale_name
from downslope.choose.rescale import follow_batch
from downslope.estimate import short, spoken

MIN_RUN_OVER_COMPILING = 10.0  # a run must have lasted this many times as long as compiling takes
MIN_SAVING_AT_BEST = 0.1  # share of the time left that another size must be able to save at best
ASK_AGAIN = 1.2  # the same question is asked again once the run is this many times as long
MIN_BATCH_SIZE = 4
CHANGES = ("stop", "batch_size", "clip_norm", "learning_rate")  # after which it waits


def may_pay(
    *,
    batch_size: float,
    candidate: float,
    noise_lo: float | None,
    noise_hi: float | None,
    seconds: float,
    cost: float,
) -> bool:
    """True if a batch size may be worth compiling to time its updates.

    At best, a larger batch takes as long as the present one, and a smaller one its share of that
    time. The time left then shrinks by (1 + B_noise/b')/(1 + B_noise/b), for a smaller batch by
    b'/b times that. It is assumed that as much time is left as has passed.

    Args:
        batch_size, candidate: b and b'.
        noise_lo, noise_hi: ends of the noise scale's interval; None if there is none.
        seconds: duration of the run so far.
        cost: seconds to compile.

    Example:
        >>> known = dict(batch_size=128, noise_lo=4, seconds=30, cost=1)
        >>> [may_pay(candidate=512, noise_hi=high, **known) for high in (1000, 5)]
        [True, False]
        >>> may_pay(candidate=32, noise_hi=1000, **known)
        True
    """
    if seconds < MIN_RUN_OVER_COMPILING * cost:
        return False
    if noise_lo is None and noise_hi is None:
        return False  # nothing to decide on whether to keep it
    if candidate < batch_size:
        noise = noise_lo or 0.0
    elif noise_hi is None:  # unbounded: at best an update is worth b'/b
        return (1 - batch_size / candidate) * seconds > cost
    else:
        noise = noise_hi
    best = (1 + noise / candidate) / (1 + noise / batch_size) * min(1.0, candidate / batch_size)
    return (1 - best) >= MIN_SAVING_AT_BEST and (1 - best) * seconds > cost


@policy
def try_batch(
    *,
    batch_size: int,
    candidate: int,
    noise_lo: float | None,
    noise_hi: float | None,
    seconds: float,
    cost: float,
    is_preconditioned: bool = False,
) -> Decision | None:
    """Switch to another batch size, already compiled, to time its updates.

    Args:
        batch_size, candidate, noise_lo, noise_hi, seconds, cost: as for `may_pay`.
        is_preconditioned: the noise scale is in the metric of a preconditioned optimizer.

    Example:
        >>> print(try_batch(batch_size=128, candidate=512, noise_lo=90, noise_hi=None,
        ...                     seconds=30, cost=1.2))
        batch_size 128 -> 512: it was compiled in the background in 1.2 s of 30 s so far; training
        continues with it to time its updates
    """
    if not may_pay(
        batch_size=batch_size,
        candidate=candidate,
        noise_lo=noise_lo,
        noise_hi=noise_hi,
        seconds=seconds,
        cost=cost,
    ):
        return None
    name = scale_name(is_preconditioned)
    noise = "" if noise_hi is None else f", the {name} is at most {short(noise_hi)} examples"
    because = (
        f"it was compiled in the background in {spoken(cost)} of {spoken(seconds)} so far{noise}; "
        "training continues with it to time its updates"
    )
    return Decision(knob="batch_size", old=batch_size, new=candidate, because=because)


@dataclass(frozen=True, kw_only=True)
class BatchSizeState:
    """State of the search: the size being compiled, and when to decide and prepare next."""

    preparing: int | None = None
    decide_at: float = 0.0
    prepare_at: float = 0.0
    gave_up: bool = False


class BatchSize:
    """Train at a neighbouring size once it may pay, and move to the fastest size timed."""

    def init(self, context: Context) -> BatchSizeState:
        """No size is being compiled."""
        return BatchSizeState()

    def update(
        self, state: BatchSizeState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[BatchSizeState, tuple[Order, ...]]:
        """Another batch size with its learning rate, or a size to compile."""
        if seen.moment not in ("collected", "evaluated") or not seen.context.can_change_batch:
            return state, ()
        if seen.moment == "collected" and not seen.context.has_clock:
            return state, ()  # how many updates a call has is a matter of the clock
        if decision_on(decided, *CHANGES):
            return state, ()
        state, decision = self._decide(state, seen)
        if decision is not None:
            knobs, noise = seen.knobs, seen.instruments.noise()
            follows = follow(
                seen.context, knobs.learning_rate, decision.old, decision.new, noise.scale
            )
            return state, (decision,) if follows is None else (decision, follows)
        return self._prepare(state, seen)

    def _decide(
        self, state: BatchSizeState, seen: Observation
    ) -> tuple[BatchSizeState, Decision | None]:
        sizes, here = seen.sizes, seen.knobs.batch_size
        candidate = state.preparing
        if candidate is not None and candidate in sizes.usable:
            noise = seen.instruments.noise()
            return dataclasses.replace(state, preparing=None), try_batch(
                batch_size=here,
                candidate=candidate,
                noise_lo=noise.lo,
                noise_hi=noise.hi,
                seconds=seen.seconds,
                cost=sizes.compile_seconds.get(candidate, 0.0),
                is_preconditioned=noise.is_preconditioned,
            )
        if candidate is not None and candidate in sizes.failed:
            state = dataclasses.replace(state, preparing=None, gave_up=True)
        elif candidate not in sizes.known:  # dropped, or requested before an interruption
            state = dataclasses.replace(state, preparing=None)
        timed = sorted(s for s in sizes.step_seconds if sizes.seconds_per_example(s) is not None)
        if len(timed) < 2 or here not in timed or seen.seconds < state.decide_at:
            return state, None
        state = dataclasses.replace(state, decide_at=seen.seconds * ASK_AGAIN)
        return state, _fastest(timed, sizes, seen.instruments.noise(), seen)

    def _prepare(
        self, state: BatchSizeState, seen: Observation
    ) -> tuple[BatchSizeState, tuple[Order, ...]]:
        """A neighbouring size to compile, if it was not tried yet and may pay."""
        cost, here = seen.sizes.first_compile_seconds, seen.knobs.batch_size
        if state.preparing is not None or state.gave_up or cost is None:
            return state, ()
        if seen.seconds < state.prepare_at or seen.seconds - cost < MIN_RUN_OVER_COMPILING * cost:
            return state, ()
        state = dataclasses.replace(state, prepare_at=seen.seconds * ASK_AGAIN)
        noise = seen.instruments.noise()
        for size in (here * BATCH_STRIDE, here // BATCH_STRIDE):
            fits = MIN_BATCH_SIZE <= size <= seen.context.max_batch_size
            if (
                fits
                and size not in seen.sizes.known
                and may_pay(
                    batch_size=here,
                    candidate=size,
                    noise_lo=noise.lo,
                    noise_hi=noise.hi,
                    seconds=seen.seconds,
                    cost=cost,
                )
            ):
                return dataclasses.replace(state, preparing=size), (Prepare(size),)
        return state, ()


def _fastest(
    timed: list[int], sizes: CompiledSizes, noise: NoiseReading, seen: Observation
) -> Decision | None:
    if noise.lo is None and noise.hi is None:
        return None
    return next_batch_size(
        batch_size=seen.knobs.batch_size,
        noise_scale=noise.scale,
        noise_lo=noise.lo,
        noise_hi=noise.hi,
        is_preconditioned=noise.is_preconditioned,
        timed_sizes=timed,
        timed_seconds=[tuple(sizes.step_seconds[size]) for size in timed],
        ladder=[size for size in timed if size in sizes.usable],
        most=seen.context.max_batch_size,
        compiled=timed,
        seconds_left=seen.seconds,  # as much as has passed, for lack of better
    )


def follow(
    context: Context,
    learning_rate: float | None,
    batch_size: int,
    new_batch_size: int,
    noise_scale: float | None,
) -> Decision | None:
    """Learning rate that keeps the temperature at another batch size; None if it stays."""
    if learning_rate is None or "learning_rate" not in context.free or context.finds_rate:
        return None
    return follow_batch(
        learning_rate=learning_rate,
        batch_size=batch_size,
        new_batch_size=new_batch_size,
        noise_scale=noise_scale if noise_scale is not None and noise_scale > 0 else None,
        saturates=context.is_plain,
    )
