"""`downslope predict`: predictions with a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.commands.common import (
    COMMON,
    AsJson,
    Common,
    Switch,
    cache_programs,
    format_rows,
    show,
)


def predict(
    run: Annotated[Path, Parameter(help="folder of a run")],
    table: Annotated[Path, Parameter(help="the rows to predict")],
    /,
    *,
    out: Annotated[Path, Parameter(metavar="FILE", help="Parquet file to write")],
    overwrite: Annotated[Switch, Parameter(help="replace the file if it exists")] = False,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Predict with a trained run.

    Writes one row of predictions for each row of a table, in the same order: `prediction`, and for
    classes `probability_<class>`.

    Example:
        $ downslope predict runs/houses-1 new.csv --out predictions.parquet
    """
    cache_programs()

    from downslope.table import predict as recipe

    found = recipe.predict(run, table, out, overwrite=overwrite)
    for column, count in found.unseen.items():
        print(
            f"column {column!r}: categories not seen in training in {format_rows(count)}, "
            "treated as unknown",
            file=sys.stderr,
        )
    for column, count in found.missing.items():
        print(
            f"column {column!r}: no value in {format_rows(count)}, though training had one in "
            "every row; treated as the mean",
            file=sys.stderr,
        )
    if json:
        counts = {"unseen": found.unseen, "missing": found.missing}
        show({"out": str(out), "num_rows": found.num_rows, **counts}, json)
    else:
        show(f"{format_rows(found.num_rows)} of predictions in {out}", json)
    return 0
