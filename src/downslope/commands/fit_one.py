"""One run of `downslope fit`: trained, reported, cross-validated."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from downslope.commands.common import show
from downslope.errors import CapacityError, MismatchError, StopReason, UsageError
from downslope.flags import CONFIGS, configured
from downslope.launch.local import Terminated

if TYPE_CHECKING:
    from downslope.check.findings import Finding
    from downslope.table.fit import TableResult
    from downslope.table.targets import TargetRuns

# Time to gather what the report says of model and rows: a share of the run's, within these bounds.
EVIDENCE_SHARE, MIN_EVIDENCE, MAX_EVIDENCE = 0.2, 0.5, 1.5  # seconds


class Asked(NamedTuple):
    """Requests of the command beside the configuration."""

    explain: bool
    folds: int | None
    has_report: bool
    log: tuple[str, ...]
    line: str | None
    speaks: bool  # text for people, on standard output


class Fit(NamedTuple):
    """A run to make or to resume, of one target."""

    path: Path
    configs: list[Any]
    folder: Path
    resumes: bool
    among: TargetRuns | None = None  # runs of several targets, of which it is one

    @property
    def target(self) -> str | None:
        return self.configs[0].target


def configurations(
    table: Path | None, given: dict[str, Any], out: Path | None, resume: Path | None
) -> tuple[Path, list[Any]]:
    """The table, and the options of table, model and training."""
    path, before, limits = _request(table, out, resume)
    return path, [
        configured(config, given, before and before[part], limits)
        for part, config in CONFIGS.items()
    ]


def fit_one(each: Fit, asked: Asked, values: dict[str, Any]) -> int:
    """Train, write a report, cross-validate; fills `values` with numbers; gives an exit code."""
    findings: list[Finding] = []

    from downslope.loggers.names import from_name

    with contextlib.ExitStack() as stack:
        names = [_of_target(name, each) for name in asked.log]
        loggers = [stack.enter_context(from_name(name)) for name in names]
        found = _train(each, asked.explain, loggers, findings)
    terminated = found.result.signal == signal.SIGTERM
    code = 128 + signal.SIGTERM if terminated else found.result.stop_reason.exit_code
    page = None
    if asked.has_report and found.result.stop_reason is not StopReason.INTERRUPTED:
        page, interrupted = _report(each.folder, asked.line, findings, found.result.seconds)
        code = interrupted or code
    from downslope.table.fit import describe

    values |= {**found.summary(), "report": None if page is None else str(page)}
    if asked.speaks:
        show(describe(found, each.path, report=page, proposes=each.among is None), False)
    if asked.folds is None or code:
        return code
    try:
        told, values["folds"] = _cross_validate(each, asked.folds)
    except KeyboardInterrupt as stop:
        told = f"the model is kept in {each.folder}, without all folds"
        stop.args = (told if each.among is None else f"{told}; then {_resume(each)}",)
        raise
    if asked.speaks:
        show(told, False)
    return code


def _of_target(name: str, each: Fit) -> str:
    """Name of a logger, with a folder of its own for each of several targets."""
    is_folder = name.startswith("tensorboard:")
    return f"{name}/{each.folder.name}" if each.among is not None and is_folder else name


def _cross_validate(each: Fit, folds: int) -> tuple[str, dict[str, Any]]:
    """Scores over all folds, in lines and as plain values."""
    from downslope.table.folds import cross_validate

    out = each.folder / "folds"
    found = cross_validate(each.path, *each.configs, num_folds=folds, out=out, say=_tell)
    values = {name: estimate.to_json() for name, estimate in found.metrics.items()}
    return found.describe(), {"num_folds": folds, "metrics": values}


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _train(each: Fit, explain: bool, loggers: list[Any], findings: list[Finding]) -> TableResult:
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
                each.path,
                *each.configs,
                out=None if each.resumes else each.folder,
                resume=each.folder if each.resumes else None,
                readers=(progress, *loggers),
                say=progress.say,
                check=check,
            )
    except (KeyboardInterrupt, CapacityError) as stop:
        runs = [each.folder] if each.among is None else each.among.runs.values()
        if any(run.exists() for run in runs):
            stop.args = (f"{stop}; then {_resume(each)}" if stop.args else _resume(each),)
        raise


def _resume(each: Fit) -> str:
    folder = each.folder if each.among is None else each.among.folder
    return f"go on with: downslope fit --resume {shlex.quote(str(folder))}"


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


def free_folder(path: Path) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that does not exist."""
    name = path.resolve().name.split(".")[0] or "table"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder
