"""End of a run at a target of its metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from downslope.choose.controller import Context, Observation, Order
from downslope.choose.decision import Decision, policy
from downslope.estimate import Estimate


def is_reached(
    until: Mapping[str, float], values: Mapping[str, float], higher_is_better: Collection[str]
) -> bool:
    """True if every metric is at its target or better; one without a value is not.

    Example:
        >>> is_reached({"loss": 0.3, "auc": 0.9}, {"loss": 0.3, "auc": 0.95}, {"auc"})
        True
        >>> is_reached({"loss": 0.3, "auc": 0.9}, {"loss": 0.1}, {"auc"})
        False
    """
    for name, target in until.items():
        value = values.get(name)
        if value is None:
            return False
        if not (value >= target if name in higher_is_better else value <= target):
            return False
    return True


@policy
def target_reached(
    *,
    until: Mapping[str, float],
    values: Mapping[str, float],
    lo: Mapping[str, float | None],
    hi: Mapping[str, float | None],
    higher_is_better: tuple[str, ...],
    is_held_out: bool,
) -> Decision | None:
    """Stop once every metric of `until` is at its target or better.

    Args:
        until: targets by metric.
        values: metrics that have a value.
        lo, hi: ends of their 95 % intervals, None if unknown; they decide nothing.
        higher_is_better: metrics of which a higher value is better; of all others a lower one.
        is_held_out: of held-out rows; else the training loss.

    Example:
        >>> print(target_reached(until={"accuracy": 0.95}, values={"accuracy": 0.953},
        ...     lo={"accuracy": 0.948}, hi={"accuracy": 0.957}, higher_is_better=("accuracy",),
        ...     is_held_out=True))
        stop None -> target reached: held-out accuracy 0.9530 (0.9480 to 0.9570) is at least
        0.95, the target
    """
    if not until or not is_reached(until, values, higher_is_better):
        return None
    parts = []
    for name, target in until.items():
        measured = Estimate(value=values[name], lo=lo.get(name), hi=hi.get(name), unit="")
        words = "at least" if name in higher_is_better else "at most"
        parts.append(f"{name} {measured} is {words} {target:g}")
    kind = "held-out" if is_held_out else "training"
    because = f"{kind} {' and '.join(parts)}, the target{'s' * (len(parts) > 1)}"
    return Decision(knob="stop", old=None, new="target reached", because=because)


class Target:
    """Stop a run that has reached the target of `until`."""

    def init(self, context: Context) -> None:
        """No state."""

    def update(
        self, state: None, seen: Observation, decided: tuple[Order, ...]
    ) -> tuple[None, tuple[Order, ...]]:
        """A stop when every target is reached."""
        until = seen.context.training.until
        if not until or seen.metrics is None:
            return None, ()
        known = {n: seen.metrics[n] for n in until if n in seen.metrics}
        decision = target_reached(
            until=until,
            values={name: float(found) for name, found in known.items()},
            lo={name: found.lo for name, found in known.items()},
            hi={name: found.hi for name, found in known.items()},
            higher_is_better=tuple(sorted(seen.higher_is_better & known.keys())),
            is_held_out=seen.context.has_held_out,
        )
        return None, () if decision is None else (decision,)
