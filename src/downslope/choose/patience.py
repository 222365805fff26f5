"""Early stopping by a given patience."""

from __future__ import annotations

from dataclasses import dataclass

from downslope.choose.controller import Context, Observation, Order, decision_on
from downslope.choose.decision import Decision, policy


def is_better(loss: float, best: float | None, tolerance: float) -> bool:
    """True if a held-out loss beats the best one by the relative `tolerance`.

    Example:
        >>> is_better(0.99, 1.0, 1e-3), is_better(0.9999, 1.0, 1e-3), is_better(5.0, None, 0.0)
        (True, False, True)
    """
    return best is None or loss < best - tolerance * abs(best)


@policy
def out_of_patience(*, evaluations_without_gain: int, patience: int | None) -> Decision | None:
    """Stop after `patience` evaluations in a row without a better held-out loss.

    Example:
        >>> print(out_of_patience(evaluations_without_gain=5, patience=5))
        stop None -> converged: 5 evaluations in a row brought no better held-out loss, the
        patience given
        >>> out_of_patience(evaluations_without_gain=4, patience=5) is None
        True
    """
    if patience is None or evaluations_without_gain < patience:
        return None
    because = (
        f"{evaluations_without_gain} evaluations in a row brought no better held-out loss, the "
        "patience given"
    )
    return Decision(knob="stop", old=None, new="converged", because=because)


@dataclass(frozen=True, kw_only=True)
class PatienceState:
    """The held-out loss to beat, and evaluations at ends of epochs since it was set."""

    loss_to_beat: float | None = None
    evaluations_without_gain: int = 0


class Patience:
    """Stop a run whose `patience` is given; if it is left to choose, `Temperature` does."""

    def init(self, context: Context) -> PatienceState:
        """No loss to beat yet."""
        return PatienceState()

    def update(
        self, state: PatienceState, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[PatienceState, tuple[Order, ...]]:
        """A stop when the patience is used up."""
        training = seen.context.training
        if seen.moment != "evaluated" or "patience" in seen.context.free:
            return state, ()
        if not seen.ends_epoch or decision_on(decided, "stop"):
            return state, ()
        if not seen.context.has_held_out:
            return state, ()
        loss = seen.held_out_loss
        if loss is not None and is_better(loss, state.loss_to_beat, training.tolerance):
            return PatienceState(loss_to_beat=loss), ()
        waited = state.evaluations_without_gain + 1
        state = PatienceState(loss_to_beat=state.loss_to_beat, evaluations_without_gain=waited)
        patience = training.patience if isinstance(training.patience, int) else None
        decision = out_of_patience(evaluations_without_gain=waited, patience=patience)
        return state, () if decision is None else (decision,)
