"""`downslope predict`: predictions of a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.commands.common import COMMON, AsJson, Common, rows, show, use_cache


def predict(
    run: Annotated[Path, Parameter(help="folder of a run")],
    table: Annotated[Path, Parameter(help="the table to predict for")],
    /,
    *,
    out: Annotated[Path, Parameter(metavar="FILE", help="Parquet file to write")],
    overwrite: Annotated[
        bool, Parameter(negative="", help="replace the file if it exists")
    ] = False,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Predict with a trained run.

    Writes one row of predictions for each row of a table, in its order: `prediction`, and for
    classes `probability_<class>`.

    Example:
        $ downslope predict runs/houses-1 new.csv --out predictions.parquet
    """
    use_cache()

    from downslope.table import predict as recipe

    found = recipe.predict(run, table, out, overwrite=overwrite)
    for column, count in found.unseen.items():
        print(
            f"column {column!r}: a category that training had not seen in {rows(count)}, "
            "read as unknown",
            file=sys.stderr,
        )
    for column, count in found.missing.items():
        print(
            f"column {column!r}: no value in {rows(count)}, though training had one in every "
            "row; read as the mean",
            file=sys.stderr,
        )
    if json:
        counts = {"unseen": found.unseen, "missing": found.missing}
        show({"out": str(out), "num_rows": found.num_rows, **counts}, json)
    else:
        show(f"{rows(found.num_rows)} of predictions in {out}", json)
    return 0
