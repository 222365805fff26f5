"""Weight decay of a net that is judged on held-out rows."""

from __future__ import annotations

import math

from downslope.choose.controller import Context, Observation, Order, Trial, decision_on
from downslope.choose.decision import Decision, policy
from downslope.estimate import short

# Most nets of `benchmarks/selftuning` reach the held-out losses of a random search over AdamW by
# hand with these two, and fewer with the first alone, which is too much for 100,000 updates
# (measured; `docs/decisions/2026-11-30-a-schedule-and-a-decay-that-span-the-run.md`).
WEIGHT_DECAY = 0.1  # at most
RUN_DECAY = 8.0  # decay times peak rate times updates: the best by hand were from 1 to 20
MIN_CHANGE = 1.25  # factor by which it must change
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
    *, weight_decay: float, learning_rate: float, num_steps: float
) -> Decision | None:
    """Weight decay that shrinks weights as much in a long run as in a shorter one.

    `8 / (rate * updates)`, and 0.1 at most. Weights forget what they were over `1 / (rate * decay)`
    updates, which then is a share of the run; with a decay that stays the same a long run's
    weights would remember only its end.

    Args:
        weight_decay: in use.
        learning_rate: its peak.
        num_steps: updates of the whole run.

    Returns:
        None where that would change it by less than a quarter.

    Example:
        >>> print(follow_length(weight_decay=0.1, learning_rate=0.005, num_steps=100_000))
        weight_decay 0.1 -> 0.016: 8 over the learning rate times the run's 100,000 updates
        >>> follow_length(weight_decay=0.1, learning_rate=0.005, num_steps=10_000) is None
        True

    Source: Wang and Aitchison (2024), "How to set AdamW's weight decay as you scale model and
    dataset size".
    """
    if not learning_rate > 0:
        return None
    new = min(WEIGHT_DECAY, RUN_DECAY / (learning_rate * num_steps))
    if abs(math.log(new / weight_decay)) < math.log(MIN_CHANGE):
        return None
    because = f"{RUN_DECAY:.0f} over the learning rate times the run's {short(num_steps)} updates"
    if new == WEIGHT_DECAY:
        because += f", but {WEIGHT_DECAY:g} at most"
    return Decision(knob="weight_decay", old=weight_decay, new=new, because=because)


class WeightDecay:
    """Let a weight decay that is left to choose follow the length of the run; stateless."""

    def init(self, context: Context) -> None:
        """No state."""

    def update(
        self, state: None, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[None, tuple[Order, ...]]:
        """Weight decay for the updates and the learning rate of the run as it stands."""
        decay, free = seen.knobs.weight_decay, seen.context.free
        if decay is None or "weight_decay" not in free or decision_on(decided, "stop"):
            return None, ()
        if seen.moment not in ("begun", "trial_ended", "collected", "evaluated"):
            return None, ()
        if any(isinstance(order, Trial) for order in decided):
            return None, ()  # trials share the decay that they began with
        rate = decision_on(decided, "learning_rate")
        learning_rate = seen.knobs.learning_rate if rate is None else rate.new
        if learning_rate is None or seen.run_steps is None:
            return None, ()
        decision = follow_length(
            weight_decay=decay, learning_rate=learning_rate, num_steps=seen.run_steps
        )
        return None, () if decision is None else (decision,)
