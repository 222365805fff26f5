"""What is wrong with the words that were typed, in one line."""

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

IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def usage_of(error: CycloptsError) -> str:
    """One line: the option, the rule, the word that was given, and where help is.

    Args:
        error: what the command line's library raised.
    """
    text = " ".join(_said(error).split()).rstrip(".")
    help_of = " ".join(["downslope", *(error.command_chain or ()), "--help"])
    return f"{text} See {help_of}" if text.endswith("?") else f"{text}; see {help_of}"


def _said(error: CycloptsError) -> str:
    """The error in the words of this package; in the library's where it is a rare one."""
    match error:
        case UnknownOptionError():
            word = (error.token.keyword or error.token.value).partition("=")[0]
            known = [name for each in error.argument_collection for name in each.names]
            return f"no option {word}{_close(word, known)}"
        case UnknownCommandError(unused_tokens=[word, *_]) if word.startswith("-"):
            return f"{word} stands before any command; name the command first"
        case UnknownCommandError(unused_tokens=[word, *_], app=app) if app is not None:
            known = [name for name in app if not name.startswith("-")]
            return f"no command {word!r}{_close(word, known) or '; it may be ' + ', '.join(known)}"
        case UnusedCliTokensError(unused_tokens=[*words]):
            return f"unexpected {' '.join(map(repr, words))}"
        case MissingArgumentError(argument=argument) if argument is not None:
            needs = "needs a value" if error.keyword or argument.tokens else "is needed"
            return f"{error.keyword or _place(error)} {needs}"
        case ValidationError(argument=argument) if argument is not None:
            return f"{_place(error)} {error.exception_message}"
        case CoercionError(argument=argument) if argument and (error.token or argument.tokens):
            return (
                f"{_place(error)}{_wrong_value(error, (error.token or argument.tokens[0]).value)}"
            )
    return str(error)


def _wrong_value(error: CoercionError, value: str) -> str:
    if error.msg is not None:
        return f": {error.msg}"
    kind: Any = error.target_type
    if get_origin(kind) is not None and get_args(kind):
        known = [str(choice) for choice in get_args(kind)]
        return f" must be one of {', '.join(known)}; got {value!r}{_close(value, known)}"
    return f" must be {IN_WORDS.get(kind, 'of another kind')}; got {value!r}"


def _place(error: CycloptsError) -> str:
    """The option at fault as it was written: on the line, or in a file."""
    argument = error.argument
    assert argument is not None
    token = getattr(error, "token", None) or (argument.tokens[0] if argument.tokens else None)
    if token is None or not token.keyword:
        return argument.name
    if token.source == "cli":
        return token.keyword
    key = token.keyword.strip("[]")
    return f"{token.source}: {key} in [{' '.join(error.command_chain or ())}]"


def _close(word: str, known: list[str]) -> str:
    import difflib

    begun = [name for name in known if len(word) > 3 and name.startswith(word)]
    close = begun or difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
