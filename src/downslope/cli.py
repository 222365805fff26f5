"""The command line: `downslope fit`, `predict`, `measure`, `check` and `plan`.

Results go to standard output, everything said on the way to standard error. Heavy modules
are imported once a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from downslope.config import ModelOptions, TableOptions, Training
from downslope.errors import (
    CapacityError,
    DataError,
    DownslopeError,
    MismatchError,
    UsageError,
)
from downslope.flags import add_flags, configured, flag_of, in_flags, parse_seconds
from downslope.launch.local import Terminated, terminable
from downslope.units import parse_bytes, parse_duration, parse_rate


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0 done, 1 a fault of ours, 2 usage, 3 bad input, 4 diverged, 5 out of memory or disk,
    6 checkpoint and run do not match, 130 or 143 interrupted after saving.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        with terminable():
            return options.command(options)
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        known = _known(error)
        print(f"downslope: {_one_line(known or error)}", file=sys.stderr)
        return 1 if known is None else known.exit_code
    except KeyboardInterrupt as stop:
        kept = str(stop) or "nothing was kept"
        print(f"downslope: interrupted; {kept}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"downslope: {message}; see {self.prog} --help\n")


def _known(error: Exception) -> DownslopeError | None:
    """The error as one of ours, where a user can do something about it."""
    if isinstance(error, DownslopeError):
        return error
    if isinstance(error, MemoryError):
        return CapacityError("memory ran out; use a smaller batch or microbatch size")
    if not isinstance(error, OSError):
        return None
    from downslope.storage import DISK_FULL  # here, since it imports NumPy

    reason = (error.strerror or str(error)).lower()
    if error.errno in DISK_FULL:
        return CapacityError(f"{error.filename or 'output'}: {reason}; free some space")
    if error.filename is None:
        return None
    return DataError(reason, path=error.filename, remedy="check the path and its permissions")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UsageError):
        return in_flags(text)
    if isinstance(error, DownslopeError):
        return text
    return f"{type(error).__name__}: {text} (a fault of downslope; --debug shows where)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="downslope",
        description="Mini-batch training for tables of any size.",
        epilog="Exit codes: 0 done, 1 a fault of downslope, 2 usage, 3 bad input, 4 diverged, "
        "5 out of memory or disk, 6 checkpoint and run do not match, 130/143 interrupted "
        "after saving.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_predict(commands)
    _add_measure(commands)
    _add_check(commands)
    _add_plan(commands)
    return parser


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser(
        "fit",
        help="train a model on a table",
        description="Trains a model that predicts one column of a table from the others. "
        "TABLE is a Parquet file or a folder of them, Arrow IPC, CSV, .npy or .npz.",
    )
    fit.add_argument("table", nargs="?", metavar="TABLE", help="the table to train on")
    for title, config in (
        ("table", TableOptions),
        ("model", ModelOptions),
        ("training", Training),
    ):
        add_flags(fit.add_argument_group(title), config)
    run = fit.add_argument_group("run")
    run.add_argument("--out", metavar="RUN", help="folder to make (default: runs/NAME-N)")
    run.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run from its last checkpoint; table and options are those it began "
        "with, limits (--epochs, --steps, --time, --patience) may be new",
    )
    run.add_argument(
        "--explain", action="store_true", help="say every choice that is made, and why"
    )
    run.add_argument(
        "--dry-run", action="store_true",
        help="say what would be done (batch size, learning rate, memory, time), train nothing",
    )  # fmt: skip
    run.add_argument("--json", action="store_true", help="print one JSON object at the end")
    fit.add_argument("--debug", action="store_true", help="show tracebacks")
    fit.set_defaults(command=_fit, parser=fit)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict with a trained run",
        description="Writes one row of predictions for each row of a table, in its order: "
        "`prediction`, and for classes `probability_<class>`.",
    )
    predict.add_argument("run", metavar="RUN", help="folder of a run")
    predict.add_argument("table", metavar="TABLE", help="the table to predict for")
    predict.add_argument("--out", metavar="FILE", required=True, help="Parquet file to write")
    predict.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    predict.add_argument("--json", action="store_true", help="print one JSON object at the end")
    predict.add_argument("--debug", action="store_true", help="show tracebacks")
    predict.set_defaults(command=_predict, parser=predict)


def _add_measure(commands: Any) -> None:
    measure = commands.add_parser(
        "measure",
        help="look at the gradient's noise where a run stands",
        description="Says what the noise of the gradient is like, by subject: gradient, scale, "
        "required, curvature, covariance, tails, temperature, escape, memory, order, trajectory. "
        "RUN is the folder of a run on a table; for a TABLE the model is looked at before its "
        "first step. Nothing is trained.",
    )
    measure.add_argument("what", metavar="RUN|TABLE", help="folder of a run, or a table")
    looks = measure.add_argument_group("measuring")
    looks.add_argument("--sections", metavar="NAME,NAME", help="subjects to look at (default: all)")
    looks.add_argument(
        "--examples", type=int, default=1024, metavar="N",
        help="rows of the random sample (default: 1024)",
    )  # fmt: skip
    looks.add_argument(
        "--stop-after", type=parse_seconds, metavar="60s", help="begin no further subject after"
    )
    looks.add_argument(
        "--error", type=float, default=0.5, metavar="X",
        help="error of the gradient, as a share of its length, for which a batch is asked "
        "(default: 0.5)",
    )  # fmt: skip
    looks.add_argument(
        "--miss", type=float, default=0.1, metavar="P",
        help="chance of a larger error (default: 0.1)",
    )  # fmt: skip
    looks.add_argument("--json", action="store_true", help="print one JSON object")
    for title, config in (
        ("table, where one is given", TableOptions),
        ("model", ModelOptions),
        ("training", Training),
    ):
        add_flags(measure.add_argument_group(title), config)
    measure.add_argument("--debug", action="store_true", help="show tracebacks")
    measure.set_defaults(command=_measure, parser=measure)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="look at a table before training on it",
        description="Says what is to be known of a table, and of a run on it, before the first "
        "step, one line a check, the worst first: target, leaks, overlap, duplicates, constant, "
        "categories, missing, scale, condition, order, memory, pace. Nothing is trained. Exit "
        "code 3 says that training would be meaningless, 5 that it would not fit into memory.",
    )
    check.add_argument("table", metavar="TABLE", help="the table to look at")
    check.add_argument("--only", metavar="NAME,NAME", help="checks to make (default: all)")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    for title, config in (
        ("table", TableOptions),
        ("model", ModelOptions),
        ("training", Training),
    ):
        add_flags(check.add_argument_group(title), config)
    check.add_argument("--debug", action="store_true", help="show tracebacks")
    check.set_defaults(command=_check, parser=check)


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan",
        help="ask a run what if: another batch size, another machine, more workers",
        description="Answers from the journal of a run: the best batch size, the time it would "
        "have taken, how many workers are worth it and what their steps go into. Nothing is "
        "trained; what the journal cannot tell is said.",
    )
    plan.add_argument("run", metavar="RUN", help="folder of a run")
    plan.add_argument(
        "--batch-size", type=int, metavar="N", help="examples of a step (default: the best)"
    )
    plan.add_argument(
        "--step-overhead", type=parse_duration, default=0.0, metavar="5ms",
        help="what each step costs beyond what it did",
    )  # fmt: skip
    plan.add_argument(
        "--memory", type=parse_bytes, metavar="8GB", help="memory that a step must fit into"
    )
    plan.add_argument(
        "--measure", action="store_true",
        help="time updates of several batch sizes on this machine first, and keep them in the run",
    )  # fmt: skip
    plan.add_argument("--workers", type=int, metavar="N", help="workers (default: the best)")
    plan.add_argument(
        "--link", type=parse_rate, metavar="1Gbit/s", help="speed of a worker's connection"
    )
    plan.add_argument(
        "--latency", type=parse_duration, default=50e-6, metavar="50us",
        help="what a message costs whatever its size (default: 50us)",
    )  # fmt: skip
    plan.add_argument("--json", action="store_true", help="print one JSON object")
    plan.add_argument("--debug", action="store_true", help="show tracebacks")
    plan.set_defaults(command=_plan, parser=plan)


def _fit(options: argparse.Namespace) -> int:
    path, before, limits = _request(options)
    table, model, training = (
        configured(config, vars(options), before and before[part], limits)
        for part, config in (
            ("table", TableOptions),
            ("model", ModelOptions),
            ("training", Training),
        )
    )
    folder = Path(options.resume or options.out or _free_folder(path))
    _use_cache()
    if options.dry_run:
        return _dry_run(options, path, table, model, training)

    from downslope.recipes import table as recipe
    from downslope.recipes.check import worries
    from downslope.report.progress import Progress

    try:
        with Progress(sys.stderr, explain=options.explain) as progress:
            found = recipe.fit(
                path,
                table,
                model,
                training,
                out=None if options.resume else folder,
                resume=options.resume,
                readers=(progress,),
                say=progress.say,
                look=worries,
            )
    except (KeyboardInterrupt, CapacityError) as stop:
        if folder.exists():
            go_on = f"go on with: downslope fit --resume {shlex.quote(str(folder))}"
            stop.args = (f"{stop}; then {go_on}" if stop.args else go_on,)
        raise
    text = (
        json.dumps(found.summary(), allow_nan=False)
        if options.json
        else recipe.describe(found, path)
    )
    _print(text)
    return _exit_code(found.result)


def _dry_run(options: argparse.Namespace, path: str, *configs: Any) -> int:
    from downslope.recipes.dry_run import dry_run

    found = dry_run(path, *configs)
    _print(json.dumps(found.to_json(), allow_nan=False) if options.json else str(found))
    return 0 if found.fits else 5


def _request(options: argparse.Namespace) -> tuple[str, dict[str, Any] | None, Collection[str]]:
    """The table; what a resumed run was begun with, and what it may be asked anew."""
    if options.resume is None:
        if options.table is None:
            raise UsageError("TABLE is needed: a Parquet, Arrow, CSV, .npy or .npz file")
        return options.table, None, ()
    if options.out is not None:
        raise UsageError("--out and --resume exclude each other: a resumed run keeps its folder")

    from downslope.engine.run import LIMITS
    from downslope.recipes.table import request_of

    before = request_of(options.resume)
    path = before["path"]
    if options.table is not None and str(Path(options.table).resolve()) != path:
        raise MismatchError(
            f"TABLE was {path} when the run began and is now {options.table}; leave it out, or "
            "start a new run"
        )
    return path, before, LIMITS


def _free_folder(path: str) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that does not exist."""
    name = Path(path).resolve().name.split(".")[0] or "table"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def _use_cache() -> None:
    from downslope.data.ingest.cache import cache_folder
    from downslope.launch.local import use_compilation_cache

    with contextlib.suppress(OSError):
        use_compilation_cache(cache_folder() / "programs")


