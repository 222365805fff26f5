"""Lower learning rates towards the end of a run of given length."""

from __future__ import annotations

from downslope.choose.decision import Decision, policy

COOLING = 4.0  # the factor by which the temperature is lowered; assumed
COOL_FROM = (0.7, 0.85)  # of a run whose end is given; assumed


@policy
def cool_down(*, learning_rate: float | None, done: float | None, coolings: int) -> Decision | None:
    """Lower the learning rate near the given end of a run, so that it ends with little noise.

    To a quarter after 70 % of the time, epochs or updates, and to a quarter of that after 85 %.

    Args:
        learning_rate: rate in use; None if the optimizer holds its own.
        done: share of the run's limit that is used up, None without a limit.
        coolings: number of such cuts so far.

    Example:
        >>> print(cool_down(learning_rate=0.01, done=0.72, coolings=0))
        learning_rate 0.01 -> 0.0025: 72% of the run is done; a quarter of the rate lowers the
        noise at its end
        >>> cool_down(learning_rate=0.0025, done=0.8, coolings=1) is None
        True
    """
    if learning_rate is None or done is None or coolings >= len(COOL_FROM):
        return None
    if not COOL_FROM[coolings] <= done < 1:
        return None
    because = f"{done:.0%} of the run is done; a quarter of the rate lowers the noise at its end"
    return Decision(
        knob="learning_rate", old=learning_rate, new=learning_rate / COOLING, because=because
    )
