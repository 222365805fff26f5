"""`downslope measure`: the gradient noise of a run or of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from downslope.commands.common import (
    COMMON,
    AsJson,
    Common,
    Given,
    Names,
    Seconds,
    Share,
    cache_programs,
    configs_of,
    show,
)
from downslope.errors import DataError, UsageError
from downslope.flags import flag_of, within

MEASURING = Group("Measuring", sort_key=0)


def measure(
    what: Annotated[Path, Parameter(name="RUN|TABLE", help="folder of a run, or a table")],
    /,
    *,
    sections: Annotated[
        Names | None,
        Parameter(metavar="NAME,NAME", group=MEASURING, help="subjects (default: all)"),
    ] = None,
    examples: Annotated[
        int,
        Parameter(
            metavar="N",
            group=MEASURING,
            validator=within(least=2),
            help="rows of the random sample (default: 1024)",
        ),
    ] = 1024,
    stop_after: Annotated[
        Seconds | None, Parameter(group=MEASURING, help="begin no further subject after this time")
    ] = None,
    error: Annotated[
        Share,
        Parameter(
            group=MEASURING,
            help="error of the gradient, relative to its length, for the required batch size "
            "(default: 0.5)",
        ),
    ] = 0.5,
    miss: Annotated[
        Share,
        Parameter(
            metavar="P", group=MEASURING, help="probability of a larger error (default: 0.1)"
        ),
    ] = 0.1,
    json: AsJson = False,
    given: Given | None = None,
    common: Common = COMMON,
) -> int:
    """Measure the gradient noise of a run or a table.

    Prints what the noise of the gradient is like, by subject: gradient, scale, required,
    curvature, covariance, tails, temperature, escape, memory, order, trajectory. RUN is the
    folder of a run on a table. For a TABLE the model is measured before its first step, with
    the options of table, model and training below. Nothing is trained.

    Example:
        $ downslope measure runs/houses-1 --sections scale,tails
        $ downslope measure houses.csv --target price
    """
    if not what.exists():
        remedy = "name the folder of a run, or a table"
        raise DataError("no such file or folder", path=what, remedy=remedy)
    given = given or {}
    is_run = (what / "run.json").is_file() or any(what.glob("*/run.json"))  # or holds some
    if is_run and given:
        flag = min(map(flag_of, given))
        raise UsageError(f"{flag} belongs to a TABLE; a RUN is measured as it was trained")
    if not is_run and "target" not in given:
        raise UsageError("target is needed with a TABLE; a RUN is a folder that fit made")
    cache_programs()

    from downslope.table.measure import measure_run, measure_table

    how = {
        "num_examples": examples,
        "sections": sections,
        "seconds": stop_after,
        "relative_error": error,
        "miss_probability": miss,
    }
    found = measure_run(what, **how) if is_run else measure_table(what, *configs_of(given), **how)
    show(found, json)
    return 0
