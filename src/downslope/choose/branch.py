"""Branch before a change of batch size that is to last: two arms from one state, compared.

The noise scale predicts which of two batch sizes gets further in the same time. In a long run both
are trained with before one is adopted, and held-out rows decide where they can.
"""

from __future__ import annotations

import math

from downslope.choose.decision import Decision, policy
from downslope.choose.next_batch import relative_time, scale_name, scale_text
from downslope.estimate import Z95, Estimate, not_estimable, short, spoken

ARM_SHARE = 1 / 40  # of the time left, for one arm; the winner's is kept, so a branch costs that
# Of a run, for all arms, half of which are kept: with a learning-rate search that loses three
# trials of a 40th each, less than the fifth that trials may take.
BRANCH_SHARE = 0.06
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
    as much longer as it has more examples, and all arms together take at most 6 % of the run.

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
    gain: float | None = None,
    gain_error: float | None = None,
    candidate_gain: float | None = None,
    candidate_gain_error: float | None = None,
    gains_error: float | None = None,
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
        gain, gain_error: fall of the held-out loss in the arm of the present size, at the last
            parameters, and its standard error; None if unknown.
        candidate_gain, candidate_gain_error: the same of the candidate's arm.
        gains_error: standard error of the difference of the two gains.

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
    critical = branched_critical_batch(
        batch_sizes=(batch_size, candidate),
        num_steps=(num_steps, candidate_steps),
        gains=(gain, candidate_gain),
        errors=(gain_error, candidate_gain_error),
        difference_error=gains_error,
    )
    if critical.is_bounded:
        end += f"; by what their updates gained, the critical batch is {critical}"
    return Decision(knob="batch_size", old=batch_size, new=new, because=arms + end)


def branched_critical_batch(
    *,
    batch_sizes: tuple[int, int],
    num_steps: tuple[int, int],
    gains: tuple[float | None, float | None],
    errors: tuple[float | None, float | None],
    difference_error: float | None = None,
) -> Estimate:
    """Critical batch size by what the updates of two arms of a branch gained.

    An update of b examples gains a share 1/(1 + B_crit/b) of what one of very many would: of two
    sizes b < c the gains per update have a ratio r between 1 and c/b, and
    B_crit = (r - 1) b c / (c - r b). Its interval has the rows' noise, not the luck of a path. It
    holds where the rates suit the sizes, and gains are small beside what is left to gain. Where the
    temperature of the larger size is lower, part of its gain is the fall to a lower noise floor,
    and B_crit is biased up; late in a run, when little else is gained, by much.

    Args:
        batch_sizes: two different ones.
        num_steps: updates of the arms.
        gains: falls of the held-out loss in the arms.
        errors: standard errors of the gains.
        difference_error: standard error of their difference, from the same rows; None takes gains
            for independent.

    Returns:
        Examples; only a bound where r itself is not between 1 and c/b. Not estimable where a gain
        does not exceed twice its standard error, or no bound follows.

    Example:
        >>> print(branched_critical_batch(batch_sizes=(64, 256), num_steps=(1000, 1000),
        ...     gains=(0.1, 0.25), errors=(0.002, 0.003)))
        256 (221 to 299) examples

    Source: McCandlish et al. (2018), An empirical model of large-batch training, equation 2.7.
    """
    unit = "examples"
    known = [(g, e) for g, e in zip(gains, errors, strict=True) if g is not None and e is not None]
    if len(known) < 2 or not all(g > NUM_ERRORS * e for g, e in known):
        return not_estimable("an arm gained no more than its noise", unit=unit)
    order = sorted(range(2), key=lambda arm: batch_sizes[arm])
    (b, c), (n, m) = ([each[arm] for arm in order] for each in (batch_sizes, num_steps))
    (g, e), (h, f) = (known[arm] for arm in order)
    common = 0.0 if difference_error is None else (e**2 + f**2 - difference_error**2) / 2
    variance = (e / g) ** 2 + (f / h) ** 2 - 2 * common / (g * h)
    ratio, spread = (h / m) / (g / n), math.exp(Z95 * math.sqrt(max(variance, 0.0)))

    def at(r: float) -> float | None:
        """B_crit, 0 at least; None where it is infinite."""
        return None if r >= c / b else max(0.0, (r - 1) * b * c / (c - r * b))

    lo, value, hi = (at(ratio * factor) for factor in (1 / spread, 1.0, spread))
    if value is None:
        edge = f"an update of {c:,} gained as much more as it has more examples"
        found = Estimate(value=None, lo=lo or None, unit=unit, reason=edge)
        return found if found.is_bounded else not_estimable(edge, unit=unit)
    if value == 0:
        edge = f"an update of {c:,} gained no more than one of {b:,}"
        found = Estimate(value=None, hi=hi or None, unit=unit, reason=edge)
        return found if found.is_bounded else not_estimable(edge, unit=unit)
    return Estimate(value=value, lo=lo, hi=hi, unit=unit, method="gains of two arms of a branch")


def _predicted_ratio(
    noise: tuple[float | None, ...], old: tuple[int, float], new: tuple[int, float]
) -> float | None:
    """Time to a target with the new size over that with the old one; None if unknown."""
    scale = next((each for each in noise if each is not None), None)
    return None if scale is None else relative_time(max(scale, 0.0), old, new)
