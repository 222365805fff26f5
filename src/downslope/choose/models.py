"""Choice between a simple model and a larger one, by their losses of the same held-out rows."""

from __future__ import annotations

from downslope.choose.decision import Decision, policy

BEYOND_NOISE = 2.0  # standard errors of the mean difference, row by row


@policy
def choose_between(
    *, simple: str, larger: str, gain: float | None, error: float | None, num_rows: int
) -> Decision:
    """The model that is better on held-out rows beyond noise; else both, averaged.

    Where their difference is noise, the mean of two predictions that err differently is at least as
    good as either for every convex loss, and mostly better. Without held-out rows nothing tells
    whether the larger one overfits, and the simple one is taken.

    Args:
        simple, larger: their names.
        gain: mean loss of the simple one minus that of the larger one, row by row; None without
            held-out rows.
        error: standard error of `gain`.
        num_rows: held-out rows.

    Example:
        >>> names = {"simple": "linear", "larger": "net"}
        >>> print(choose_between(**names, gain=0.02, error=0.002, num_rows=500))
        model auto -> net: on 500 held-out rows its loss is lower by 0.02, 10 times the noise
    """
    if gain is None or error is None:
        because = f"no rows are held out, which would show whether the {larger} overfits"
        return Decision(knob="model", old="auto", new=simple, because=because)
    if abs(gain) <= BEYOND_NOISE * error:
        because = (
            f"on {num_rows:,} held-out rows the two differ by {abs(gain):.2g}, which is noise "
            f"(standard error {error:.2g}): their predictions are averaged"
        )
        return Decision(knob="model", old="auto", new=f"{simple} and {larger}", because=because)
    times = f", {abs(gain) / error:.2g} times the noise" if error > 0 else ""
    because = f"on {num_rows:,} held-out rows its loss is lower by {abs(gain):.2g}{times}"
    return Decision(knob="model", old="auto", new=larger if gain > 0 else simple, because=because)
