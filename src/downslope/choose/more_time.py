"""Held-out loss of a run twice as long, from the evaluations of one that a limit ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from downslope.estimate import Estimate, not_estimable

# Measured on 163 pairs of runs of N and 2N updates, 16 tasks; see benchmarks/more_time.py. Powers
# of the factor by which the second half lowered the loss:
NEXT_POWER = 1.2  # of the next doubling: the median
POWER_SPREAD = 2.0  # half of a 95 % interval
RUN_SPREAD = 0.15  # relative; half of a 95 % interval, of two runs between which nothing is gained
ROWS_SPREAD = 0.3  # of the half-width of the loss's interval: both runs are held to the same rows
MIN_EVALUATIONS = 4  # assumed


def twice_as_long(steps: Sequence[int], losses: Sequence[float], loss: Estimate) -> Estimate:
    """Held-out loss that a run of twice as many updates would have given.

    If the second half of the run lowered the lowest held-out loss by a factor f = exp(-d), a
    doubling lowers it by f to the power of 1.2:

        loss * exp(-1.2 d),  95 % interval: times exp(-+ sqrt((2 d)^2 + 0.15^2 + (0.3 h)^2)),

    where h is the relative half-width of the interval of `loss`, which finite rows leave open.
    The longer run is one from the start, with the same choices left to `fit`, and its model that of
    its lowest held-out loss. Its warm-up and cool-down are longer too, so the factor is that of
    whole runs, not of a curve continued. The constants are those of measured
    pairs of runs, and the interval holds as often as it did there: it does not follow from
    assumptions on the curve.

    Args:
        steps: updates made at each evaluation, in order; the last is the run's end.
        losses: held-out loss at each, on the same rows.
        loss: held-out loss of the model that was kept, on all rows.

    Returns:
        In the unit of `loss`; not estimable from fewer than 4 evaluations, without one in the
        first half, and where a loss is 0 or below, since the factor then says nothing.

    Example:
        >>> loss = Estimate(value=0.36, unit="nats")
        >>> print(twice_as_long([100, 200, 300, 400], [0.6, 0.48, 0.4, 0.36], loss))
        0.25 (0.14 to 0.46) nats
        >>> print(twice_as_long([100, 200], [0.6, 0.48], loss))
        not estimable: the run has 2 evaluations, of 4 needed
    """

    def none(reason: str) -> Estimate:
        return not_estimable(reason, unit=loss.unit)

    if loss.value is None:
        return none(loss.reason or "the held-out loss is not known")
    if len(steps) < MIN_EVALUATIONS:
        return none(f"the run has {len(steps)} evaluations, of {MIN_EVALUATIONS} needed")
    if min(*losses, loss.value) <= 0:
        return none("a held-out loss of 0 or below has no relative gain")
    half = steps[-1] / 2
    if steps[0] > half:
        return none("no evaluation was in the first half of the run")
    gain = math.log(_lowest_by(half, steps, losses) / min(losses))
    rows = 0.0 if loss.hi is None else (loss.hi - loss.value) / loss.value
    spread = math.hypot(POWER_SPREAD * gain, RUN_SPREAD, ROWS_SPREAD * rows)
    value, lo, hi = (
        loss.value * math.exp(change - NEXT_POWER * gain) for change in (0.0, -spread, spread)
    )
    return dataclasses.replace(
        loss,
        value=value,
        lo=lo,
        hi=hi,
        num_steps=steps[-1],
        method="gain of the second half, and the spread of measured pairs of runs",
        flags=(),
    )


def _lowest_by(half: float, steps: Sequence[int], losses: Sequence[float]) -> float:
    """Lowest loss up to an update, linear between evaluations."""
    lowest = math.inf
    for i, (step, loss) in enumerate(zip(steps, losses, strict=True)):
        if step > half:
            before, following = lowest, min(lowest, loss)
            share = (half - steps[i - 1]) / (step - steps[i - 1])
            return before + share * (following - before)
        lowest = min(lowest, loss)
    return lowest
