"""Recovery from a diverged step: a lower rate from the last good state, or the end of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from downslope.choose.controller import SURVIVES, Context, Observation, Order
from downslope.choose.decision import Decision, policy

RATE_CUT = 10.0  # a rate 100 times too high is corrected in two cuts
MAX_CUTS = 5
MAX_ROWS_NAMED = 8  # in a sentence


@policy
def after_trouble(
    *,
    learning_rate: float | None,
    repeats: int,
    step: int,
    what: str,
    rows: Sequence[int],
    given: bool,
) -> Decision | None:
    """Cut the learning rate to a tenth after a diverged step; stop after five cuts.

    Args:
        learning_rate: rate of the diverged step; None if the optimizer holds its own.
        repeats: number of diverged steps before in the run.
        step: number of the diverged update.
        what: "not finite", "exploded" or "worse than at the start".
        rows: numbers of rows whose own loss or gradient is not finite, at the last good state.
        given: the user set the rate, which the sentence then says.

    Returns:
        A decision on "learning_rate", or on "stop" with "diverged".

    Example:
        >>> print(after_trouble(learning_rate=1.0, repeats=0, step=12, what="exploded", rows=(),
        ...                     given=True))
        learning_rate 1 -> 0.1: the loss exploded at update 12; it was undone, and the rate given
        is too high: a tenth of it is used
        >>> after_trouble(learning_rate=1.0, repeats=0, step=3, what="not finite", rows=(7,),
        ...               given=False).new
        'diverged'
    """
    seen = f"the loss {_happened(what)} at update {step:,}"
    if rows:
        numbers = ", ".join(f"{row:,}" for row in rows[:MAX_ROWS_NAMED])
        more = f" and {len(rows) - MAX_ROWS_NAMED:,} more" if len(rows) > MAX_ROWS_NAMED else ""
        because = (
            f"{seen}: the loss of row{'s' * (len(rows) > 1)} {numbers}{more} is not finite at "
            "any learning rate; mend or drop what they hold"
        )
        return Decision(knob="stop", old=None, new="diverged", because=because)
    if learning_rate is None:
        because = f"{seen}, and the optimizer holds its own learning rate"
        return Decision(knob="stop", old=None, new="diverged", because=because)
    if repeats >= MAX_CUTS:
        because = f"{seen}, after {repeats} cuts of the learning rate"
        return Decision(knob="stop", old=None, new="diverged", because=because)
    fault = "the rate given is too high" if given else "the rate was too high"
    because = f"{seen}; it was undone, and {fault}: a tenth of it is used"
    return Decision(
        knob="learning_rate", old=learning_rate, new=learning_rate / RATE_CUT, because=because
    )


def _happened(what: str) -> str:
    return {"exploded": "exploded", "not finite": "was not finite"}.get(what, f"was {what}")


@dataclass(frozen=True, kw_only=True)
class RecoveryState:
    """State of the recovery: how many steps have diverged."""

    repeats: int = field(default=0, metadata=SURVIVES)


class Recovery:
    """Cut the learning rate after a diverged step, and stop after five cuts."""

    def init(self, context: Context) -> RecoveryState:
        """No step has diverged yet."""
        return RecoveryState()

    def update(
        self, state: RecoveryState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[RecoveryState, tuple[Order, ...]]:
        """A tenth of the rate, or a stop; the run returns to its last good state."""
        if seen.moment != "diverged":
            return state, ()
        what = seen.trouble or "not finite"
        decision = after_trouble(
            learning_rate=seen.knobs.learning_rate,
            repeats=state.repeats,
            step=seen.trouble_step or 0,
            what=what,
            rows=seen.instruments.nonfinite_rows() if what == "not finite" else (),
            given="learning_rate" not in seen.context.free,
        )
        assert decision is not None
        return dataclasses.replace(state, repeats=state.repeats + 1), (decision,)
