"""Usage errors in one line."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from downslope.arguments import nearest

IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def usage_of(error: CycloptsError) -> str:
    """One line with the option, the rule, the word received, and the command for help."""
    text = " ".join(_said(error).split()).rstrip(".")
    help_of = " ".join(["downslope", *(error.command_chain or ()), "--help"])
    return f"{text} See {help_of}" if text.endswith("?") else f"{text}; see {help_of}"


def _said(error: CycloptsError) -> str:
    """The error in the words of this package, or of cyclopts if it is a rare one."""
    match error:
        case UnknownOptionError():
            known = [
                name for each in error.argument_collection if each.parse for name in each.names
            ]
            if error.token.source == "cli":
                word = (error.token.keyword or error.token.value).partition("=")[0]
                return f"no option {word}{_suggestion(word, known)}"
            word = (error.token.keyword or "").strip("[]").replace("][", ".")
            known = [name.removeprefix("--") for name in known]
            near = _suggestion(word.replace("_", "-").partition(".")[0], known)
            return f"{error.token.source}: {_table(error)} has no option {word!r}{near}"
        case UnknownCommandError(unused_tokens=[word, *_]) if word.startswith("-"):
            return f"{word} stands before any command; name the command first"
        case UnknownCommandError(unused_tokens=[word, *_], app=app) if app is not None:
            known = [name for name in app if not name.startswith("-")]
            near = _suggestion(word, known) or f"; it may be {', '.join(known)}"
            return f"no command {word!r}{near}"
        case UnusedCliTokensError(unused_tokens=[*words]):
            return f"unexpected {' '.join(map(repr, words))}"
        case MissingArgumentError(argument=argument) if argument is not None:
            needs = "needs a value" if error.keyword or argument.tokens else "is needed"
            return f"{error.keyword or _place(error)} {needs}"
        case ValidationError(argument=argument) if argument is not None:
            return f"{_place(error)} {error.exception_message}"
        case CoercionError(argument=argument) if argument and (error.token or argument.tokens):
            value = (error.token or argument.tokens[0]).value
            return f"{_place(error)}{_wrong_value(error, value)}"
    return str(error)


def _wrong_value(error: CoercionError, value: str) -> str:
    if error.msg is not None:
        return f": {error.msg}"
    kind: Any = error.target_type
    if get_origin(kind) is not None and get_args(kind):
        known = [str(choice) for choice in get_args(kind)]
        return f" must be one of {', '.join(known)}; got {value!r}{_suggestion(value, known)}"
    return f" must be {IN_WORDS.get(kind, 'of another kind')}; got {value!r}"


def _place(error: CycloptsError) -> str:
    """The option at fault as it was written, on the command line or in a file."""
    argument = error.argument
    assert argument is not None
    token = getattr(error, "token", None) or (argument.tokens[0] if argument.tokens else None)
    if token is None or not token.keyword:
        return argument.name
    if token.source == "cli":
        return token.keyword
    key = token.keyword.strip("[]")
    return f"{token.source}: {key} in {_table(error)}"


def _table(error: CycloptsError) -> str:
    return f"[{' '.join(error.command_chain or ())}]"


def _suggestion(word: str, known: list[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""
