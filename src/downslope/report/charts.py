"""The report's charts by name."""

from __future__ import annotations

from downslope.arguments import one_of
from downslope.errors import DataError
from downslope.report.blocks import Chart, Gap
from downslope.report.run_data import RunData
from downslope.report.sections import data, descent, landscape, machine, noise, price

CHARTS = {
    plan.name: plan
    for plan in (
        descent.over_examples, descent.over_time, noise.scale_chart, noise.signal_chart,
        price.spent_chart, price.angle_chart, machine.step_chart, machine.rate_chart,
        machine.waiting_chart, landscape.stability_chart, landscape.equilibrium_chart,
        landscape.slice_chart, landscape.path_chart, data.importance_chart,
        data.calibration_chart, data.residual_chart,
    )
}  # fmt: skip


def chart(run: RunData, name: str) -> Chart:
    """A chart of a run.

    Raises:
        UsageError: there is none of this name.
        DataError: the run has nothing to draw it from.
    """
    found = CHARTS[one_of("name", name, CHARTS)](run)
    if isinstance(found, Gap):
        raise DataError(f"no chart of {name!r} ({found.reason})", path=run.folder)
    return found
