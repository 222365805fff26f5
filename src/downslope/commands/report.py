"""`downslope report`: one page about one or several runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.arguments import number
from downslope.commands.common import COMMON, AsJson, Common, cache_programs, show
from downslope.errors import DataError, UsageError


def report(
    *runs: Annotated[Path, Parameter(name="RUN", help="folders of runs")],
    out: Annotated[
        Path | None,
        Parameter(
            metavar="FILE",
            help="the page to write (default: RUN/report.html; for several runs report.html)",
        ),
    ] = None,
    evidence: Annotated[
        float | None,
        Parameter(
            metavar="SECONDS",
            help="for runs on tables: gather first, in about so many seconds each, what the page "
            "says of the model and its rows; fit leaves out what would take longer than training",
        ),
    ] = None,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Write the report of a run, or of several side by side.

    Writes one self-contained HTML file: what was trained and how well, the descent, the noise,
    the machine, the landscape, the data, and the command to repeat it. A run in progress has a
    report too.

    Example:
        $ downslope report runs/houses-1
        $ downslope report runs/houses-1 --evidence 10
        $ downslope report runs/houses-1 runs/houses-2 --out both.html
    """
    if not runs:
        raise UsageError("RUN is needed: the folder of a run that fit made")

    from downslope.report import write_report

    if evidence is not None:
        number("--evidence", evidence, above=0)
        cache_programs()
        from downslope.table.evidence import gather

        for run in runs:
            try:
                gather(run, seconds=evidence)
            except DataError as error:  # of no table, or without a model yet: it has a page too
                print(f"downslope: nothing gathered: {error}", file=sys.stderr)
    page = write_report(runs, out)
    show(page, json, {"report": str(page)})
    return 0
