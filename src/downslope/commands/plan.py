"""`downslope plan`: what-if questions about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.commands.common import (
    COMMON,
    AsJson,
    Common,
    Count,
    Seconds,
    Switch,
    cache_programs,
    show,
)
from downslope.errors import UsageError
from downslope.flags import converter
from downslope.units import parse_bytes, parse_rate


def plan(
    run: Annotated[Path, Parameter(help="folder of a run")],
    /,
    *,
    batch_size: Annotated[
        Count | None, Parameter(help="examples of a step (default: the best)")
    ] = None,
    step_overhead: Annotated[
        Seconds, Parameter(metavar="5ms", help="additional time of every step (default: 0s)")
    ] = 0.0,
    memory: Annotated[
        float | None,
        Parameter(metavar="8GB", converter=converter(parse_bytes), help="memory limit of a step"),
    ] = None,
    measure: Annotated[
        Switch,
        Parameter(
            help="first time updates of several batch sizes on this machine, and keep the times "
            "in the run"
        ),
    ] = False,
    workers: Annotated[
        Count | None, Parameter(help="number of workers (default: the best)")
    ] = None,
    link: Annotated[
        float | None,
        Parameter(
            metavar="1Gbit/s",
            converter=converter(parse_rate),
            help="speed of a worker's connection",
        ),
    ] = None,
    latency: Annotated[
        Seconds,
        Parameter(metavar="50us", help="time of a message whatever its size (default: 50us)"),
    ] = 50e-6,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Ask a run what if: another batch size, another machine, more workers.

    Answers from the journal of a run: the best batch size, the time the run would have taken, how
    many workers are worthwhile and how a step spends its time. Nothing is trained; the answer
    says what the journal cannot tell.

    Example:
        $ downslope plan runs/houses-1 --workers 8 --link 1Gbit/s
    """
    if memory == 0:
        raise UsageError("--memory must be above 0; got 0")

    from downslope.choose import Scenario
    from downslope.table import plan as recipe

    if measure:
        cache_programs()

        from downslope.table.time_batches import time_batches

        time_batches(run)

    scenario = Scenario(
        step_overhead_seconds=step_overhead,
        batch_size=batch_size,
        memory_bytes=memory,
        num_workers=workers,
        bytes_per_second=link,
        latency_seconds=latency,
    )
    show(recipe.plan(run, scenario), json)
    return 0
