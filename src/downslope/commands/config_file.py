"""Options from a TOML file: a table for each command, the flag on the line wins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.errors import DataError, UsageError

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

FLAG = "--config"


def config_hook(
    commands: Collection[str],
) -> Callable[[App, tuple[str, ...], ArgumentCollection], None]:
    """Fills in what `--config FILE` holds for a command and the line does not say.

    The hook is called by the command line's library between reading words and making values.
    It raises DataError where the file cannot be read or is not TOML, and UsageError for a table
    of no command or a key that the command does not have.

    Args:
        commands: names that the file's tables may have.
    """

    def fill_in(app: App, path_of: tuple[str, ...], arguments: ArgumentCollection) -> None:
        file = next((a.tokens[0].value for a in arguments if FLAG in a.names and a.tokens), None)
        if file is None:
            return
        from cyclopts.config import Dict

        tables, command = read_config(file, commands), path_of[-1]
        check_keys(file, command, tables.get(command, {}), _options(arguments))
        Dict(tables, source=file)(app, path_of, arguments)

    return fill_in


def _options(arguments: ArgumentCollection) -> list[str]:
    names = {name for argument in arguments if argument.parse for name in argument.names}
    return sorted(name[2:] for name in names if name.startswith("--") and name != FLAG)


def check_keys(
    path: str | Path, command: str, keys: Mapping[str, Any], options: Collection[str]
) -> None:
    """Refuses a key that is no option of its command, naming the nearest one.

    Args:
        path: the file, to be named.
        command: the table's name.
        keys: what stands in the table; `_` may stand for `-`.
        options: names that the command knows, without the dashes in front.

    Raises:
        UsageError: for the first such key, and for one that is a table itself.
    """
    for key, value in keys.items():
        if key.replace("_", "-") not in options:
            hint = nearest(key, options) or f"see downslope {command} --help"
            raise UsageError(f"{path}: [{command}] has no option {key!r}; {hint}")
        if isinstance(value, dict):
            raise UsageError(f"{path}: {key} in [{command}] must be a value; got a table")


def read_config(path: str | Path, commands: Collection[str]) -> dict[str, dict[str, Any]]:
    """The tables of a file, by command.

    Args:
        path: a TOML file.
        commands: names that its tables may have.

    Raises:
        DataError: the file cannot be read or is not TOML.
        UsageError: a table of another name, or an option outside of any table.
    """
    import tomllib  # here, since few commands are given a file

    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not TOML: {error}", path=path, remedy="mend the file") from None
    for key, value in found.items():
        if not isinstance(value, dict):
            raise UsageError(
                f"{path}: {key!r} stands outside of a table; write it under the name of its "
                "command, such as [fit]"
            )
        if key not in commands:
            hint = nearest(key, commands) or f"it may be {', '.join(commands)}"
            raise UsageError(f"{path}: no command for [{key}]; {hint}")
    return found


def nearest(name: str, known: Collection[str]) -> str | None:
    """What may have been meant, where something is near.

    Example:
        >>> nearest("epohcs", ["epochs", "steps"])
        "did you mean 'epochs'?"
    """
    import difflib

    close = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    return f"did you mean {close[0]!r}?" if close else None
