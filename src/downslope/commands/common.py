"""What the commands share: options that all of them have, and how a result is shown."""

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
from downslope.flags import CONFIGS, configured, flags_of, names_of

LAST = Group("Every command", sort_key=20)


@Parameter(name="*", group=LAST, negative="")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options that every command has."""

    config: Annotated[
        Path | None,
        Parameter(
            metavar="FILE.toml",
            help="options from a file, under a table named like the command, such as [fit]; "
            "what is given on the line wins",
        ),
    ] = None
    debug: Annotated[bool, Parameter(help="show tracebacks")] = False


COMMON = Common()

if TYPE_CHECKING:
    Given = dict[str, Any]
else:
    Given = flags_of(CONFIGS)
AsJson = Annotated[bool, Parameter(help="print one JSON object on standard output", negative="")]
Names = Annotated[tuple[str, ...], Parameter(converter=names_of, n_tokens=1, negative="")]


def configs_of(given: Given | None) -> tuple[TableOptions, ModelOptions, Training]:
    """The three configurations, from the flags that were given.

    Raises:
        UsageError: a value lies outside its range, or values contradict each other.
    """
    table, model, training = (configured(config, given or {}) for config in CONFIGS.values())
    return table, model, training


def use_cache() -> None:
    """Keeps compiled programs beside converted tables, where there is room for them."""
    from downslope.data.ingest.cache import cache_folder
    from downslope.launch.local import use_compilation_cache

    with contextlib.suppress(OSError):
        use_compilation_cache(cache_folder() / "programs")


def show(found: Any, as_json: bool) -> None:
    """Prints a result: as JSON what its `to_json` gives, or a dict; else its text.

    It does not matter when nobody reads on (`downslope fit ... | true`).
    """
    text = str(found)
    if as_json:
        values = found if isinstance(found, dict) else found.to_json()
        text = json.dumps(values, allow_nan=False)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # else Python would try again, and complain, when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def rows(count: int) -> str:
    """A count of rows, in words.

    Example:
        >>> rows(1), rows(1200)
        ('1 row', '1,200 rows')
    """
    return f"{count:,} row{'s' * (count != 1)}"
