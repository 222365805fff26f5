"""The report's charts by name."""

from __future__ import annotations

from collections.abc import Callable

from downslope.errors import DataError, UsageError
from downslope.report.blocks import Chart, Gap
from downslope.report.run_data import RunData
from downslope.report.sections import data, descent, landscape, machine, noise, price

CHARTS: dict[str, Callable[[RunData], Chart | Gap]] = {
    "descent-over-examples": lambda run: descent.loss_chart(run, "examples"),
    "descent-over-time": lambda run: descent.loss_chart(run, "time"),
    "noise-scale": noise.scale_chart,
    "signal": noise.signal_chart,
    "spent": price.spent_chart,
    "angle": price.angle_chart,
    "step-time": machine.step_chart,
    "rate": machine.rate_chart,
    "waiting": machine.waiting_chart,
    "stability": landscape.stability_chart,
    "equilibrium": landscape.equilibrium_chart,
    "slice": landscape.slice_chart,
    "path": landscape.path_chart,
    "importance": data.importance_chart,
    "calibration": data.calibration_chart,
    "residuals": data.residual_chart,
}


def chart(run: RunData, name: str) -> Chart:
    """A chart of a run.

    Raises:
        UsageError: there is none of this name.
        DataError: the run has nothing to draw it from.
    """
    if name not in CHARTS:
        raise UsageError(f"name must be one of {', '.join(CHARTS)}; got {name!r}")
    found = CHARTS[name](run)
    if isinstance(found, Gap):
        raise DataError(f"no chart of {name!r} ({found.reason})", path=run.folder)
    return found
