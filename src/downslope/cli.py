"""The command line: parse the words, run the command, and end with an exit code.

Results go to standard output, all other messages to standard error. Heavy modules are imported
when a command runs, so that `--help` is fast.
"""

from __future__ import annotations

import importlib
import inspect
import shlex
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

import downslope
from downslope.commands.config_file import config_hook
from downslope.commands.usage import usage_of
from downslope.errors import CapacityError, DataError, DownslopeError, UsageError
from downslope.launch.local import Terminated, terminable

# Every command with the first line of its help, so that `--help` need not import all of them.
COMMANDS = {
    "fit": "Train a model on a table.",
    "predict": "Predict with a trained run.",
    "report": "Write the report of a run, or of several side by side.",
    "measure": "Measure the gradient noise of a run or a table.",
    "check": "Check a table before training on it.",
    "plan": "Ask a run what if: another batch size, another machine, more workers.",
    "detect": "Find anomalies in a periodic signal.",
    "completion": "Complete commands and options in a shell.",
}
EXIT_CODES = (
    "Exit codes: 0 done, 1 a fault of downslope, 2 usage, 3 bad input, 4 diverged, 5 out of "
    "memory or disk, 6 checkpoint and run do not match, 130/143 interrupted after saving."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; see `EXIT_CODES`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    common = None
    try:
        if not words:
            raise UsageError(f"a command is needed: {', '.join(COMMANDS)}; see downslope --help")
        with terminable():
            command, bound, unparsed = application(words[:1]).parse_args(words)
            common = bound.arguments.get("common")
            extra = {"line": shlex.join(["downslope", *words])} if "line" in unparsed else {}
            return command(*bound.args, **bound.kwargs, **extra) or 0
    except CycloptsError as error:
        print(f"downslope: {usage_of(error)}", file=sys.stderr)
        return UsageError.exit_code
    except Exception as error:
        if getattr(common, "debug", False):
            traceback.print_exc()
        known = _known(error)
        print(f"downslope: {_one_line(known or error)}", file=sys.stderr)
        return 1 if known is None else known.exit_code
    except KeyboardInterrupt as stop:
        kept = str(stop) or "nothing was kept"
        print(f"downslope: interrupted; {kept}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def application(whole: Collection[str] = tuple(COMMANDS)) -> App:
    """The commands and their options.

    Those not in `whole` are not imported, and have only the first line of their help: that makes
    `downslope --help` a quarter faster.
    """
    common: dict[str, Any] = {
        "help_format": "plaintext",  # Markdown would cost 40 ms
        "exit_on_error": False,
        "print_error": False,
        "suppress_keyboard_interrupt": False,
        # the texts name the defaults, as people write them; the last of a repeated flag counts
        "default_parameter": Parameter(show_default=False, allow_repeating=True),
    }
    app = App(
        name="downslope",
        help="Mini-batch training for tables of any size.",
        help_epilogue=EXIT_CODES,
        version=f"downslope {downslope.__version__}",
        config=config_hook(COMMANDS),
        **common,
    )
    for place, (name, line) in enumerate(COMMANDS.items()):
        home = f"downslope.commands.{name}"
        texts = _texts(home, name) if name in whole else {"help": line}
        app.command(f"{home}:{name}", name=name, sort_key=place, **texts, **common)
    return app


def _texts(module: str, name: str) -> dict[str, str]:
    """The help of a command from its docstring, the example last."""
    command = getattr(importlib.import_module(module), name)
    text, _, example = (inspect.getdoc(command) or "").partition("\n\nExample:\n")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return {"help": "\n\n".join(paragraphs), "help_epilogue": f"Example:\n{example}"}


def _known(error: Exception) -> DownslopeError | None:
    """The error as one of this package, if a user can do something about it."""
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
        from downslope.flags import in_flags  # here, since `--help` does not need it

        return in_flags(text)
    if isinstance(error, DownslopeError):
        return text
    return f"{type(error).__name__}: {text} (a fault of downslope; --debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
