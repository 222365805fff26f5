"""`downslope check`: a table before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.commands.common import (
    COMMON,
    AsJson,
    Common,
    Given,
    Names,
    cache_programs,
    configs_of,
    show,
)
from downslope.errors import UsageError


def check(
    table: Annotated[Path, Parameter(help="the table to check")],
    /,
    *,
    only: Annotated[
        Names | None, Parameter(metavar="NAME,NAME", help="checks to make (default: all)")
    ] = None,
    json: AsJson = False,
    given: Given | None = None,
    common: Common = COMMON,
) -> int:
    """Check a table before training on it.

    Prints one line a check about the table and a run on it, the worst first: target, leaks,
    overlap, duplicates, constant, categories, missing, scale, condition, order, memory, pace.
    Nothing is trained. Exit code 3 means that training would be meaningless, 5 that it would not
    fit into memory.

    Example:
        $ downslope check houses.csv --target price --model mlp
    """
    configs = configs_of(given)
    if configs[0].target is None:
        raise UsageError("target is needed: the column to predict")
    cache_programs()

    from downslope.table.check import check_table

    found = check_table(table, *configs, only=only)
    values = {"table": str(table), "findings": [finding.to_json() for finding in found]}
    show("\n".join(map(str, found)), json, values)
    errors = [finding.name for finding in found if finding.severity == "error"]
    return 0 if not errors else 5 if errors == ["memory"] else 3
