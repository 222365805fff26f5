"""Command-line flags made from the configuration, where names, defaults and ranges stand."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from downslope.config import AUTO, ModelOptions, OptimizerName, TableOptions, Training
from downslope.errors import MismatchError, UsageError
from downslope.units import parse_duration

# The command line says `--time 60s` where Python says `seconds=60`.
RENAMED = {"seconds": "time"}
NONE = "none"  # for Python's None, where that is not the default
CONFIGS = {"table": TableOptions, "model": ModelOptions, "training": Training}


def flags_of(configs: Mapping[str, type]) -> Any:
    """A type with a flag for each field of configurations, which a command takes as one argument.

    What a command gets is a dict of the flags that were given, by field: no default is written
    twice, and a resumed run can tell what it is asked anew.

    Args:
        configs: configurations by the title that their flags stand under in the help. Where two
            share a field, such as the seed, one flag sets both.
    """
    fields: dict[str, Any] = {}
    for place, (title, config) in enumerate(configs.items(), start=1):
        hints, group = typing.get_type_hints(config), Group(title.capitalize(), sort_key=place)
        for field in dataclasses.fields(config):
            kind, more = _kind(field, hints[field.name])
            flag = Parameter(
                name=flag_of(field.name),
                help=field.metadata["help"] + _default_text(field),
                group=group,
                negative="",
                **more,
            )
            fields.setdefault(field.name, Annotated[kind, flag])
    given = typing.TypedDict("Given", fields, total=False)  # type: ignore[operator]
    return Annotated[given, Parameter(name="*")]


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
    names = {field.name for config in CONFIGS.values() for field in dataclasses.fields(config)}

    def flag(found: re.Match[str]) -> str:
        name = found[0]
        is_field = name in names and ("_" in name or found.start() == 0)
        return flag_of(name) if is_field else name

    return re.sub(r"(?<![\w'/-])[a-z]\w*(?![\w'/])", flag, sentence)


def _kind(field: dataclasses.Field[Any], hint: Any) -> tuple[Any, dict[str, Any]]:
    """The type that a flag's words are read as, and what else `Parameter` is to know."""
    metavar = field.metadata.get("metavar")
    if field.name == "optimizer":
        return Literal[(*typing.get_args(OptimizerName), AUTO)], {
            "metavar": "NAME",
            "show_choices": False,
        }
    if field.name == "seconds":
        return float, {"converter": read(parse_duration), "metavar": "60s"}
    if hint == tuple[int, ...]:
        return tuple[int, ...], {"converter": _counts, "n_tokens": 1, "metavar": metavar}
    if hint == tuple[str, ...]:
        return list[str], {"metavar": metavar}
    words, kinds = _words(field, hint), typing.get_args(hint) or (hint,)
    number: Any = next((kind for kind in (float, int) if kind in kinds), None)
    if words and number is None:
        return Literal[words], {"metavar": "NAME"}
    kind = number or str
    shown = metavar or {float: "X", int: "N", str: "TEXT"}[kind]
    if kind is str:
        return str, {"metavar": shown}
    # Where pydantic is loaded, the library checks what a converter gives against its type.
    held = kind | Literal[words] if words else kind
    return held, {"converter": _number_or(kind, words), "metavar": "|".join((shown, *words))}


def _words(field: dataclasses.Field[Any], hint: Any) -> tuple[str, ...]:
    """The words that a flag takes beside numbers."""
    # `Literal[...] | None` is an old-style Union, `int | None` is not
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if is_union else (hint,)
    found = tuple(c for p in parts if typing.get_origin(p) is Literal for c in typing.get_args(p))
    return (*found, NONE) if type(None) in parts and field.default is not None else found


def _default_text(field: dataclasses.Field[Any]) -> str:
    shown = field.default
    if shown == ():
        return " (may be repeated)"
    if shown is None:
        return ""
    if isinstance(shown, tuple):
        shown = ",".join(map(str, shown))
    return f" (default: {shown})"


def read(parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """A converter of the command line's library from a function of one word.

    Args:
        parse: gives the value of a word, or raises ValueError with a message about it.
    """

    def convert(_: Any, tokens: Any) -> Any:
        return parse(tokens[0].value)

    return convert


def at_least(least: int) -> Callable[[Any, Any], None]:
    """A validator of the command line's library: refuses what is smaller."""

    def check(_: Any, value: Any) -> None:
        if value is not None and value < least:
            raise ValueError(f"must be at least {least}; got {value}")

    return check


def is_share(_: Any, value: Any) -> None:
    """A validator of the command line's library: refuses what does not lie between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"must be above 0 and below 1; got {value:g}")


def _number_or(number: type, words: tuple[str, ...]) -> Callable[[Any, Any], Any]:
    def parse(text: str) -> Any:
        if text in words:
            return text
        try:
            return number(text)
        except ValueError:
            kind = "a whole number" if number is int else "a number"
            if not words:
                raise ValueError(f"{text!r} is not {kind}") from None
            known = " nor ".join((kind, *map(repr, words)))
            raise ValueError(f"{text!r} is neither {known}") from None

    return read(parse)


def names_of(_: Any, tokens: Any) -> tuple[str, ...]:
    """The parts of NAME,NAME, or of a list in a file; a converter of the library.

    A list in a file has a token for each part; of a repeated flag the last one holds.
    """
    held = tokens[-1:] if tokens[0].source == "cli" else tokens
    return tuple(part for token in held for part in token.value.split(",") if part)


def _counts(kind: Any, tokens: Any) -> tuple[int, ...]:
    parts = names_of(kind, tokens)
    try:
        return tuple(map(int, parts))
    except ValueError:
        text = ",".join(parts)
        raise ValueError(f"{text!r} is not a list of whole numbers; write 64 or 64,64") from None


def configured(
    config: Any,
    given: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
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
    hints = typing.get_type_hints(config)
    fields = {field.name: field for field in dataclasses.fields(config)}
    values = {name: _plain(value) for name, value in (before or {}).items() if name in fields}
    for name in fields.keys() & given.keys():
        new = _plain(given[name])
        if new == NONE and NONE in _words(fields[name], hints[name]):
            new = None
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
