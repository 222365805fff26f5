"""Command-line flags made from the configuration, where names, defaults and ranges stand."""

from __future__ import annotations

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, Literal

from downslope.config import AUTO, ModelOptions, OptimizerName, TableOptions, Training
from downslope.errors import MismatchError, UsageError

# The command line says `--time 60s` where Python says `seconds=60`.
RENAMED = {"seconds": "time"}
NONE = "none"  # for Python's None, where that is not the default


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """Adds a flag for each field; a flag that was not given leaves no attribute behind."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        arguments = _arguments(field, hints[field.name])
        try:
            parser.add_argument(
                flag_of(field.name),
                dest=field.name,
                default=argparse.SUPPRESS,
                help=field.metadata["help"] + _default_text(field),
                **arguments,
            )
        except argparse.ArgumentError:
            continue  # two configurations share a field, such as the seed: one flag sets both


def flag_of(name: str) -> str:
    """The flag that sets a field.

    Example:
        >>> flag_of("batch_size"), flag_of("seconds")
        ('--batch-size', '--time')
    """
    return "--" + RENAMED.get(name, name).replace("_", "-")


def in_flags(sentence: str) -> str:
    """A sentence about fields, with the flags that a user typed in their place.

    Names of one word are also words, so they are replaced at the beginning only.

    Example:
        >>> in_flags("microbatch_size must be at most batch_size (128); got 512")
        '--microbatch-size must be at most --batch-size (128); got 512'
        >>> in_flags("loss hinge is no loss for numbers")
        '--loss hinge is no loss for numbers'
    """
    names = {f.name for c in (TableOptions, ModelOptions, Training) for f in dataclasses.fields(c)}

    def flag(found: re.Match[str]) -> str:
        name = found[0]
        is_field = name in names and ("_" in name or found.start() == 0)
        return flag_of(name) if is_field else name

    return re.sub(r"(?<![\w'/-])[a-z]\w*(?![\w'/])", flag, sentence)


def _arguments(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    metavar = field.metadata.get("metavar")
    if field.name == "optimizer":
        return {"choices": (*typing.get_args(OptimizerName), AUTO), "metavar": "NAME"}
    if field.name == "seconds":
        return {"type": parse_seconds, "metavar": "60s"}
    if hint == tuple[int, ...]:
        return {"type": _counts, "metavar": metavar}
    if hint == tuple[str, ...]:
        return {"action": "append", "metavar": metavar}
    words, kinds = _choices(hint), typing.get_args(hint) or (hint,)
    if type(None) in kinds and field.default is not None:
        words += (NONE,)
    number: Callable[[str], Any] | None = next((k for k in (float, int) if k in kinds), None)
    if words and number is None:
        return {"type": _word(words), "metavar": "{" + ",".join(words) + "}"}
    kind: Callable[[str], Any] = number or str
    shown = metavar or {float: "X", int: "N", str: "TEXT"}[kind]
    if words:
        return {"type": _number_or(kind, words), "metavar": "|".join((shown, *words))}
    return {"type": kind, "metavar": shown}


def _choices(hint: Any) -> tuple[str, ...]:
    # `Literal[...] | None` is an old-style Union, `int | None` is not
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if is_union else (hint,)
    return tuple(c for p in parts if typing.get_origin(p) is Literal for c in typing.get_args(p))


def _default_text(field: dataclasses.Field[Any]) -> str:
    shown = field.default
    if shown == ():
        return " (may be repeated)"
    if shown is None:
        return ""
    if isinstance(shown, tuple):
        shown = ",".join(map(str, shown))
    return f" (default: {shown})".replace("%", "%%")


def _word(words: tuple[str, ...]) -> Callable[[str], str | None]:
    def parse(text: str) -> str | None:
        if text not in words:
            known = ", ".join(map(repr, words))
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {known})")
        return None if text == NONE else text

    return parse


def _number_or(number: Callable[[str], Any], words: tuple[str, ...]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if text in words:
            return None if text == NONE else text
        try:
            return number(text)
        except ValueError:
            kind = "a whole number" if number is int else "a number"
            known = " nor ".join((kind, *map(repr, words)))
            raise argparse.ArgumentTypeError(f"{text!r} is neither {known}") from None

    return parse


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers; write 64 or 64,64"
        ) from None


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


def configured(
    config: Any,
    given: dict[str, Any],
    before: dict[str, Any] | None = None,
    limits: Collection[str] = (),
) -> Any:
    """A configuration from given flags, over those that a resumed run began with.

    Args:
        config: the configuration's class.
        given: values of flags, by field.
        before: values that the run to go on with began with.
        limits: fields that may have another value than before.

    Raises:
        UsageError: a value lies outside its range, or values contradict each other.
        MismatchError: a value is not the one that the run began with.
    """
    names = [f.name for f in dataclasses.fields(config)]
    values = {k: _plain(v) for k, v in (before or {}).items() if k in names}
    for name in names:
        if name not in given:
            continue
        new = _plain(given[name])
        if before is not None and name not in limits and new != values.get(name):
            raise MismatchError(
                f"{flag_of(name)} was {_shown(values.get(name))} when the run began and is now "
                f"{_shown(new)}; leave it out, or start a new run"
            )
        values[name] = new
    if values.get("optimizer") == "optax":
        raise UsageError("this run was begun in Python with its own optimizer; resume it there")
    return config(**values)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
