"""Facts about the data and the optimizer that a point does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from downslope.estimate import Estimate
from downslope.noise.trajectory.record import Trajectory


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Facts beside the point; each opens a subject or a part of one.

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
