"""Branch before a change of batch size that is to last: two arms from one state, compared.

The noise scale predicts which of two batch sizes gets further in the same time. In a long run both
are trained with before one is adopted, and held-out rows decide where they can.
"""

from __future__ import annotations

import math

from downslope.choose.decision import Decision, policy
from downslope.choose.next_batch import relative_time, scale_name, scale_text
from downslope.estimate import short, spoken

ARM_SHARE = 1 / 40  # of the time left, for one arm; the winner's is kept, so a branch costs that
# Of a run, for all arms, half of which are kept: with a learning-rate search that loses three
# trials of a 40th each, less than the fifth that trials may take.
BRANCH_SHARE = 0.1
MIN_ARM = 100  # updates of an arm: nadam averages squares over as many, so fewer say little
NUM_ERRORS = 2.0  # standard errors that a difference must exceed: 5 % by chance


def arm_seconds(
    *,
    batch_size: int,
    candidate: int,
    step_seconds: float,
    seconds: float,
    done: float | None,
    spent_seconds: float,
) -> float | None:
    """Time of updates for each arm of a branch; None if the run is too short for one.

    A 40th of the time left. An arm of the larger size must make 100 updates even if an update takes
    as much longer as it has more examples, and all arms together take at most a tenth of the run.

    Args:
        batch_size, candidate: present and proposed size.
        step_seconds: time of an update at the present size.
        seconds: duration of the run so far.
        done: share of the run that is done; if unknown, as much is left as has passed.
        spent_seconds: time of the arms of earlier branches.

    Example:
        >>> known = dict(batch_size=64, candidate=256, step_seconds=1e-3, spent_seconds=0)
        >>> arm_seconds(seconds=10, done=0.2, **known)
        1.0
        >>> arm_seconds(seconds=10, done=0.5, **known), arm_seconds(seconds=20, done=None, **known)
        (None, 0.5)
    """
    left = seconds * (1 - done) / done if done else seconds
    arm = ARM_SHARE * left
    longest = step_seconds * max(1.0, candidate / batch_size)
    if arm < MIN_ARM * longest or spent_seconds + 2 * arm > BRANCH_SHARE * (seconds + left):
        return None
    return arm


@policy
def settle_batch_size(
    *,
    batch_size: int,
    candidate: int,
    num_steps: int,
    candidate_steps: int,
    arm_seconds: float,
    difference: float | None,
    error: float | None,
    num_rows: int,
    loss: float | None,
    tolerance: float,
    noise_scale: float | None,
    noise_lo: float | None,
    noise_hi: float | None,
    step_seconds: float,
    candidate_seconds: float,
    was_refused: bool = False,
    is_preconditioned: bool = False,
) -> Decision | None:
    """Batch size to continue with after a branch.

    By the held-out losses, if they differ by more than twice the standard error of the paired
    difference and by more than `tolerance` of the loss; else by the time that the noise scale
    predicts, unless an earlier branch refuted that.

    Args:
        batch_size, candidate: present and proposed size.
        num_steps, candidate_steps: updates of their arms, which took about the same time.
        arm_seconds: that time.
        difference: mean over the held-out rows of the loss at the end of the candidate's arm minus
            that at the end of the other; infinite if an arm diverged, None if both did.
        error: its standard error, from the differences of single rows; None if unknown.
        num_rows: held-out rows.
        loss: scale of the tolerance; None if unknown.
        tolerance: relative difference that counts.
        noise_scale, noise_lo, noise_hi: predicted critical batch size with the ends of its
            interval, in examples; None if unknown.
        step_seconds, candidate_seconds: time of an update at each size.
        was_refused: an earlier branch refused the candidate.
        is_preconditioned: the prediction is the noise scale in the metric of a preconditioned
            optimizer.

    Example:
        >>> arms = dict(batch_size=64, candidate=256, num_steps=1600, candidate_steps=800,
        ...             arm_seconds=1.6, num_rows=2048, loss=0.5, tolerance=1e-3, noise_scale=900,
        ...             noise_lo=700, noise_hi=1200, step_seconds=1e-3, candidate_seconds=2e-3)
        >>> print(settle_batch_size(difference=0.02, error=0.003, **arms))
        batch_size 64 -> 64: predicted critical batch 900 (700 to 1,200) by the Euclidean noise
        scale, so the rest takes 0.6 of its time with 256; branched: after 1.6 s each, in 800
        updates of 256 and 1,600 of 64, the held-out loss was higher by 0.02 with 256 (standard
        error 0.003, 2,048 rows): refused
        >>> print(settle_batch_size(difference=0.002, error=0.003, **arms))
        batch_size 64 -> 256: predicted critical batch 900 (700 to 1,200) by the Euclidean noise
        scale, so the rest takes 0.6 of its time with 256; branched: after 1.6 s each, in 800
        updates of 256 and 1,600 of 64, they were not told apart by 2,048 held-out rows (difference
        0.002, standard error 0.003): as predicted
    """
    noise = (noise_scale, noise_lo, noise_hi)
    ratio = _predicted_ratio(noise, (batch_size, step_seconds), (candidate, candidate_seconds))
    predicted = "no critical batch was predicted"
    if ratio is not None:
        interval = noise_lo or 0.0, math.inf if noise_hi is None else noise_hi
        predicted = (
            f"predicted critical batch {scale_text(noise_scale, *interval)} by the "
            f"{scale_name(is_preconditioned)}, so the rest takes {short(ratio)} of its time with "
            f"{candidate:,}"
        )
    arms = (
        f"{predicted}; branched: after {spoken(arm_seconds)} each, in {candidate_steps:,} updates "
        f"of {candidate:,} and {num_steps:,} of {batch_size:,}, "
    )
    rows = f"{num_rows:,} rows"
    beyond = max(NUM_ERRORS * (error or 0.0), tolerance * abs(loss or 0.0))
    if difference is None:
        new, end = batch_size, "both diverged: no change"
    elif math.isinf(difference):
        new = candidate if difference < 0 else batch_size
        end = f"that of {batch_size if difference < 0 else candidate:,} diverged"
    elif error is not None and abs(difference) > beyond:
        is_lower = difference < 0
        new = candidate if is_lower else batch_size
        end = (
            f"the held-out loss was {'lower' if is_lower else 'higher'} by "
            f"{short(abs(difference))} with {candidate:,} (standard error {short(error)}, {rows}): "
            f"{'confirmed' if is_lower else 'refused'}"
        )
    else:
        new = candidate if ratio is not None and ratio < 1 and not was_refused else batch_size
        spread = "unknown" if error is None else short(error)
        reason = "as predicted" if ratio is not None else "no change"
        end = (
            f"they were not told apart by {num_rows:,} held-out rows (difference "
            f"{short(difference)}, standard error {spread}): "
            f"{f'{candidate:,} stays refused' if was_refused else reason}"
        )
    return Decision(knob="batch_size", old=batch_size, new=new, because=arms + end)


def _predicted_ratio(
    noise: tuple[float | None, ...], old: tuple[int, float], new: tuple[int, float]
) -> float | None:
    """Time to a target with the new size over that with the old one; None if unknown."""
    scale = next((each for each in noise if each is not None), None)
    return None if scale is None else relative_time(max(scale, 0.0), old, new)
