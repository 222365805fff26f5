"""`downslope plan`: a run asked what if."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.commands.common import COMMON, AsJson, Common, show, use_cache
from downslope.errors import UsageError
from downslope.flags import at_least, read
from downslope.units import parse_bytes, parse_duration, parse_rate

COUNT = at_least(1)


def plan(
    run: Annotated[Path, Parameter(help="folder of a run")],
    /,
    *,
    batch_size: Annotated[
        int | None,
        Parameter(metavar="N", validator=COUNT, help="examples of a step (default: the best)"),
    ] = None,
    step_overhead: Annotated[
        float,
        Parameter(
            metavar="5ms",
            converter=read(parse_duration),
            help="what each step costs beyond what it did (default: 0s)",
        ),
    ] = 0.0,
    memory: Annotated[
        float | None,
        Parameter(
            metavar="8GB", converter=read(parse_bytes), help="memory that a step must fit into"
        ),
    ] = None,
    measure: Annotated[
        bool,
        Parameter(
            negative="",
            help="time updates of several batch sizes on this machine first, and keep them in "
            "the run",
        ),
    ] = False,
    workers: Annotated[
        int | None, Parameter(metavar="N", validator=COUNT, help="workers (default: the best)")
    ] = None,
    link: Annotated[
        float | None,
        Parameter(
            metavar="1Gbit/s",
            converter=read(parse_rate),
            help="speed of a worker's connection",
        ),
    ] = None,
    latency: Annotated[
        float,
        Parameter(
            metavar="50us",
            converter=read(parse_duration),
            help="what a message costs whatever its size (default: 50us)",
        ),
    ] = 50e-6,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Ask a run what if: another batch size, another machine, more workers.

    Answers from the journal of a run: the best batch size, the time it would have taken, how
    many workers are worth it and what their steps go into. Nothing is trained; what the journal
    cannot tell is said.

    Example:
        $ downslope plan runs/houses-1 --workers 8 --link 1Gbit/s
    """
    if memory == 0:
        raise UsageError("--memory must be above 0; got 0")

    from downslope.choose import Scenario
    from downslope.table import plan as recipe

    if measure:
        use_cache()

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
