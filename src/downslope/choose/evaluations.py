"""Schedule of evaluations, and the number of held-out rows that they use."""

from __future__ import annotations

import math

from downslope.choose.decision import Decision, policy
from downslope.choose.temperature import gain_scale

EVALUATION_SHARE = 0.03  # largest share of the time for evaluations
NUM_EVALUATIONS = 20  # inside the epochs of a run with a known end; assumed
MIN_UPDATES_BETWEEN = 16  # between evaluations, since an epoch of a small table may have fewer
LONG_EPOCH = 2000  # updates of an epoch that a run without an end does not wait for; assumed
SPACING = 1000  # updates between evaluations in such an epoch; assumed
LATE = 16_000  # updates from which on the spacing grows with the run
ALL_ROWS = 2048  # held-out rows up to which none is left out: they cost next to nothing
SAMPLE_ROWS = 256  # the smallest sample, and the rows of it that are evaluated at once
PRECISION = 0.01  # standard error of the mean loss, relative: paired losses differ by less
FORWARD_SHARE = 1 / 3  # time to evaluate a row over that to train on it: no backward pass
FINAL_SHARE = 0.1  # of a time budget, at most, for the evaluation of all rows at the end
COMPILE_SHARE = 0.3  # of the run: a step that takes longer to compile leaves no time inside epochs


def updates_between(*, step: int, epoch_steps: float | None, run_steps: int | None) -> int | None:
    """Updates between evaluations inside an epoch; None if ends of epochs are frequent enough.

    A twentieth of a run whose updates are known, and 1,000 in a long epoch of a run without an
    end, which grows to between a sixteenth and a 32nd of the updates made. It is a function of
    counts alone, so that runs with the same seed evaluate at the same updates.

    Args:
        step: updates made.
        epoch_steps: updates of an epoch; None if there are no epochs.
        run_steps: updates of the whole run; None if unknown.

    Example:
        >>> updates_between(step=0, epoch_steps=None, run_steps=1000)
        50
        >>> updates_between(step=0, epoch_steps=80, run_steps=1000) is None
        True
        >>> [updates_between(step=s, epoch_steps=1e6, run_steps=None) for s in (0, 31_999, 32_000)]
        [1000, 1000, 2000]
    """
    if run_steps is not None:
        every = max(MIN_UPDATES_BETWEEN, math.ceil(run_steps / NUM_EVALUATIONS))
    elif epoch_steps is not None and epoch_steps > LONG_EPOCH:
        every = SPACING << int(math.log2(max(1.0, step / LATE)))
    else:
        return None
    # ends of epochs are evaluations too
    return every if epoch_steps is None or epoch_steps > 2 * every else None


def is_due_by_clock(
    *, ends_epoch: bool, updates: int, seconds: float, cost_seconds: float, share_done: float
) -> bool:
    """True if an evaluation is due in a run with a time budget.

    At the end of an epoch, or once a twentieth of the run is done; in either case only if
    evaluations stay within their share of the time.

    Args:
        ends_epoch: the latest update is the last one of an epoch.
        updates: made since the latest evaluation.
        seconds: passed since then.
        cost_seconds: time that an evaluation takes, without compiling.
        share_done: share of the run done since the latest evaluation.

    Example:
        >>> given = {"ends_epoch": False, "updates": 40, "seconds": 2.0, "share_done": 0.06}
        >>> is_due_by_clock(cost_seconds=0.05, **given), is_due_by_clock(cost_seconds=0.1, **given)
        (True, False)
    """
    if updates < 1 or seconds * EVALUATION_SHARE < cost_seconds:
        return False
    if ends_epoch and updates >= MIN_UPDATES_BETWEEN:
        return True
    return share_done >= 1 / NUM_EVALUATIONS


@policy
def sample_held_out(
    *,
    num_rows: int,
    spread: float,
    loss: float,
    first_loss: float | None,
    tolerance: float,
    affordable_rows: float,
) -> Decision | None:
    """Number of held-out rows for the evaluations of a run; None for all of them.

    The smallest power of two with a standard error `spread / sqrt(n)` of the mean loss of at most
    a hundredth of it (or `tolerance` of it, if that is larger), but not more than fit into the
    share of the time for evaluations; at least 256. A loss near 0 counts as a hundredth of the
    first one.

    Args:
        num_rows: held-out rows.
        spread: standard deviation of the losses of a first sample.
        loss: its mean loss.
        first_loss: loss of the run's first batch, or None.
        tolerance: relative gain that counts.
        affordable_rows: rows that an evaluation can use within its share of the time.

    Example:
        >>> print(sample_held_out(num_rows=50_000, spread=0.4, loss=1.2, first_loss=2.3,
        ...     tolerance=1e-3, affordable_rows=20_000))
        held_out_rows 50000 -> 2048: the losses of single rows scatter by 0.4, so 2,048 of the
        50,000 held-out rows give a standard error of 0.0088; all of them are evaluated at the end
    """
    if not (math.isfinite(spread) and math.isfinite(loss)):
        return None
    needed = max(tolerance, PRECISION) * gain_scale(loss, first_loss)
    precise = num_rows if needed <= 0 else min(num_rows, math.ceil((spread / needed) ** 2))
    wanted = rows = 1 << (max(SAMPLE_ROWS, precise) - 1).bit_length()
    if wanted > affordable_rows:
        rows = max(SAMPLE_ROWS, 1 << int(affordable_rows).bit_length() >> 1)
    if rows >= num_rows:
        return None
    because = (
        f"the losses of single rows scatter by {spread:.2g}, so {rows:,} of the {num_rows:,} "
        f"held-out rows give a standard error of {spread / math.sqrt(rows):.2g}"
    )
    if rows < wanted:
        because += f", and more would exceed {EVALUATION_SHARE:.0%} of the time"
    because += "; all of them are evaluated at the end"
    return Decision(knob="held_out_rows", old=num_rows, new=rows, because=because)
