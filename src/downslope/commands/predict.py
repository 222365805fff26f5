"""`downslope predict`: predictions with a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from downslope.commands.common import COMMON, AsJson, Common, Switch, cache_programs, show
from downslope.estimate import counted


def predict(
    run: Annotated[Path, Parameter(help="folder of a run")],
    table: Annotated[Path, Parameter(help="the rows to predict")],
    /,
    *,
    out: Annotated[Path, Parameter(metavar="FILE", help="Parquet file to write")],
    interval: Annotated[
        float | None,
        Parameter(
            metavar="SHARE",
            help="for numbers: write intervals too, lower and upper, that cover this share of true "
            "values, such as 0.9",
        ),
    ] = None,
    overwrite: Annotated[Switch, Parameter(help="replace the file if it exists")] = False,
    json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Predict with a trained run.

    Writes one row of predictions for each row of a table, in the same order: `prediction`, and for
    classes `probability_<class>`. Of several targets each has these columns, with its name and `_`
    before theirs.

    Example:
        $ downslope predict runs/houses-1 new.csv --out predictions.parquet
        $ downslope predict runs/houses-1 new.csv --out predictions.parquet --interval 0.9
    """
    cache_programs()

    from downslope.table import predict as recipe

    found = recipe.predict(run, table, out, interval=interval, overwrite=overwrite)
    for column, count in found.unseen.items():
        print(
            f"column {column!r}: categories not seen in training in {counted(count, 'row')}, "
            "treated as unknown",
            file=sys.stderr,
        )
    for column, count in found.missing.items():
        print(
            f"column {column!r}: no value in {counted(count, 'row')}, though training had one in "
            "every row; treated as the mean",
            file=sys.stderr,
        )
    values = {"out": str(out), "num_rows": found.num_rows, "unseen": found.unseen}
    text = f"{counted(found.num_rows, 'row')} of predictions in {out}"
    show(text, json, {**values, "missing": found.missing})
    return 0
