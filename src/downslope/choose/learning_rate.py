"""Learning-rate search: short trials from one start, and the rate chosen from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from downslope.arguments import number
from downslope.choose.controller import SURVIVES, Context, EndTrials, Observation, Order, Trial
from downslope.choose.decision import Decision, policy
from downslope.config import is_auto
from downslope.estimate import short

RATE_STRIDE = math.sqrt(10)  # between the rates tried: half a decade
MAX_TRIALS = 7  # three decades; assumed: a scale further off is a fault of the data
MIN_SHORT_TRIAL = 16  # updates of a trial in a short run; fewer say nothing
MIN_TRIAL = 20  # updates; 20 picked the same rate as 40 in 14 of 18 cases
# Updates of a trial at most. Best rates of whole runs in miniature, from 64 updates on, were within
# half a decade of that of 2,048 (MNIST, diamonds, digits and characters of text, measured).
MAX_TRIAL, MAX_OPEN_TRIAL = 512, 64  # with a known end, and without
TRIALS_PER_RUN = 40  # of three or four trials, as many as a search takes mostly: a tenth of it
TRIALS_PER_SHORT_RUN = 24  # at least, where that is less than `MIN_TRIAL` updates
TRIALS_PER_EPOCH = 16  # without a known end
# The best rate falls as a run gets longer, by this power of its updates: by 0 to 0.5, by 0.25 in
# the mean of seven tasks, between runs of N/30 and N updates (measured).
LENGTH_POWER = 0.25
TIE = (
    0.005  # of the loss, by which a lower rate must win for a still lower one to be tried; assumed
)
OPEN_EPOCHS = 20  # of a run without a known end, as long as most take; assumed
TIMED_STEPS = 64  # updates that are timed at most before the trials under a time budget
TIMED_SHARE = 0.01  # of the budget, for them
EDGE_FACTOR = 2.0


def first_rate(
    *, largest_eigenvalue: float, momentum: float, noise_scale: float, batch_size: float
) -> float:
    """Learning rate of the first trial, for plain or momentum descent.

    2 (1 - beta) / lambda_max, the stability edge, of the effective step rate/(1 - beta), divided by
    1 + B_noise/B for the noise. It is only a start for the search: within a factor of 4 of the
    best rate on three nets (measured).

    Args:
        largest_eigenvalue: of the Hessian of the loss, in loss per squared parameter.
        momentum: beta, 0 to below 1.
        noise_scale: in examples; 0 if unknown.
        batch_size: in examples.

    Raises:
        UsageError: an argument outside its range.

    Example:
        >>> round(first_rate(largest_eigenvalue=4, momentum=0.9, noise_scale=64, batch_size=64), 6)
        0.025

    Source: McCandlish et al. (2018), equation 2.6; Cohen et al. (2021), section 2.
    """
    number("largest_eigenvalue", largest_eigenvalue, above=0)
    number("momentum", momentum, least=0, below=1)
    number("noise_scale", noise_scale, least=0)
    number("batch_size", batch_size, above=0)
    edge = EDGE_FACTOR * (1 - momentum) / largest_eigenvalue
    return edge / (1 + noise_scale / batch_size)


def trial_steps(*, epoch_steps: float | None, run_steps: float | None, has_end: bool = True) -> int:
    """Updates of one trial; 0 if the run is too short for trials.

    A fortieth of the run, at most an epoch, since rows seen before flatter high rates, from 20 to
    512; of a run of less than 800 updates at most a 24th. Without a known end a sixteenth of an
    epoch, from 20 to 64.

    Args:
        epoch_steps: updates of an epoch, None without epochs.
        run_steps: updates of the whole run, if known.
        has_end: the run ends there; else that is a bound not meant to be reached.

    Example:
        >>> trial_steps(epoch_steps=2400, run_steps=4800)
        120
        >>> trial_steps(epoch_steps=12, run_steps=1200), trial_steps(epoch_steps=12, run_steps=100)
        (20, 0)
    """
    epoch = math.inf if epoch_steps is None else epoch_steps
    if has_end and run_steps is not None:
        steps = min(MAX_TRIAL, epoch, run_steps / TRIALS_PER_RUN)
    else:
        steps = min(MAX_OPEN_TRIAL, epoch / TRIALS_PER_EPOCH)
    steps = max(MIN_TRIAL, steps)
    if run_steps is not None:
        steps = min(steps, max(run_steps / TRIALS_PER_SHORT_RUN, run_steps / TRIALS_PER_RUN))
    return int(steps) if steps >= MIN_SHORT_TRIAL else 0


def next_trial(first: float, losses: Mapping[float, float]) -> float | None:
    """Learning rate to try next, or None when the search is over.

    The first rate is tried, then the next higher one; the search continues from the better of
    the two in its direction, half a decade at a time, while the loss falls. It ends when both
    neighbours of the best rate are worse, after `MAX_TRIALS`, or where a lower rate no longer gains
    half a per cent on the one above it: trials too short to tell rates apart are no reason to
    take the lowest.

    Args:
        first: learning rate at which the search begins.
        losses: training loss at the end of each trial, by rate; infinite if it diverged.

    Example:
        >>> next_trial(0.01, {}), round(next_trial(0.01, {0.01: 1.0}), 4)
        (0.01, 0.0316)
        >>> round(next_trial(0.01, {0.01: 1.0, 0.0316: 2.0}), 5)
        0.00316
        >>> next_trial(0.01, {0.00316: 1.5, 0.01: 1.0, 0.0316: 2.0}) is None
        True
        >>> next_trial(0.01, {0.01: 0.5336, 0.0316: 0.5339}) is None  # no lower one would tell
        True
    """
    if not losses:
        return first
    if len(losses) >= MAX_TRIALS:
        return None
    rates = sorted(losses)
    best = min(rates, key=lambda rate: (losses[rate], rate))
    if best == rates[-1] and math.isfinite(losses[best]):
        return best * RATE_STRIDE
    if best == rates[0] or not math.isfinite(losses[best]):
        above = losses[rates[1]] if len(rates) > 1 else math.inf
        # a rate so low that it does nothing wins by chance as often as not
        is_tie = math.isfinite(above) and above - losses[best] < TIE * abs(losses[best])
        return None if is_tie else rates[0] / RATE_STRIDE
    return None


@policy
def settle_rate(
    *,
    first: float,
    rates: tuple[float, ...],
    losses: tuple[float, ...],
    steps: int,
    run_steps: float | None = None,
) -> Decision | None:
    """Choose the learning rate from the training losses at the end of its trials.

    The lowest point of the parabola in the logarithm of the rate through the best trial and its
    neighbours, or the best trial's rate if one of them is missing or diverged; times
    `(steps/run_steps)^0.25`, since the best rate of a longer run is lower.

    Args:
        first: learning rate at which the search began.
        rates: learning rates tried, in their order.
        losses: mean training loss at the end of each trial, on the same rows; infinite if it
            diverged.
        steps: updates of a trial.
        run_steps: updates of the run, if known.

    Returns:
        None if every trial diverged.

    Example:
        >>> print(settle_rate(first=0.01, rates=(0.01, 0.03), losses=(1.0, 0.5), steps=40))
        learning_rate 0.01 -> 0.03: after 40 updates each from the same start over the same rows,
        the training loss was 1 at 0.01 and 0.5 at 0.03
        >>> between = settle_rate(
        ...     first=0.01, rates=(0.01, 0.1, 0.001), losses=(1.0, 1.5, 1.25), steps=40)
        >>> round(between.new, 4)
        0.0068
        >>> longer = settle_rate(first=0.01, rates=(0.01,), losses=(1.0,), steps=64, run_steps=2048)
        >>> print(longer)
        learning_rate 0.01 -> 0.004204: after 64 updates each from the same start over the same
        rows, the training loss was 1 at 0.01; 0.42 of that for a run 32 times as long
    """
    by_rate = dict(zip(rates, losses, strict=True))
    best = min(by_rate, key=lambda rate: (by_rate[rate], rate))
    if not math.isfinite(by_rate[best]):
        return None
    new = _lowest_point(by_rate, best)
    seen = [f"{_loss(by_rate[rate])} at {rate:.3g}" for rate in sorted(by_rate)]
    shown = seen[0] if len(seen) == 1 else ", ".join(seen[:-1]) + f" and {seen[-1]}"
    because = (
        f"after {steps} updates each from the same start over the same rows, the training loss "
        f"was {shown}"
    )
    if new != best:
        because += f", lowest on the parabola through them at {new:.3g}"
    if run_steps is not None and run_steps > steps:
        factor = (steps / run_steps) ** LENGTH_POWER
        new *= factor
        because += f"; {factor:.2g} of that for a run {short(run_steps / steps)} times as long"
    return Decision(knob="learning_rate", old=first, new=new, because=because)


@policy
def keep_default(*, learning_rate: float | None, run_steps: float | None) -> Decision | None:
    """Keep the optimizer's default rate in a run that is too short for trials.

    Args:
        learning_rate: the default; None if the optimizer has none.
        run_steps: updates of the run, as far as known.

    Example:
        >>> print(keep_default(learning_rate=0.005, run_steps=120))
        learning_rate 0.005 -> 0.005: a run of about 120 updates is too short for trials, so the
        default rate of the optimizer is kept
    """
    if learning_rate is None or run_steps is None:
        return None
    because = (
        f"a run of about {short(run_steps)} updates is too short for trials, so the default rate "
        "of the optimizer is kept"
    )
    return Decision(knob="learning_rate", old=learning_rate, new=learning_rate, because=because)


def _lowest_point(losses: Mapping[float, float], best: float) -> float:
    """Rate at the vertex of the parabola through the best rate and its neighbours."""
    rates = sorted(losses)
    at = rates.index(best)
    if at in (0, len(rates) - 1):
        return best
    below, above = rates[at - 1], rates[at + 1]
    left, right = math.log(best / below), math.log(above / best)
    rises = [(losses[below] - losses[best]) / left, (losses[above] - losses[best]) / right]
    if not all(map(math.isfinite, rises)) or not sum(rises) > 0:
        return best
    # derivative 0 of the parabola with these two slopes, between the middles of both steps
    return best * math.exp((rises[0] * right - rises[1] * left) / (2 * sum(rises)))


def _loss(loss: float) -> str:
    return f"{loss:.4g}" if math.isfinite(loss) else "infinite"


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """State of a search: `losses` holds (rate, loss) of the trials made.

    `num_steps` are the updates of a trial, 0 until updates are timed; `run_steps` those of the run.
    """

    is_done: bool = field(default=False, metadata=SURVIVES)
    first: float = 0.0
    num_steps: int = 0
    run_steps: float | None = None
    losses: tuple[tuple[float, float], ...] = ()


def _kept(seen: Observation, run_steps: float | None) -> tuple[Order, ...]:
    rate = None if seen.context.finds_rate else seen.context.default_rate
    decision = keep_default(learning_rate=rate, run_steps=run_steps)
    return () if decision is None else (decision,)


class LearningRateSearch:
    """Search the learning rate by short trials, if it is left to choose."""

    def init(self, context: Context) -> SearchState:
        """No trial made yet."""
        return SearchState()

    def update(
        self, state: SearchState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[SearchState, tuple[Order, ...]]:
        """Next trial, or the rate to train with."""
        if seen.moment == "begun":
            return self._begin(state, seen)
        if seen.moment != "trial_ended" or seen.arm is not None:
            return state, ()
        if seen.is_interrupted:
            return SearchState(), (EndTrials(keep_best=False),)
        if not state.num_steps:
            return self._timed(state, seen)
        losses = state.losses
        if not (seen.is_cut_short and losses):  # cut short: nothing to compare
            assert seen.trial_loss is not None
            rate = next_trial(state.first, dict(losses))
            assert rate is not None
            losses = (*losses, (rate, seen.trial_loss))
        rate = next_trial(state.first, dict(losses))
        if rate is not None and not seen.is_cut_short:
            return dataclasses.replace(state, losses=losses), (Trial(rate, state.num_steps),)
        rates, ends = zip(*losses, strict=True)
        decision = settle_rate(
            first=state.first,
            rates=rates,
            losses=ends,
            steps=state.num_steps,
            run_steps=state.run_steps,
        )
        orders = (EndTrials(keep_best=False),) if decision is None else (EndTrials(True), decision)
        return SearchState(is_done=True), orders

    def _begin(
        self, state: SearchState, seen: Observation
    ) -> tuple[SearchState, tuple[Order, ...]]:
        context = seen.context
        warms_up = not is_auto(context.training.warmup_steps) and context.training.warmup_steps
        # during a warm-up of given length trials would run at a part of their rates
        if state.is_done or "learning_rate" not in context.free or warms_up:
            return state, ()
        steps, run_steps = self._steps(context, context.run_steps)
        budget = context.training.seconds
        if not steps:
            return SearchState(is_done=True), _kept(seen, context.run_steps)
        first = seen.instruments.start_rate()
        if first is None:
            return SearchState(is_done=True), ()
        if budget is None:
            state = SearchState(is_done=True, first=first, num_steps=steps, run_steps=run_steps)
            return state, (Trial(first, steps),)
        trial = Trial(first, TIMED_STEPS, seconds=TIMED_SHARE * budget)
        return SearchState(is_done=True, first=first), (trial,)

    def _timed(
        self, state: SearchState, seen: Observation
    ) -> tuple[SearchState, tuple[Order, ...]]:
        """First trial that is compared, of a length that follows from the time of an update."""
        context, times = seen.context, seen.sizes.step_seconds.get(seen.knobs.batch_size)
        steps, run_steps = 0, None
        if times and context.training.seconds is not None:
            left = max(0.0, context.training.seconds - seen.seconds) / min(times)
            steps, run_steps = self._steps(context, min(left, context.run_steps or math.inf))
        if not steps or seen.is_cut_short:
            return SearchState(is_done=True), (EndTrials(keep_best=False), *_kept(seen, run_steps))
        state = dataclasses.replace(state, num_steps=steps, run_steps=run_steps)
        return state, (Trial(state.first, steps),)

    def _steps(self, context: Context, run_steps: float | None) -> tuple[int, float | None]:
        """Updates of a trial, and of the run as far as they are known."""
        epoch, has_end = context.epoch_steps, context.has_end
        steps = trial_steps(epoch_steps=epoch, run_steps=run_steps, has_end=has_end)
        if not has_end:
            run_steps = epoch and min(OPEN_EPOCHS * epoch, run_steps or math.inf)
        return steps, run_steps
