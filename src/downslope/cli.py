"""The command line: `downslope fit` and `downslope predict`.

Results go to standard output, everything said on the way to standard error. Heavy modules
are imported once a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downslope.config import ModelOptions, TableOptions, Training
from downslope.errors import CapacityError, DataError, DownslopeError, UsageError
from downslope.flags import add_flags, configured


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0 done, 1 a fault of ours, 2 usage, 3 bad input, 4 diverged, 5 out of memory or disk,
    6 checkpoint and run do not match, 130 or 143 interrupted after saving.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except Exception as error:
        if options.debug:
            raise
        known = _known(error)
        print(f"downslope: {_one_line(known or error)}", file=sys.stderr)
        if known is None:
            print("this is a fault of downslope; --debug shows where", file=sys.stderr)
        return 1 if known is None else known.exit_code
    except KeyboardInterrupt:
        print("downslope: interrupted before training began; nothing was kept", file=sys.stderr)
        return 128 + signal.SIGINT


def _known(error: Exception) -> DownslopeError | None:
    """The error as one of ours, where a user can do something about it."""
    if isinstance(error, DownslopeError):
        return error
    if isinstance(error, MemoryError):
        return CapacityError("memory ran out; use a smaller batch or microbatch size")
    if isinstance(error, OSError) and error.filename is not None:
        return DataError(error.strerror or str(error), path=error.filename)
    return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, DownslopeError) else f"{type(error).__name__}: {text}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="downslope",
        description="Mini-batch training for tables of any size.",
        epilog="Exit codes: 0 done, 1 a fault of downslope, 2 usage, 3 bad input, 4 diverged, "
        "5 out of memory or disk, 6 checkpoint and run do not match, 130/143 interrupted "
        "after saving.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_predict(commands)
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
    run.add_argument("--json", action="store_true", help="print one JSON object at the end")
    fit.add_argument("--debug", action="store_true", help="show tracebacks")
    fit.set_defaults(command=_fit)


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
    predict.set_defaults(command=_predict)


def _fit(options: argparse.Namespace) -> int:
    given = vars(options)
    path, before = _request(options)
    table = configured(TableOptions, given, before.get("table"))
    model = configured(ModelOptions, given, before.get("model"))
    training = configured(Training, given, before.get("training"))
    if table.target is None:
        raise UsageError("--target is needed: the column to predict")
    if not Path(path).exists():
        raise DataError("no such file or folder", path=path, remedy="check the path")
    out = None if options.resume else Path(options.out) if options.out else _free_folder(path)
    _use_cache()

    from downslope.recipes import table as recipe
    from downslope.report.progress import Progress

    with Progress(sys.stderr) as progress:
        found = recipe.fit(
            path,
            table,
            model,
            training,
            out=out,
            resume=options.resume,
            readers=(progress,),
            say=progress.say,
        )
    summary = found.summary()
    if options.json:
        print(json.dumps(summary, allow_nan=False))
    else:
        print(recipe.describe(found, path))
    return _exit_code(found.result)


def _request(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and what a resumed run was begun with."""
    if options.resume is None:
        if options.table is None:
            raise UsageError("TABLE is needed: a Parquet, Arrow, CSV, .npy or .npz file")
        return options.table, {}
    if options.out is not None:
        raise UsageError("--out and --resume exclude each other: a resumed run keeps its folder")

    from downslope.recipes.table import request_of

    before = request_of(options.resume)
    return options.table or before["path"], before


def _free_folder(path: str) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that does not exist."""
    name = Path(path).resolve().name.split(".")[0] or "table"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def _use_cache() -> None:
    from downslope.data.cache import cache_folder
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
            f"column {column!r}: {count:,} rows hold a category that training had not seen; "
            "they count as unknown",
            file=sys.stderr,
        )
    for column, count in found.missing.items():
        print(
            f"column {column!r}: {count:,} rows lack a value that training always had; "
            "the mean stands in",
            file=sys.stderr,
        )
    if options.json:
        counts = {"unseen": found.unseen, "missing": found.missing}
        print(json.dumps({"out": str(options.out), "num_rows": found.num_rows, **counts}))
    else:
        print(f"{found.num_rows:,} predictions in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
