"""Parts of all commands: common options, types of options, and how results are shown."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from downslope.config import ModelOptions, TableOptions, Training
from downslope.flags import CONFIGS, configured, converter, flags_of, names_of, within
from downslope.units import parse_duration

LAST = Group("Every command", sort_key=20)

if TYPE_CHECKING:
    Given = dict[str, Any]
else:
    Given = flags_of(CONFIGS)
Names = Annotated[tuple[str, ...], Parameter(converter=names_of, n_tokens=1, negative="")]
Count = Annotated[int, Parameter(metavar="N", validator=within(least=1))]
Share = Annotated[float, Parameter(metavar="X", validator=within(above=0, below=1))]
Seconds = Annotated[float, Parameter(metavar="60s", converter=converter(parse_duration))]
Switch = Annotated[bool, Parameter(negative="")]
AsJson = Annotated[Switch, Parameter(help="print one JSON object on standard output")]


@Parameter(name="*", group=LAST, negative="")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options that every command has."""

    config: Annotated[
        Path | None,
        Parameter(
            metavar="FILE.toml",
            help="options from a file, in a table named like the command, such as [fit]; options "
            "on the command line take precedence",
        ),
    ] = None
    debug: Annotated[bool, Parameter(help="show tracebacks")] = False


COMMON = Common()


def configs_of(given: Given | None) -> tuple[TableOptions, ModelOptions, Training]:
    """The three configurations from the flags that were given.

    Raises:
        UsageError: a value outside its range, or options that contradict each other.
    """
    table, model, training = (configured(config, given or {}) for config in CONFIGS.values())
    return table, model, training


def cache_programs() -> None:
    """Keep compiled programs beside converted tables, if there is room for them."""
    from downslope.data.ingest.cache import cache_folder
    from downslope.launch.local import use_compilation_cache

    with contextlib.suppress(OSError):
        use_compilation_cache(cache_folder() / "programs")


def show(found: Any, as_json: bool, values: dict[str, Any] | None = None) -> None:
    """Print a result: its text, or as JSON the values, by default those of its `to_json`.

    A closed pipe is no error (`downslope fit ... | true`).
    """
    if as_json:
        found = json.dumps(found.to_json() if values is None else values, allow_nan=False)
    try:
        print(found, flush=True)
    except BrokenPipeError:
        # else Python would try again, and complain, when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
