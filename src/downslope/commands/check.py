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
    configs_of,
    show,
    use_cache,
)
from downslope.errors import UsageError


def check(
    table: Annotated[Path, Parameter(help="the table to look at")],
    /,
    *,
    only: Annotated[
        Names | None, Parameter(metavar="NAME,NAME", help="checks to make (default: all)")
    ] = None,
    json: AsJson = False,
    given: Given | None = None,
    common: Common = COMMON,
) -> int:
    """Look at a table before training on it.

    Says what is to be known of a table, and of a run on it, before the first step, one line a
    check, the worst first: target, leaks, overlap, duplicates, constant, categories, missing,
    scale, condition, order, memory, pace. Nothing is trained. Exit code 3 says that training
    would be meaningless, 5 that it would not fit into memory.

    Example:
        $ downslope check houses.csv --target price --model mlp
    """
    configs = configs_of(given)
    if configs[0].target is None:
        raise UsageError("target is needed: the column to predict")
    use_cache()

    from downslope.table.check import check_table

    found = check_table(table, *configs, only=only)
    if json:
        show({"table": str(table), "findings": [finding.to_json() for finding in found]}, json)
    else:
        show("\n".join(map(str, found)), json)
    errors = [finding.name for finding in found if finding.severity == "error"]
    return 0 if not errors else 5 if errors == ["memory"] else 3