def _exit_code(result: Any) -> int:
    if result.signal == signal.SIGTERM:
        return 128 + signal.SIGTERM
    return result.stop_reason.exit_code


def _predict(options: argparse.Namespace) -> int:
    _use_cache()

    from downslope.recipes.predict import predict

    found = predict(options.run, options.table, options.out, overwrite=options.overwrite)
    for column, count in found.unseen.items():
        print(
            f"column {column!r}: a category that training had not seen in {_rows(count)}, "
            "read as unknown",
            file=sys.stderr,
        )
    for column, count in found.missing.items():
        print(
            f"column {column!r}: no value in {_rows(count)}, though training had one in every "
            "row; read as the mean",
            file=sys.stderr,
        )
    if options.json:
        counts = {"unseen": found.unseen, "missing": found.missing}
        _print(json.dumps({"out": str(options.out), "num_rows": found.num_rows, **counts}))
    else:
        _print(f"{_rows(found.num_rows)} of predictions in {options.out}")
    return 0


def _measure(options: argparse.Namespace) -> int:
    given = {
        config: {f for f in config.__dataclass_fields__ if f in vars(options)}
        for config in (TableOptions, ModelOptions, Training)
    }
    if not Path(options.what).exists():
        remedy = "name the folder of a run, or a table"
        raise DataError("no such file or folder", path=options.what, remedy=remedy)
    is_run = (Path(options.what) / "run.json").is_file()
    flags = sorted(flag_of(name) for names in given.values() for name in names)
    if is_run and flags:
        raise UsageError(f"{flags[0]} belongs to a TABLE; a RUN is measured as it was trained")
    if not is_run and "target" not in vars(options):
        raise UsageError("target is needed with a TABLE; a RUN is a folder that fit made")
    if options.sections is not None:
        options.sections = [name for name in options.sections.split(",") if name]
    if options.examples < 2:
        raise UsageError(f"--examples must be 2 or more; got {options.examples}")
    for name, value in (("error", options.error), ("miss", options.miss)):
        if not 0 < value < 1:
            raise UsageError(f"--{name} must be greater than 0 and less than 1; got {value:g}")
    _use_cache()

    from downslope.recipes.measure import measure_run, measure_table

    how = {
        "num_examples": options.examples,
        "sections": options.sections,
        "seconds": options.stop_after,
        "relative_error": options.error,
        "miss_probability": options.miss,
    }
    if is_run:
        found = measure_run(options.what, **how)
    else:
        configs = [configured(config, vars(options)) for config in given]
        found = measure_table(options.what, *configs, **how)
    _print(json.dumps(found.to_json(), allow_nan=False) if options.json else str(found))
    return 0


