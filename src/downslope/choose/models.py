"""Choice between a simple model and a larger one, by their losses of the same held-out rows."""

from __future__ import annotations

from downslope.choose.decision import Decision, policy

BEYOND_NOISE = 2.0  # standard errors of the mean difference, row by row


def is_noise(gain: float, error: float) -> bool:
    """True if a mean difference is at most two of its standard errors.

    Example:
        >>> is_noise(0.02, 0.011), is_noise(-0.02, 0.009)
        (True, False)
    """
    return abs(gain) <= BEYOND_NOISE * error


@policy
def choose_between(
    *,
    simple: str,
    larger: str,
    gain: float | None,
    error: float | None,
    num_rows: int,
    mean_gain: float | None = None,
) -> Decision:
    """The model that is better on held-out rows beyond noise; else the best of both and their mean.

    Where their difference is noise, the mean of two predictions that err differently is at least as
    good as the mean of their losses for every convex loss, and often better than either. Without
    held-out rows nothing tells whether the larger one overfits, and the simple one is taken.

    Args:
        simple, larger: their names.
        gain: mean loss of the simple one minus that of the larger one, row by row; None without
            held-out rows, or where it is not finite.
        error: standard error of `gain`.
        num_rows: held-out rows.
        mean_gain: mean loss of the simple one minus that of the mean of both predictions; only
            used where `gain` is noise, None if unknown.

    Example:
        >>> names = {"simple": "linear", "larger": "net"}
        >>> print(choose_between(**names, gain=0.02, error=0.002, num_rows=500))
        model auto -> net: on 500 held-out rows its loss is lower by 0.02, 10 times the noise
        >>> choose_between(**names, gain=0.02, error=0.02, num_rows=500, mean_gain=0.03).new
        'linear and net'
    """
    if gain is None or error is None:
        why = "held-out losses cannot be compared" if num_rows else "no rows are held out"
        because = f"{why}, which would show whether the {larger} overfits"
        return Decision(knob="model", old="auto", new=simple, because=because)
    if not is_noise(gain, error):
        times = f", {abs(gain) / error:.2g} times the noise" if error > 0 else ""
        because = f"on {num_rows:,} held-out rows its loss is lower by {abs(gain):.2g}{times}"
        return Decision(
            knob="model", old="auto", new=larger if gain > 0 else simple, because=because
        )
    gains = {f"{simple} and {larger}": mean_gain, larger: gain, simple: 0.0}
    known = {name: each for name, each in gains.items() if each is not None}
    best = max(known, key=lambda name: known[name])
    because = (
        f"on {num_rows:,} held-out rows the two differ by {abs(gain):.2g}, which is noise "
        f"(standard error {error:.2g}); of them and the mean of both its loss is lowest"
    )
    return Decision(knob="model", old="auto", new=best, because=because)
