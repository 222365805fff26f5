"""Weight decay of a net that is judged on held-out rows."""

from __future__ import annotations

from downslope.choose.decision import Decision, policy

# With it, and a rate that falls less with the run's length, held-out losses of most nets of
# `benchmarks/selftuning` fell to those of a random search over AdamW by hand, or near (measured).
WEIGHT_DECAY = 0.1
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
