"""Time of an update from counts of operations, before anything is compiled or measured."""

from __future__ import annotations

import math
import os
from typing import Any

import jax

from downslope.choose.step_time import StepTimes, line_times
from downslope.objective import Objective, Params

# Sustained rates, assumed: a factor of 2 in them moves a batch size that follows from them by 1.4.
CORE_FLOPS, ACCELERATOR_FLOPS = 3e10, 2e13  # per second
CPU_BYTES, ACCELERATOR_BYTES = 1e10, 1e12  # per second
CPU_LAUNCH, ACCELERATOR_LAUNCH = 2e-5, 1e-4  # seconds of an update that does nothing
BACKWARD = 3  # operations of a loss with its gradient over those of the loss
UPDATE_BYTES = 40  # read and written per parameter: itself, gradient, two moments and an average


def counted_times(objective: Objective, params: Params, rows: Any, count: int) -> StepTimes | None:
    """Step times from the operations of the loss on `count` rows; None if they are not counted.

    The same on every run of a machine, unlike a clock. Nothing is compiled.
    """

    def loss(params: Params, rows: Any) -> Any:
        return objective.losses(params, rows, jax.random.key(0))

    try:
        analysis: Any = jax.jit(loss).lower(params, rows).cost_analysis()
        flops = float((analysis or {}).get("flops", math.nan))
    except Exception:  # what a backend does not count is not known; training needs it not
        return None
    if not flops > 0:
        return None
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    on_cpu = jax.default_backend() == "cpu"
    speed = CORE_FLOPS * (os.cpu_count() or 1) if on_cpu else ACCELERATOR_FLOPS
    launch = CPU_LAUNCH if on_cpu else ACCELERATOR_LAUNCH
    return line_times(
        fixed_seconds=launch + UPDATE_BYTES * size / (CPU_BYTES if on_cpu else ACCELERATOR_BYTES),
        seconds_per_example=BACKWARD * flops / count / speed,
    )
