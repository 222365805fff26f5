"""`downslope fit`: from a table to a trained model and its report."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from downslope.errors import CapacityError, MismatchError, StopReason, UsageError
from downslope.flags import CONFIGS, configured, within
from downslope.launch.local import Terminated

if TYPE_CHECKING:
    from downslope.check.findings import Finding
    from downslope.table.fit import TableResult

RUN = Group("Run", sort_key=10)
# Time to gather what the report says of model and rows: a share of the run's, within these bounds.
EVIDENCE_SHARE, MIN_EVIDENCE, MAX_EVIDENCE = 0.2, 0.5, 1.5  # seconds


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
    and writes a report beside it. TABLE is a Parquet file or a folder of them, Arrow IPC, CSV,
    .npy or .npz. Options that are not given are chosen while training. The last line is the
    command to type next.

    Example:
        $ downslope fit houses.csv --target price
        $ downslope report runs/houses-1
        $ downslope predict runs/houses-1 new.csv --out predictions.parquet
    """
    if folds is not None and resume is not None:
        raise UsageError(
            "--folds and --resume exclude each other: folds are trained from the start"
        )
    path, before, limits = _request(table, out, resume)
    configs = [
        configured(config, given or {}, before and before[part], limits)
        for part, config in CONFIGS.items()
    ]
    cache_programs()
    if dry_run:
        from downslope.table.dry_run import dry_run as preview

        planned = preview(path, *configs)
        show(planned, json)
        return 0 if planned.fits else CapacityError.exit_code
    if folds is not None:
        from downslope.table.folds import checked_folds

        checked_folds(path, configs[0], folds)  # before the time of a run is spent
    folder = resume or out or _free_folder(path)
    findings: list[Finding] = []

    from downslope.loggers.names import from_name

    with contextlib.ExitStack() as stack:
        loggers = [stack.enter_context(from_name(name)) for name in log or ()]
        found = _train(path, configs, folder, resume is not None, explain, loggers, findings)
    terminated = found.result.signal == signal.SIGTERM
    code = 128 + signal.SIGTERM if terminated else found.result.stop_reason.exit_code
    page = None
    if not (no_report or found.result.stop_reason is StopReason.INTERRUPTED):
        page, interrupted = _report(folder, line, findings, found.result.seconds)
        code = interrupted or code
    from downslope.table.fit import describe

    values = {**found.summary(), "report": None if page is None else str(page)}
    lines = describe(found, path, report=page)
    if folds is None or code:
        show(lines, json, values)
        return code
    if not json:
        print(lines)
    try:
        told, values["folds"] = _cross_validate(path, configs, folds, folder)
    except BaseException as stop:
        if json:
            show(lines, json, values)
        if isinstance(stop, KeyboardInterrupt):
            stop.args = (f"the model is kept in {folder}, without all folds",)
        raise
    show(told, json, values)
    return code


def _cross_validate(
    path: Path, configs: Any, folds: int, folder: Path
) -> tuple[str, dict[str, Any]]:
    """Scores over all folds, in lines and as plain values."""
    from downslope.table.folds import cross_validate

    out = folder / "folds"
    found = cross_validate(path, *configs, num_folds=folds, out=out, say=_tell)
    values = {name: estimate.to_json() for name, estimate in found.metrics.items()}
    return found.describe(), {"num_folds": folds, "metrics": values}


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _train(
    path: Path,
    configs: Any,
    folder: Path,
    resumes: bool,
    explain: bool,
    loggers: list[Any],
    findings: list[Finding],
) -> TableResult:
    """Train; findings about the table are appended to `findings`."""
    from downslope.report.progress import Progress
    from downslope.table import fit as recipe
    from downslope.table.check import quick_checks

    def check(stored: Any, options: Any) -> list[Finding]:
        findings.extend(quick_checks(stored, options))
        return [f for f in findings if f.severity in ("warning", "error")]

    try:
        with Progress(sys.stderr, explain=explain) as progress:
            return recipe.fit(
                path,
                *configs,
                out=None if resumes else folder,
                resume=folder if resumes else None,
                readers=(progress, *loggers),
                say=progress.say,
                check=check,
            )
    except (KeyboardInterrupt, CapacityError) as stop:
        if folder.exists():
            resume = f"go on with: downslope fit --resume {shlex.quote(str(folder))}"
            stop.args = (f"{stop}; then {resume}" if stop.args else resume,)
        raise


def _report(
    run: Path, line: str | None, findings: list[Finding], run_seconds: float
) -> tuple[Path | None, int]:
    """The page, and an exit code other than 0 if a signal ended the writing."""
    code = 0
    try:
        from downslope.report import write_report
        from downslope.table.evidence import gather

        seconds = min(max(EVIDENCE_SHARE * run_seconds, MIN_EVIDENCE), MAX_EVIDENCE)
        gather(run, seconds=seconds, command=line, findings=findings or None)
        return write_report([run]), code
    except Exception as error:  # of any kind: the model is saved, and is what the user wanted
        why = " ".join(f"{type(error).__name__}: {error}".split())
    except KeyboardInterrupt as stop:
        why = "interrupted"
        code = 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
    again = shlex.join(["downslope", "report", str(run)])
    print(f"downslope: no report, but the model is saved: {why}; try {again}", file=sys.stderr)
    return None, code


def _request(
    table: Path | None, out: Path | None, resume: Path | None
) -> tuple[Path, dict[str, Any] | None, Collection[str]]:
    """The table, and for a run to resume its options and the names of those that may change."""
    if resume is None:
        if table is None:
            raise UsageError("TABLE is needed: a Parquet, Arrow, CSV, .npy or .npz file")
        return table, None, ()
    if out is not None:
        raise UsageError("--out and --resume exclude each other: a resumed run keeps its folder")

    from downslope.table.run import request_of
    from downslope.train.run_folder import LIMITS

    asked = request_of(resume)
    path = Path(str(asked.path))
    if table is not None and table.resolve() != path:
        raise MismatchError(
            f"TABLE was {path} when the run began and is now {table}; leave it out, or "
            "start a new run"
        )
    training = asked.training | (asked.asked or {})  # settings that depend on the model again
    before = {"table": vars(asked.table), "model": vars(asked.model), "training": training}
    return path, before, LIMITS


def _free_folder(path: Path) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that does not exist."""
    name = path.resolve().name.split(".")[0] or "table"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder
