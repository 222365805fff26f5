"""Hold the temperature, lower it, or stop: decided at each held-out evaluation."""

from __future__ import annotations

import math

from downslope.choose.decision import Decision, policy

COOLING = 4.0  # the factor by which the temperature is lowered; assumed
COOL_FROM = (0.7, 0.85)  # of a run whose end is given; assumed
WAIT = 2  # evaluations without a gain before anything is done
WAIT_UPDATES = 128  # made in that time: on a small table two evaluations are soon over
WAIT_SHARE = 0.15  # of the updates so far: late in a run gains come slowly
SLOW = 0.01  # relative gain over the latest fifth of the updates, below which a floor is near
FIFTH = 0.2
ANNEALS = 2  # in a row without any gain, after which nothing is left to be gained
GIVE_UP = 5  # evaluations without a gain that end a run whose temperature is given
MOST_STARTS = 3  # a decade of rates; each takes about three times as long as the one before
OVERFITTED = 0.75  # training loss over held-out loss, below which it counts; assumed
FITTED = 1e-6  # of the first loss; assumed
CHEAPER = 0.9  # a larger batch must cost at most this share of the time for an example


def stands_out(gain: float, error: float | None, *, loss: float, tolerance: float) -> bool:
    """Whether a gain in loss is above its own noise, and above the tolerance.

    Args:
        gain: lowest loss so far less the new one, of the same held-out rows.
        error: standard error of that difference, from the differences of single rows; None
            where it is not known.
        loss: the lowest loss so far.
        tolerance: relative gain that counts.

    Example:
        >>> stands_out(0.01, 0.002, loss=1.0, tolerance=1e-3)
        True
        >>> stands_out(0.01, 0.02, loss=1.0, tolerance=1e-3)
        False
    """
    return gain > max(tolerance * abs(loss), error or 0.0)


@policy
def next_temperature(
    *,
    learning_rate: float | None,
    batch_size: int,
    may_lower: bool,
    may_stop: bool,
    evaluations_without_gain: int,
    updates_without_gain: int,
    share_without_gain: float,
    recent_gain: float | None,
    anneals_without_gain: int,
    fitted_share: float | None,
    equilibrium_ratio: float | None,
    seconds_per_example: float | None,
    larger_batch_size: int | None,
    larger_seconds_per_example: float | None,
) -> Decision | None:
    """What to do at the noise floor: nothing yet, a larger batch, a lower rate, or stop.

    While evaluations bring gains that stand out of their noise the temperature is held. After
    two that do not, or once a fifth of the updates brought less than 1 %, the loss sits at its
    noise floor or near it, and the temperature is lowered by a factor of 4: by a batch 4 times
    as large where an example of it is at least a tenth cheaper, else by a learning rate of a
    quarter. When two such steps bring nothing, the run has converged.

    Args:
        learning_rate, batch_size: in use.
        may_lower: the temperature was left to choose.
        may_stop: the end of the run was left to choose.
        evaluations_without_gain: since the last gain or the last change of temperature.
        updates_without_gain: made since then.
        share_without_gain: of the run's updates, those made since then.
        recent_gain: relative gain in loss over the latest fifth of the updates; None
            where the temperature was changed since.
        anneals_without_gain: changes of temperature since the last gain.
        fitted_share: training loss of the last epoch over that of the first batch; None where it
            is not known. Below a millionth the rows are fitted, and nothing drives the descent.
        equilibrium_ratio: R_eq, 1 once the run is stationary; it is told, not decided on.
        seconds_per_example: measured, in use; None where it is not known.
        larger_batch_size: a batch that could be used instead, or None.
        larger_seconds_per_example: measured for it.

    Example:
        >>> print(next_temperature(learning_rate=0.01, batch_size=128, may_lower=True,
        ...     may_stop=True, evaluations_without_gain=2, updates_without_gain=700,
        ...     share_without_gain=0.2, recent_gain=None,
        ...     anneals_without_gain=0, fitted_share=0.2, equilibrium_ratio=1.2,
        ...     seconds_per_example=1e-6,
        ...     larger_batch_size=None, larger_seconds_per_example=None))
        learning_rate 0.01 -> 0.0025: 2 evaluations brought no gain in loss above its own
        noise (R_eq 1.2): the loss sits at its noise floor, and a quarter of the rate lowers that
    """
    if may_stop and fitted_share is not None and 0 <= fitted_share < FITTED:
        because = f"the training loss is {fitted_share:.1g} of what it was: the rows are fitted"
        return Decision(knob="stop", old=None, new="converged", because=because)
    slow = recent_gain is not None and recent_gain < SLOW
    waited = (
        evaluations_without_gain >= WAIT
        and updates_without_gain >= WAIT_UPDATES
        and share_without_gain >= WAIT_SHARE
    )
    if not waited and not slow:
        return None
    seen = f"{evaluations_without_gain} evaluations brought no gain in loss above its own"
    if slow and not waited:
        seen = f"the latest fifth of the updates gained {recent_gain:.1%}, little above the"
    seen += " noise" if equilibrium_ratio is None else f" noise (R_eq {equilibrium_ratio:.2g})"
    if anneals_without_gain >= ANNEALS or not may_lower or learning_rate is None:
        if not may_stop or (not may_lower and evaluations_without_gain < GIVE_UP):
            return None
        tried = f", and neither did {anneals_without_gain} lower temperatures before"
        because = seen + tried * (anneals_without_gain > 0)
        return Decision(knob="stop", old=None, new="converged", because=because)
    growth = _growth(seconds_per_example, larger_seconds_per_example)
    if larger_batch_size is not None and growth is not None and growth <= CHEAPER:
        because = (
            f"{seen}: the loss sits at its noise floor, and a batch of {larger_batch_size:,} "
            f"lowers that at {growth:.2g} of the time for an example"
        )
        return Decision(knob="batch_size", old=batch_size, new=larger_batch_size, because=because)
    because = f"{seen}: the loss sits at its noise floor, and a quarter of the rate lowers that"
    return Decision(
        knob="learning_rate", old=learning_rate, new=learning_rate / COOLING, because=because
    )


