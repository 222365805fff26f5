"""Command-line flags built from the configuration, which holds names, defaults and ranges."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from downslope.arguments import Interval
from downslope.config import AUTO, ModelOptions, OptimizerName, TableOptions, Training
from downslope.errors import MismatchError, UsageError
from downslope.units import parse_duration

# The command line says `--time 60s` where Python says `seconds=60`.
RENAMED = {"seconds": "time"}
NONE = "none"  # for Python's None if that is not the default
CONFIGS = {"table": TableOptions, "model": ModelOptions, "training": Training}


def flags_of(configs: Mapping[str, type]) -> Any:
    """A type with a flag for each field of configurations, for one argument of a command.

    The command gets a dict of the flags that were given, by field: no default is written twice,
    and a resumed run can distinguish new values.

    Args:
        configs: configurations by the title of their flags in the help. A field of two
            configurations, such as the seed, has one flag that sets both.
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
    """A sentence with the names of fields replaced by flags.

    Names of one word are also ordinary words, so they are replaced at the beginning only.

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
    """The type of a flag's value, and further arguments of `Parameter`."""
    metavar = field.metadata.get("metavar")
    if field.name == "optimizer":
        choices: Any = Literal[(*typing.get_args(OptimizerName), AUTO)]
        return choices, {"metavar": "NAME", "show_choices": False}
    if field.name == "seconds":
        return float, {"converter": converter(parse_duration), "metavar": "60s"}
    if field.name == "target":
        return list[str], {"metavar": metavar}
    if field.name == "until":
        kind = tuple[str, ...]
        return kind, {"converter": _targets, "n_tokens": 1, "metavar": metavar}
    if hint in LISTS:
        return hint, {"converter": LISTS[hint], "n_tokens": 1, "metavar": metavar}
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
    # If pydantic is loaded, cyclopts checks the result of a converter against its type.
    held = kind | Literal[words] if words else kind
    return held, {"converter": _number_or(kind, words), "metavar": "|".join((shown, *words))}


def _words(field: dataclasses.Field[Any], hint: Any) -> tuple[str, ...]:
    """The words that a flag accepts beside numbers."""
    # `Literal[...] | None` is an old-style Union, `int | None` is not
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if is_union else (hint,)
    found = tuple(c for p in parts if typing.get_origin(p) is Literal for c in typing.get_args(p))
    return (*found, NONE) if type(None) in parts and field.default is not None else found


def _default_text(field: dataclasses.Field[Any]) -> str:
    shown = field.default
    if shown == ():
        return " (may be repeated)" if field.name not in ("hidden", "quantile", "fold") else ""
    if shown is None:
        return " (may be repeated in fit: a model for each)" if field.name == "target" else ""
    if isinstance(shown, tuple):
        shown = ",".join(map(str, shown))
    return f" (default: {shown})"


def converter(parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """A converter for cyclopts from a function of one word.

    Args:
        parse: gives the value of a word, or raises ValueError with a message about it.
    """
    return lambda _, tokens: parse(tokens[0].value)


def within(**ends: float) -> Callable[[Any, Any], None]:
    """A validator for cyclopts that refuses numbers outside a range.

    Args:
        ends: those of `downslope.arguments.Interval`: above, least, below, most.
    """
    allowed = Interval(**ends)

    def check(_: Any, value: Any) -> None:
        if value is not None and value not in allowed:
            raise ValueError(f"must be {allowed}; got {value:g}")

    return check


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

    return converter(parse)


def names_of(_: Any, tokens: Any) -> tuple[str, ...]:
    """The parts of NAME,NAME, or of a list in a file; a converter for cyclopts.

    A list in a file has a token for each part; the last of a repeated flag counts.
    """
    held = tokens[-1:] if tokens[0].source == "cli" else tokens
    return tuple(part for token in held for part in token.value.split(",") if part)


def _list_of(number: type, kind: str, sample: str) -> Callable[[Any, Any], Any]:
    def parse(hint: Any, tokens: Any) -> tuple[Any, ...]:
        parts = names_of(hint, tokens)
        try:
            return tuple(map(number, parts))
        except ValueError:
            text = ",".join(parts)
            raise ValueError(f"{text!r} is not a list of {kind}; write {sample}") from None

    return parse


LISTS = {  # converters, by type of the field
    tuple[int, ...]: _list_of(int, "whole numbers", "64 or 64,64"),
    tuple[float, ...]: _list_of(float, "numbers", "0.5 or 0.1,0.9"),
}


def _targets(_: Any, tokens: Any) -> tuple[str, ...]:
    words = tuple(token.value for token in tokens)
    targets_of(words)
    return words


def targets_of(words: Collection[str]) -> dict[str, float] | None:
    """Targets by metric, from words such as "loss=0.3"; None for the word none.

    Raises:
        ValueError: a word that is no target.

    Example:
        >>> targets_of(["loss=0.3", "accuracy=0.95"])
        {'loss': 0.3, 'accuracy': 0.95}
    """
    if tuple(words) == (NONE,):
        return None
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name.strip():
            raise ValueError(f"{word!r} is not a target; write loss=0.3")
    return found


def configured(
    config: Any,
    given: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
    limits: Collection[str] = (),
) -> Any:
    """A configuration from the given flags and the options of a run to resume.

    Args:
        config: the configuration's class.
        given: values of flags, by field.
        before: the original options of the run to resume.
        limits: fields that may change when a run is resumed.

    Raises:
        UsageError: a value outside its range, or options that contradict each other.
        MismatchError: an option that differs from that of the run.
    """
    hints = typing.get_type_hints(config)
    fields = {field.name: field for field in dataclasses.fields(config)}
    values = {name: _plain(value) for name, value in (before or {}).items() if name in fields}
    for name in fields.keys() & given.keys():
        new = _given(name, given[name])
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


def _given(name: str, value: Any) -> Any:
    """Value of a field from that of its flag."""
    if name == "until":
        return targets_of(value)
    if name != "target" or isinstance(value, str):
        return _plain(value)
    if len(value) > 1:
        raise UsageError(f"target must be one column here; got {', '.join(value)}")
    return value[0]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
