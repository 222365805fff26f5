"""Restart at another learning rate, for a run that has overfitted."""

from __future__ import annotations

import math

from downslope.choose.decision import Decision, policy

MAX_STARTS = 3  # a decade of rates; each takes about three times as long as the one before
OVERFITTED = 0.75  # training loss over held-out loss, below which a run has overfitted; assumed
HOTTER = 4.0  # a sixteenth of the batch size, by a rate that follows its root; assumed
INTERPOLATED = 0.1  # training loss over held-out loss, below which rows are interpolated; assumed
LATEST_RESTART = 0.5  # share of a run of given length: a later restart would not get far; assumed


def is_overfitted(train_loss: float | None, held_out_loss: float | None) -> bool:
    """True if the training loss is well below the held-out one; False if one is unknown.

    Example:
        >>> is_overfitted(0.05, 0.3), is_overfitted(0.28, 0.3), is_overfitted(None, 0.3)
        (True, False, False)
    """
    if train_loss is None or held_out_loss is None:
        return False
    return 0 <= train_loss < OVERFITTED * held_out_loss


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
    """Restart from the first parameters at a lower rate, if a run has overfitted.

    A high rate may fit the training rows fastest but generalise less well, which only held-out
    rows show. If the training loss is well below the held-out one, the run restarts at a rate
    half a decade lower, and again while that brings a gain.

    Args:
        learning_rate: rate that the latest start began with.
        starts: number of starts so far, 1 after the first.
        train_loss: training loss of the last epoch.
        held_out_loss: lowest held-out loss of the latest start.
        gain: its gain over the lowest loss of earlier starts, None after the first.
        tolerance: relative gain that counts.

    Example:
        >>> print(start_again(learning_rate=0.01, starts=1, train_loss=0.05, held_out_loss=0.3,
        ...                   gain=None, tolerance=1e-3))
        learning_rate 0.01 -> 0.003162: the training loss of 0.05 lies far below the held-out one
        of 0.3, so the rows are overfitted; a lower rate from the first parameters may do better
    """
    if starts >= MAX_STARTS or not is_overfitted(train_loss, held_out_loss):
        return None
    assert held_out_loss is not None
    if gain is not None and gain <= tolerance * held_out_loss:
        return None
    because = (
        f"the training loss of {train_loss:.3g} lies far below the held-out one of "
        f"{held_out_loss:.3g}, so the rows are overfitted; a lower rate from the first parameters "
        "may do better"
    )
    new = learning_rate / math.sqrt(10)
    return Decision(
        knob="learning_rate", old=learning_rate, new=new, because=because, from_start=True
    )


@policy
def start_hotter(
    *,
    learning_rate: float,
    starts: int,
    train_loss: float | None,
    held_out_loss: float | None,
) -> Decision | None:
    """Restart from the first parameters at a higher rate, if the training rows are interpolated.

    Many parameters fit all training rows. Which of them a run finds depends on its temperature: at
    a higher rate narrow minima do not hold it, and wide ones generalise better. Where the training
    loss is all but 0, lowering the rate changes little more, so a run of given length, whose
    schedule ends with it, spends what is left on a second start at four times the rate. The
    parameters kept are those of the lowest held-out loss of both.

    Args:
        learning_rate: in use.
        starts: number of starts so far.
        train_loss: training loss of the last epoch.
        held_out_loss: lowest held-out loss so far.

    Example:
        >>> print(start_hotter(learning_rate=0.01, starts=1, train_loss=0.002, held_out_loss=0.2))
        learning_rate 0.01 -> 0.04: the training loss of 0.002 is below a tenth of the held-out one
        of 0.2, so the rows are interpolated; a higher rate from the first parameters may find a
        wider minimum

    Source: Keskar et al. (2017), On large-batch training; Jastrzebski et al. (2018), Three factors
    influencing minima in SGD; measured in `benchmarks/selftuning`.
    """
    if starts > 1 or train_loss is None or held_out_loss is None:
        return None
    if not 0 <= train_loss < INTERPOLATED * held_out_loss:
        return None
    because = (
        f"the training loss of {train_loss:.3g} is below a tenth of the held-out one of "
        f"{held_out_loss:.3g}, so the rows are interpolated; a higher rate from the first "
        "parameters may find a wider minimum"
    )
    new = HOTTER * learning_rate
    return Decision(
        knob="learning_rate", old=learning_rate, new=new, because=because, from_start=True
    )
