"""Choice of a linear model's l2 from a path of values."""

from __future__ import annotations

import math

from downslope.choose.decision import Decision, policy


@policy
def choose_l2(*, values: tuple[float, ...], losses: tuple[float, ...]) -> Decision:
    """The l2 with the lowest held-out loss; of equal ones the first, which is the strongest.

    Args:
        values: l2 tried, the strongest first.
        losses: mean loss of the held-out rows at each.

    Example:
        >>> print(choose_l2(values=(0.1, 0.01, 0.001), losses=(0.52, 0.49, 0.5)))
        l2 auto -> 0.01: of 3 values from 0.1 to 0.001, the linear model's held-out loss was lowest
        there, 0.49
    """
    known = [loss if math.isfinite(loss) else math.inf for loss in losses]
    place = known.index(min(known))
    loss, best = losses[place], values[place]
    because = (
        f"of {len(values)} values from {values[0]:.2g} to {values[-1]:.2g}, the linear model's "
        f"held-out loss was lowest there, {loss:.4g}"
    )
    return Decision(knob="l2", old="auto", new=best, because=because)
