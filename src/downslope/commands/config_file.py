"""Options from a TOML file with a table for each command; those on the line take precedence."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.arguments import nearest
from downslope.errors import DataError, UsageError

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

FLAG = "--config"


def config_hook(
    commands: Collection[str],
) -> Callable[[App, tuple[str, ...], ArgumentCollection], None]:
    """A hook for cyclopts that fills in the options of a command from `--config FILE`.

    It raises DataError for a file that cannot be read or is not TOML, and UsageError for a table
    of no command, or an option outside any table; cyclopts refuses a key that the command lacks.

    Args:
        commands: allowed names of the file's tables.
    """

    def fill_in(app: App, path_of: tuple[str, ...], arguments: ArgumentCollection) -> None:
        file = next((a.tokens[0].value for a in arguments if FLAG in a.names and a.tokens), None)
        if file is None:
            return
        from cyclopts.config import Dict

        tables, command = _read(file, commands), path_of[-1]
        if "config" in tables.get(command, {}):
            raise UsageError(f"{file}: [{command}] has no option 'config'; give {FLAG} once")
        Dict(tables, source=file)(app, path_of, arguments)

    return fill_in


def _read(path: str, commands: Collection[str]) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file, by command."""
    import tomllib  # here, since few commands are given a file

    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not TOML: {error}", path=path, remedy="mend the file") from None
    for key, value in found.items():
        if not isinstance(value, dict):
            raise UsageError(
                f"{path}: {key!r} is outside any table; write it under the name of its command, "
                "such as [fit]"
            )
        if key not in commands:
            near = nearest(key, commands)
            hint = f"did you mean {near!r}?" if near else f"it may be {', '.join(commands)}"
            raise UsageError(f"{path}: no command for [{key}]; {hint}")
    return found