def _growth(now: float | None, larger: float | None) -> float | None:
    if now is None or larger is None or not (now > 0 and math.isfinite(larger)):
        return None
    return larger / now


@policy
def cool_down(*, learning_rate: float | None, done: float | None, coolings: int) -> Decision | None:
    """A lower rate towards the end of a run whose end is given, so that it ends in little noise.

    A quarter of it after 70 % of the time, epochs or updates, and a quarter of that after 85 %.

    Args:
        learning_rate: in use; None where the optimizer holds its own.
        done: share of the run's limit that is used up, None without a limit.
        coolings: made so far.

    Example:
        >>> print(cool_down(learning_rate=0.01, done=0.72, coolings=0))
        learning_rate 0.01 -> 0.0025: 72% of the run are over; a quarter of the rate lowers the
        noise that it ends in
        >>> cool_down(learning_rate=0.0025, done=0.8, coolings=1) is None
        True
    """
    if learning_rate is None or done is None or coolings >= len(COOL_FROM):
        return None
    if not COOL_FROM[coolings] <= done < 1:
        return None
    because = (
        f"{done:.0%} of the run are over; a quarter of the rate lowers the noise that it ends in"
    )
    return Decision(
        knob="learning_rate", old=learning_rate, new=learning_rate / COOLING, because=because
    )


@policy
def start_again(
    *,
    learning_rate: float,
    starts: int,
    train_loss: float | None,
    held_out_loss: float | None,
    gain: float | None,
    tolerance: float,
) -> Decision | None:
    """A new start from the first parameters at a lower rate, where a run has overfitted.

    A high rate may fit the training rows fastest and generalise less well; only held-out rows
    tell. Where the training loss has fallen well below the held-out one, the run is made again
    at a rate half a decade lower, and again while that brings a gain.

    Args:
        learning_rate: that the start before began with.
        starts: made so far, 1 after the first.
        train_loss: of the last epoch.
        held_out_loss: lowest of the start before.
        gain: of that start over the lowest loss of those before, None after the first.
        tolerance: relative gain that counts.

    Example:
        >>> print(start_again(learning_rate=0.01, starts=1, train_loss=0.05, held_out_loss=0.3,
        ...                   gain=None, tolerance=1e-3))
        learning_rate 0.01 -> 0.003162: the training loss of 0.05 lies far below the held-out one
        of 0.3, so the rows are overfitted; a lower rate from the first parameters may do better
    """
    if starts >= MOST_STARTS or train_loss is None or held_out_loss is None:
        return None
    if not 0 <= train_loss < OVERFITTED * held_out_loss:
        return None
    if gain is not None and gain <= tolerance * held_out_loss:
        return None
    because = (
        f"the training loss of {train_loss:.3g} lies far below the held-out one of "
        f"{held_out_loss:.3g}, so the rows are overfitted; a lower rate from the first parameters "
        "may do better"
    )
    new = learning_rate / math.sqrt(10)
    return Decision(knob="learning_rate", old=learning_rate, new=new, because=because)
