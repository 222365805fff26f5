"""Weight decay of a net that is judged on held-out rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from downslope.choose.controller import (
    SURVIVES,
    Context,
    Observation,
    Order,
    Trial,
    decision_on,
)
from downslope.choose.decision import Decision, policy
from downslope.estimate import short

# Most nets of `benchmarks/selftuning` reach the held-out losses of a random search over AdamW by
# hand with these two, and fewer with the first alone, which is too much for 100,000 updates
# (measured; `docs/decisions/2026-11-30-a-schedule-and-a-decay-that-span-the-run.md`).
WEIGHT_DECAY = 0.1  # at most, at the peak rate
RUN_DECAY = 8.0  # decay times peak rate times updates: the best by hand were from 1 to 20
MIN_CHANGE = 1.5  # factor, up or down, by which it must change: a busy machine changes pace
MIN_MATRICES = 2  # a linear model has one; it is asked for the least loss


@policy
def first_weight_decay(
    *, num_matrices: int, has_held_out: bool, is_endless: bool, is_penalized: bool
) -> Decision | None:
    """Decay the weights of a net that can overfit and is judged on held-out rows.

    Not where new rows come for ever, since there is nothing to overfit; nor where a penalty is
    given already; nor for a linear model.

    Args:
        num_matrices: trained arrays of two axes or more.
        has_held_out: rows are held out.
        is_endless: the rows are generated, and never come twice.
        is_penalized: L1, L2 or a penalty is given.

    Example:
        >>> print(first_weight_decay(
        ...     num_matrices=3, has_held_out=True, is_endless=False, is_penalized=False))
        weight_decay auto -> 0.1: held-out rows judge a net of 3 matrices, which may overfit
        >>> first_weight_decay(
        ...     num_matrices=1, has_held_out=True, is_endless=False, is_penalized=False) is None
        True
    """
    if num_matrices < MIN_MATRICES or not has_held_out or is_endless or is_penalized:
        return None
    because = f"held-out rows judge a net of {num_matrices} matrices, which may overfit"
    return Decision(knob="weight_decay", old="auto", new=WEIGHT_DECAY, because=because)


@policy
def follow_length(
    *, weight_decay: float, learning_rate: float, peak_rate: float, num_steps: float
) -> Decision | None:
    """Weight decay that shrinks weights as much in a long run as in a shorter one.

    An update shrinks weights by `8 / updates`, and by a tenth of the peak rate at most; the decay
    is that over the learning rate. Weights then forget what they were over a share of the run;
    with a decay that stays the same those of a long run would remember only its end, and a rate
    that is lowered because the run has overfitted would take the decay away too.

    Args:
        weight_decay: in use.
        learning_rate: in use, before the schedule's factor.
        peak_rate: the rate that the run began with.
        num_steps: updates of the whole run.

    Returns:
        None where that would change it by less than a factor of 1.5.

    Example:
        >>> known = dict(weight_decay=0.1, peak_rate=0.005)
        >>> print(follow_length(learning_rate=0.005, num_steps=100_000, **known))
        weight_decay 0.1 -> 0.016: 8 over the learning rate times the run's 100,000 updates
        >>> follow_length(learning_rate=0.005, num_steps=10_000, **known) is None
        True
        >>> print(follow_length(learning_rate=0.00125, num_steps=10_000, **known))
        weight_decay 0.1 -> 0.4: a tenth of the rate that the run began with, over the present one

    Source: Wang and Aitchison (2024), "How to set AdamW's weight decay as you scale model and
    dataset size".
    """
    if not (learning_rate > 0 and peak_rate > 0):
        return None
    most, share = WEIGHT_DECAY * peak_rate, RUN_DECAY / num_steps
    new = min(most, share) / learning_rate
    if abs(math.log(new / weight_decay)) < math.log(MIN_CHANGE):
        return None
    because = f"{RUN_DECAY:.0f} over the learning rate times the run's {short(num_steps)} updates"
    if most < share:
        because = "a tenth of the rate that the run began with, over the present one"
    return Decision(knob="weight_decay", old=weight_decay, new=new, because=because)


@dataclass(frozen=True, kw_only=True)
class WeightDecayState:
    """The peak rate at the present batch size; None before the run's rate is known."""

    peak_rate: float | None = field(default=None, metadata=SURVIVES)


class WeightDecay:
    """Let a weight decay that is left to choose follow the length of the run."""

    def init(self, context: Context) -> WeightDecayState:
        """No rate yet."""
        return WeightDecayState()

    def update(
        self, state: WeightDecayState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[WeightDecayState, tuple[Order, ...]]:
        """Weight decay for the updates and the learning rate of the run as it stands."""
        decay = seen.knobs.weight_decay
        if decay is None or "weight_decay" not in seen.context.free:
            return state, ()
        rate, batch = (decision_on(decided, knob) for knob in ("learning_rate", "batch_size"))
        if seen.moment == "trial_ended" and rate is None:
            return state, ()  # the rate in use is that of a trial
        later = seen.knobs.learning_rate if rate is None else rate.new
        peak = later if state.peak_rate is None else state.peak_rate * _factor(rate, batch)
        if rate is not None and (rate.from_start or rate.policy == "settle_rate"):
            peak = rate.new
        waits = any(isinstance(order, Trial) for order in decided)  # they share one decay
        if waits or peak is None or later is None:
            return state, ()
        state = WeightDecayState(peak_rate=peak)
        moments = ["begun", "trial_ended", "evaluated"]
        if seen.context.has_clock:  # how many updates a call has is a matter of the clock
            moments.append("collected")
        if batch is not None or seen.run_steps is None or seen.moment not in moments:
            return state, ()  # after a change of batch the updates are counted anew
        if decision_on(decided, "stop"):
            return state, ()
        decision = follow_length(
            weight_decay=decay, learning_rate=later, peak_rate=peak, num_steps=seen.run_steps
        )
        return state, () if decision is None else (decision,)


def _factor(rate: Decision | None, batch: Decision | None) -> float:
    """Factor of the peak rate: it follows the batch size, and the cut after a diverged step."""
    if rate is None or not rate.old or (batch is None and rate.policy != "after_trouble"):
        return 1.0
    return rate.new / rate.old
