"""Choice between solving an exact convex quadratic and training."""

from __future__ import annotations

from downslope.choose.decision import Decision, policy
from downslope.config import Training, is_auto

LEFT_TO_CHOOSE = frozenset({"optimizer", "learning_rate", "schedule", "average"})
ROWS_PER_PARAMETER = 2  # with fewer, the least training loss would overfit the rows


def asks_for_search(training: Training) -> bool:
    """True if a configuration asks for training, not for a direct solution.

    An optimizer, a rate, a number of updates, L1 or decoupled weight decay asks for training.

    Example:
        >>> asks_for_search(Training()), asks_for_search(Training(learning_rate=0.1))
        (False, True)
    """
    limited = training.steps is not None or training.epochs is not None
    decay = None if is_auto(training.weight_decay) else training.weight_decay
    decays = bool(training.l1 or decay)
    return not training.free >= LEFT_TO_CHOOSE or limited or decays


@policy
def solve_or_search(*, num_rows: int, dim: int, most_dim: int, is_convex: bool) -> Decision | None:
    """Solve directly if the loss is an exact convex quadratic of few enough parameters.

    The Hessian is summed up in one pass over the rows, and two or three more give the certificate:
    training takes more passes to come near what this reaches exactly.

    Args:
        num_rows: rows of the table.
        dim: trained parameters.
        most_dim: largest number of parameters for which the Hessian is formed.
        is_convex: the quadratic was found to be convex.

    Example:
        >>> print(solve_or_search(num_rows=442, dim=11, most_dim=2000, is_convex=True))
        optimizer auto -> solve: the loss is an exact convex quadratic of 11 parameters over 442
        rows, so its minimum is computed directly
        >>> solve_or_search(num_rows=20, dim=11, most_dim=2000, is_convex=True) is None
        True
    """
    if not is_convex or dim > most_dim or num_rows < ROWS_PER_PARAMETER * dim:
        return None
    because = (
        f"the loss is an exact convex quadratic of {dim:,} parameters over {num_rows:,} rows, so "
        "its minimum is computed directly"
    )
    return Decision(knob="optimizer", old="auto", new="solve", because=because)
