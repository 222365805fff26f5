"""Learning-rate search: short trials from one start, and the rate chosen from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from downslope.arguments import number
from downslope.choose.controller import SURVIVES, Context, EndTrials, Observation, Order, Trial
from downslope.choose.decision import Decision, policy

RATE_STRIDE = math.sqrt(10)  # between the rates tried: half a decade
MAX_TRIALS = 7  # three decades; assumed: a scale further off is a fault of the data
MIN_SHORT_TRIAL = 16  # updates of a trial in a short run; fewer say nothing
MIN_TRIAL, MAX_TRIAL = 20, 64  # updates; 20 picked the same rate as 40 in 14 of 18 cases
TRIALS_PER_EPOCH, TRIALS_PER_RUN = 16, 24  # trials that fit into an epoch, and into a run, at least
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


def trial_steps(*, epoch_steps: float | None, run_steps: float | None) -> int:
    """Updates of one trial; 0 if the run is too short for trials.

    A sixteenth of an epoch, but at least 20 and at most 64, and at most a 24th of the run.

    Args:
        epoch_steps: updates of an epoch, None without epochs.
        run_steps: updates of the whole run, if known.

    Example:
        >>> trial_steps(epoch_steps=2400, run_steps=None)
        64
        >>> trial_steps(epoch_steps=12, run_steps=1200), trial_steps(epoch_steps=12, run_steps=100)
        (20, 0)
    """
    steps = MAX_TRIAL if epoch_steps is None else min(MAX_TRIAL, epoch_steps / TRIALS_PER_EPOCH)
    steps = max(MIN_TRIAL, steps)
    if run_steps is not None:
        steps = min(steps, run_steps / TRIALS_PER_RUN)
    return int(steps) if steps >= MIN_SHORT_TRIAL else 0


def next_trial(first: float, losses: Mapping[float, float]) -> float | None:
    """Learning rate to try next, or None when the search is over.

    The first rate is tried, then the next higher one; the search continues from the better of
    the two in its direction, half a decade at a time, while the loss falls. It ends when both
    neighbours of the best rate are worse, or after `MAX_TRIALS`.

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
        return rates[0] / RATE_STRIDE
    return None


@policy
def settle_rate(
    *, first: float, rates: tuple[float, ...], losses: tuple[float, ...], steps: int
) -> Decision | None:
    """Choose the learning rate whose trial ended with the lowest training loss.

    Args:
        first: learning rate at which the search began.
        rates: learning rates tried, in their order.
        losses: mean training loss at the end of each trial, on the same rows; infinite if it
            diverged.
        steps: updates of a trial.

    Returns:
        None if every trial diverged.

    Example:
        >>> print(settle_rate(first=0.01, rates=(0.01, 0.03), losses=(1.0, 0.5), steps=40))
        learning_rate 0.01 -> 0.03: after 40 updates each from the same start over the same rows,
        the training loss was 1 at 0.01 and 0.5 at 0.03
    """
    by_rate = dict(zip(rates, losses, strict=True))
    best = min(by_rate, key=lambda rate: (by_rate[rate], rate))
    if not math.isfinite(by_rate[best]):
        return None
    seen = [f"{_loss(by_rate[rate])} at {rate:.3g}" for rate in sorted(by_rate)]
    shown = seen[0] if len(seen) == 1 else ", ".join(seen[:-1]) + f" and {seen[-1]}"
    because = (
        f"after {steps} updates each from the same start over the same rows, the training loss "
        f"was {shown}"
    )
    return Decision(knob="learning_rate", old=first, new=best, because=because)


def _loss(loss: float) -> str:
    return f"{loss:.4g}" if math.isfinite(loss) else "infinite"


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """State of a search: `losses` holds (rate, loss) of the trials made."""

    is_done: bool = field(default=False, metadata=SURVIVES)
    first: float = 0.0
    num_steps: int = 0
    losses: tuple[tuple[float, float], ...] = ()


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
        if seen.moment != "trial_ended":
            return state, ()
        losses = state.losses
        if not (seen.is_cut_short and losses):  # cut short: nothing to compare
            assert seen.trial_loss is not None
            rate = next_trial(state.first, dict(losses))
            assert rate is not None
            losses = (*losses, (rate, seen.trial_loss))
        if seen.is_interrupted:
            return SearchState(), (EndTrials(keep_best=False),)
        rate = next_trial(state.first, dict(losses))
        if rate is not None and not seen.is_cut_short:
            return dataclasses.replace(state, losses=losses), (Trial(rate, state.num_steps),)
        rates, ends = zip(*losses, strict=True)
        decision = settle_rate(first=state.first, rates=rates, losses=ends, steps=state.num_steps)
        orders = (EndTrials(keep_best=False),) if decision is None else (EndTrials(True), decision)
        return SearchState(is_done=True), orders

    def _begin(
        self, state: SearchState, seen: Observation
    ) -> tuple[SearchState, tuple[Order, ...]]:
        context = seen.context
        # during a warm-up trials would run at a part of their rates
        if state.is_done or "learning_rate" not in context.free or context.training.warmup_steps:
            return state, ()
        steps = trial_steps(epoch_steps=context.epoch_steps, run_steps=context.run_steps)
        first = seen.instruments.start_rate() if steps else None
        if first is None:
            return SearchState(is_done=True), ()
        return SearchState(is_done=True, first=first, num_steps=steps), (Trial(first, steps),)
