"""Command-line flags made from the configuration, where names, defaults and ranges stand."""

from __future__ import annotations

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from downslope.config import FULL_BATCH, OptimizerName
from downslope.errors import UsageError

# The command line says `--time 60s` where Python says `seconds=60`.
RENAMED = {"seconds": "time"}


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """Adds a flag for each field; a flag that was not given leaves no attribute behind."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        flag = "--" + RENAMED.get(field.name, field.name).replace("_", "-")
        arguments = _arguments(field, hints[field.name])
        try:
            parser.add_argument(
                flag,
                dest=field.name,
                default=argparse.SUPPRESS,
                help=field.metadata["help"] + _default_text(field),
                **arguments,
            )
        except argparse.ArgumentError:
            continue  # two configurations share a field, such as the seed: one flag sets both


def _arguments(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    metavar = field.metadata.get("metavar")
    if field.name == "optimizer":
        return {"choices": typing.get_args(OptimizerName), "metavar": "NAME"}
    if field.name == "batch_size":
        return {"type": _count_or_full, "metavar": "N|full"}
    if field.name == "seconds":
        return {"type": parse_seconds, "metavar": "60s"}
    if hint == tuple[int, ...]:
        return {"type": _counts, "metavar": metavar}
    if hint == tuple[str, ...]:
        return {"action": "append", "metavar": metavar}
    choices = _choices(hint)
    if choices:
        return {"choices": choices}
    kinds = typing.get_args(hint) or (hint,)
    number: Callable[[str], Any] = float if float in kinds else int if int in kinds else str
    return {"type": number, "metavar": metavar or {float: "X", int: "N", str: "TEXT"}[number]}


def _choices(hint: Any) -> tuple[str, ...]:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return tuple(c for p in parts if typing.get_origin(p) is Literal for c in typing.get_args(p))


def _default_text(field: dataclasses.Field[Any]) -> str:
    shown = field.default
    if shown is None or shown == ():
        return ""
    if isinstance(shown, tuple):
        shown = ",".join(map(str, shown))
    return f" (default: {shown})".replace("%", "%%")


def _count_or_full(text: str) -> int | str:
    return FULL_BATCH if text == FULL_BATCH else int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def parse_seconds(text: str) -> float:
    """Seconds from `90`, `90s`, `1.5m` or `2h`.

    Example:
        >>> parse_seconds("90"), parse_seconds("1.5m"), parse_seconds("2h")
        (90.0, 90.0, 7200.0)
    """
    found = re.fullmatch(r"([0-9.]+)\s*(s|m|min|h|)", text.strip())
    try:
        if not found:
            raise ValueError
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}[found[2]]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write 60s, 5m or 2h") from None


def configured(config: Any, given: dict[str, Any], before: dict[str, Any] | None = None) -> Any:
    """A configuration from given flags, over those that a resumed run began with.

    Raises:
        UsageError: a value lies outside its range, or values contradict each other.
    """
    names = {f.name for f in dataclasses.fields(config)}
    values = {k: v for k, v in (before or {}).items() if k in names}
    values |= {k: v for k, v in given.items() if k in names}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    if values.get("optimizer") == "optax":
        raise UsageError("this run was begun in Python with its own optimizer; resume it there")
    return config(**values)
