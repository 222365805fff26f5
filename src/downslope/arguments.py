"""Argument checks: one line with the argument, the rule and the value received.

Each check takes a Python, NumPy or JAX number and returns it as Python's own; a bool is no number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from downslope.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A range of finite numbers, with any of four ends.

    Attributes:
        above, below: ends that do not belong to the range.
        least, most: ends that do.

    Example:
        >>> 1.5 in Interval(least=0, below=1), str(Interval(least=0, below=1))
        (False, 'at least 0 and below 1')
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    @property
    def is_bounded(self) -> bool:
        """True if there is an end on both sides."""
        return not (self.above is self.least is None or self.below is self.most is None)

    def __contains__(self, value: Any) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        ends = {
            "above": self.above, "at least": self.least, "below": self.below, "at most": self.most,
        }  # fmt: skip
        return " and ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)


def whole(
    name: str, value: Any, *, least: int = 1, most: int | None = None, optional: bool = False
) -> Any:
    """A whole number within its range, checked.

    Args:
        name: name of the argument, for the message.
        value: the value received.
        least, most: ends of the range, both allowed.
        optional: also allow None.

    Raises:
        UsageError: the value is not a whole number, or outside the range.

    Example:
        >>> whole("num_layers", 3)
        3
        >>> whole("num_layers", 0.5)
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: num_layers must be a whole number of at least 1; got 0.5
    """
    found = plain(value)
    if found is None and optional:
        return None
    if not _is_a(found, int) or found not in Interval(least=least, most=most):
        rule = f"of at least {least}" if most is None else f"from {least} to {most}"
        rule += ", or None" * optional
        raise UsageError(f"{name} must be a whole number {rule}; got {found!r}")
    return found


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    optional: bool = False,
) -> Any:
    """A finite number within its range, checked.

    Args:
        name: name of the argument, for the message.
        value: the value received.
        above, below: ends of the range that are not allowed themselves.
        least, most: ends of the range that are.
        optional: also allow None.

    Raises:
        UsageError: the value is not a number, not finite, or outside the range.

    Example:
        >>> number("held_out", 0.3, above=0, below=1)
        0.3
        >>> number("held_out", "a", above=0, below=1)
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: held_out must be a number above 0 and below 1; got 'a'
    """
    found = plain(value)
    if found is None and optional:
        return None
    allowed = Interval(above=above, least=least, below=below, most=most)
    if not _is_a(found, float) or found not in allowed:
        rule = "a number" if allowed.is_bounded else "a finite number"
        rule += f" of {allowed}" if least is not None else f" {allowed}".rstrip()
        rule += ", or None" * optional
        raise UsageError(f"{name} must be {rule}; got {found!r}")
    return found


def one_of(name: str, value: Any, choices: Collection[Any]) -> Any:
    """One of the choices, checked.

    Raises:
        UsageError: the value is not among the choices.

    Example:
        >>> one_of("kernel", "cubic", ("linear", "rbf"))
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: kernel must be one of linear, rbf; got 'cubic'
    """
    if not any(value is each or (type(value) is type(each) and value == each) for each in choices):
        raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}")
    return value


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, whatever its capitals; None if none is near.

    Example:
        >>> nearest("epohcs", ["epochs", "steps"])
        'epochs'
    """
    import difflib  # here, since it is needed only in messages

    folded = {each.casefold(): each for each in known}
    word = word.casefold()
    begun = [each for each in folded if len(word) > 3 and each.startswith(word)]
    close = begun or difflib.get_close_matches(word, folded, n=1)
    return folded[close[0]] if close else None


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an `__init__` from its `locals()`, to be stored as they are.

    Example:
        >>> class Scaler:
        ...     def __init__(self, *, width=3):
        ...         vars(self).update(given(locals()))
        >>> Scaler(width=5).width
        5
    """
    return {name: value for name, value in values.items() if name not in ("self", "__class__")}


def plain(value: Any) -> Any:
    """A NumPy or JAX scalar as Python's own number, any other value unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, (int, kind)) and not isinstance(value, bool)
