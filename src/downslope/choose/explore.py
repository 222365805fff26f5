"""Whether to look at another batch size: to learn what an update of it takes."""

from __future__ import annotations

from downslope.choose.decision import Decision, policy
from downslope.choose.ranges import short, spoken

SHARE = 10.0  # compiling must have taken at most this part of the time so far
GAIN = 0.1  # the part of the rest that a larger batch must be able to save at best


def may_pay(
    *,
    batch_size: float,
    candidate: float,
    noise_lo: float | None,
    noise_hi: float | None,
    seconds: float,
    cost: float,
) -> bool:
    """Whether a batch size is worth its compiling only to see how long an update takes.

    At the best a larger batch takes as long as the present one, and a smaller one its share of
    that time. Then the rest takes (1 + B_noise/b')/(1 + B_noise/b) of its time, for a smaller batch
    b'/b times that. As much as the run has lasted is taken to be left.

    Args:
        batch_size, candidate: b and b'.
        noise_lo, noise_hi: ends of the noise scale's interval; None where there is none.
        seconds: that the run has lasted.
        cost: seconds that compiling takes.

    Example:
        >>> known = dict(batch_size=128, noise_lo=4, seconds=30, cost=1)
        >>> [may_pay(candidate=512, noise_hi=high, **known) for high in (1000, 5)]
        [True, False]
        >>> may_pay(candidate=32, noise_hi=1000, **known)
        True
    """
    if seconds < SHARE * cost:
        return False
    if noise_lo is None and noise_hi is None:
        return False  # nothing would tell whether to stay there
    if candidate < batch_size:
        noise = noise_lo or 0.0
    elif noise_hi is None:  # as large as may be: at the best an update is worth b'/b
        return (1 - batch_size / candidate) * seconds > cost
    else:
        noise = noise_hi
    best = (1 + noise / candidate) / (1 + noise / batch_size) * min(1.0, candidate / batch_size)
    return (1 - best) >= GAIN and (1 - best) * seconds > cost


@policy
def look_at_batch(
    *,
    batch_size: int,
    candidate: int,
    noise_lo: float | None,
    noise_hi: float | None,
    seconds: float,
    cost: float,
) -> Decision | None:
    """Trains with another batch size, compiled meanwhile, to learn what an update of it takes.

    Args:
        batch_size, candidate, noise_lo, noise_hi, seconds, cost: as for `may_pay`.

    Example:
        >>> print(look_at_batch(batch_size=128, candidate=512, noise_lo=90, noise_hi=None,
        ...                     seconds=30, cost=1.2))
        batch_size 128 -> 512: it was compiled in the background in 1.2 s of 30 s so far; training
        goes on with it to see what an update takes
    """
    if not may_pay(
        batch_size=batch_size,
        candidate=candidate,
        noise_lo=noise_lo,
        noise_hi=noise_hi,
        seconds=seconds,
        cost=cost,
    ):
        return None
    noise = "" if noise_hi is None else f", the noise scale is at most {short(noise_hi)} examples"
    because = (
        f"it was compiled in the background in {spoken(cost)} of {spoken(seconds)} so far{noise}; "
        "training goes on with it to see what an update takes"
    )
    return Decision(knob="batch_size", old=batch_size, new=candidate, because=because)