def _check(options: argparse.Namespace) -> int:
    if "target" not in vars(options):
        raise UsageError("target is needed: the column to predict")
    only = options.only
    if only is not None:
        only = [name for name in only.split(",") if name]
    configs = [
        configured(config, vars(options)) for config in (TableOptions, ModelOptions, Training)
    ]
    _use_cache()

    from downslope.recipes.check import check_table

    found = check_table(options.table, *configs, only=only)
    if options.json:
        findings = [finding.to_json() for finding in found]
        _print(json.dumps({"table": options.table, "findings": findings}, allow_nan=False))
    else:
        _print("\n".join(map(str, found)))
    errors = [finding.name for finding in found if finding.severity == "error"]
    return 0 if not errors else 5 if errors == ["memory"] else 3


def _plan(options: argparse.Namespace) -> int:
    for name in ("batch_size", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more; got {value}")
    if options.memory == 0:
        raise UsageError("--memory must be above 0; got 0")

    from downslope.choose import Scenario
    from downslope.recipes.plan import plan

    if options.measure:
        _use_cache()

        from downslope.recipes.time_batches import time_batches

        time_batches(options.run)

    scenario = Scenario(
        step_overhead_seconds=options.step_overhead,
        batch_size=options.batch_size,
        memory_bytes=options.memory,
        num_workers=options.workers,
        bytes_per_second=options.link,
        latency_seconds=options.latency,
    )
    found = plan(options.run, scenario)
    _print(json.dumps(found.to_json(), allow_nan=False) if options.json else str(found))
    return 0


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count > 1)}"


def _print(text: str) -> None:
    """Prints a result; it does not matter when nobody reads on (`downslope fit ... | true`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # else Python would try again, and complain, when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
