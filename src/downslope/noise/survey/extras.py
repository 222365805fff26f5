"""What a caller of an anatomy may know beside the point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from downslope.estimate import Estimate
from downslope.noise.trajectory import Trajectory

TOP = 10  # directions looked at
PRODUCT_ROWS = 128  # gradients that meet the Hessian: each costs a product with all rows
PLAIN = ("sgd", "momentum", "nesterov")  # rules for which temperature and stability have formulas


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a caller may know beside the point; each opens a subject or a part of one.

    Attributes:
        row_numbers: [n], what to call the rows of the sample, or a function that gives the numbers
            of some places in it; by default their place.
        inputs: [n, p], the numbers that the model sees of the sample's rows.
        columns: columns of the stored table in its own order, for the order tests.
        labels: [N], its labels.
        visited: the same columns as training visits them.
        preconditioner: [d], the optimizer's sqrt(v) + epsilon, flat.
        accumulator: mean of the squares summed by AdaGrad, and the steps left.
        decays: decay of every moving average of the optimizer, by name.
        readings: what the run measured of itself, by name.
        losses: the latest training losses, for the edge of stability.
        trajectory: the path so far.
    """

    row_numbers: Any = None
    inputs: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    labels: Any = None
    visited: Mapping[str, Any] = field(default_factory=dict)
    preconditioner: Any = None
    accumulator: tuple[float, int] | None = None
    decays: Mapping[str, float] = field(default_factory=dict)
    readings: Mapping[str, Estimate] = field(default_factory=dict)
    losses: Any = None
    trajectory: Trajectory | None = None


def value_of(found: Any, missing: float | None = None) -> Any:
    """A measurement's value; plain numbers pass."""
    value = found.value if isinstance(found, Estimate) else found
    return missing if value is None else value


def in_percent(share: Estimate) -> str:
    """A share or a chance as a person says it.

    Example:
        >>> in_percent(Estimate(value=0.123, lo=0.1, hi=0.15, unit="probability"))
        '12 % (10 to 15 %)'
    """
    if share.value is None:
        bound, word = (share.hi, "at most") if share.lo is None else (share.lo, "at least")
        return str(share) if bound is None else f"{word} {100 * bound:.2g} %"
    text = f"{100 * share.value:.2g} %"
    if share.lo is None or share.hi is None:
        return text
    return f"{text} ({100 * share.lo:.2g} to {100 * share.hi:.2g} %)"
