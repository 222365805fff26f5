"""`downslope fit`: from a table to a trained model and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from downslope.commands.common import (
    COMMON,
    AsJson,
    Common,
    Given,
    Names,
    Switch,
    cache_programs,
    show,
)
from downslope.commands.fit_one import Asked, Fit, configurations, fit_one, free_folder
from downslope.commands.fit_targets import fit_several, fits_of_targets
from downslope.errors import CapacityError, UsageError
from downslope.flags import within

RUN = Group("Run", sort_key=10)


def fit(
    table: Annotated[Path | None, Parameter(help="the table to train on")] = None,
    /,
    *,
    given: Given | None = None,
    out: Annotated[
        Path | None,
        Parameter(metavar="RUN", group=RUN, help="folder to make (default: runs/NAME-N)"),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            metavar="RUN",
            group=RUN,
            help="continue a run from its last checkpoint, with the same table and options; only "
            "limits (--epochs, --steps, --time, --until, --patience) may change",
        ),
    ] = None,
    explain: Annotated[
        Switch, Parameter(group=RUN, help="print every choice and its reason")
    ] = False,
    dry_run: Annotated[
        Switch,
        Parameter(
            group=RUN,
            help="print the plan (batch size, learning rate, memory, time) and train nothing",
        ),
    ] = False,
    folds: Annotated[
        int | None,
        Parameter(
            metavar="N",
            group=RUN,
            validator=within(least=2),
            help="also cross-validate: train N models, each on all but one fold, and write "
            "out-of-fold predictions to RUN/folds/out_of_fold.parquet",
        ),
    ] = None,
    no_report: Annotated[Switch, Parameter(group=RUN, help="write no report at the end")] = False,
    log: Annotated[
        Names | None,
        Parameter(
            metavar="NAME:WHERE",
            group=RUN,
            help="also log to tensorboard:FOLDER, mlflow:URI, wandb:PROJECT or trackio:PROJECT",
        ),
    ] = None,
    json: Annotated[AsJson, Parameter(group=RUN)] = False,
    common: Common = COMMON,
    line: Annotated[str | None, Parameter(parse=False)] = None,
) -> int:
    """Train a model on a table.

    Trains a model that predicts one column of a table from the others, saves it in a folder
    and writes a report beside it; for several targets a model each. TABLE is a Parquet file or
    a folder of them, Arrow IPC, CSV, .npy or .npz. Options that are not given are chosen while
    training. The last line is the command to type next.

    Example:
        $ downslope fit houses.csv --target price
        $ downslope report runs/houses-1
        $ downslope predict runs/houses-1 new.csv --out predictions.parquet
    """
    if folds is not None and resume is not None:
        raise UsageError(
            "--folds and --resume exclude each other: folds are trained from the start"
        )
    asked = Asked(
        explain=explain, folds=folds, has_report=not no_report, log=log or (), line=line,
        speaks=not json,
    )  # fmt: skip
    cache_programs()
    names = (given or {}).get("target") or ()
    fits = fits_of_targets(table, names, given or {}, out, resume)
    if not fits:
        path, configs = configurations(table, given or {}, out, resume)
        fits = [Fit(path, configs, resume or out or free_folder(path), resume is not None)]
    if dry_run:
        return _dry_run(fits, json)
    for each in fits:
        if folds is not None:
            from downslope.table.folds import checked_folds

            checked_folds(each.path, each.configs[0], folds)  # before the time of a run is spent
    if fits[0].among is not None:
        return fit_several(fits, asked, json, resumes=resume is not None)
    values: dict[str, Any] = {}
    try:
        return fit_one(fits[0], asked, values)
    finally:
        if json and values:
            show("", json, values)


def _dry_run(fits: list[Fit], json: bool) -> int:
    from downslope.table.dry_run import dry_run

    plans = {each.target: dry_run(each.path, *each.configs) for each in fits}
    if fits[0].among is None:
        show(plans[fits[0].target], json)
    else:
        text = "\n".join(f"target {name!r}\n{plan}" for name, plan in plans.items())
        show(text, json, {"targets": {name: plan.to_json() for name, plan in plans.items()}})
    return 0 if all(plan.fits for plan in plans.values()) else CapacityError.exit_code
