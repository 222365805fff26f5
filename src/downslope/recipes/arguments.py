"""Checks of arguments that recipes share: one line with the name, the rule and the value."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

import numpy as np

from downslope import UsageError


def whole(name: str, value: Any, *, least: int = 1, optional: bool = False) -> None:
    """Nothing for a whole number that is large enough.

    Args:
        name: of the argument, for the message.
        value: Python's or NumPy's; True is no number.
        least: the smallest that is allowed.
        optional: None is allowed too.

    Raises:
        UsageError: for anything else.

    Example:
        >>> whole("code", 3)
        >>> whole("code", 0.5)
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: code must be a whole number, 1 or more; got 0.5
    """
    if optional and value is None:
        return
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_whole or value < least:
        rule = f"a whole number, {least} or more{', or None' * optional}"
        raise UsageError(f"{name} must be {rule}; got {plain(value)!r}")


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    optional: bool = False,
) -> None:
    """Nothing for a finite number within the ends.

    Args:
        name: of the argument, for the message.
        value: Python's or NumPy's; True is no number.
        above, below: ends that are not allowed themselves.
        least, most: ends that are.
        optional: None is allowed too.

    Raises:
        UsageError: for anything else.

    Example:
        >>> number("held_out", 0.3, above=0, below=1)
        >>> number("held_out", "a", above=0, below=1)
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: held_out must be a number above 0 and below 1; got 'a'
    """
    if optional and value is None:
        return
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    found = float(value) if is_number else math.nan
    inside = (
        math.isfinite(found)
        and (above is None or found > above)
        and (least is None or found >= least)
        and (below is None or found < below)
        and (most is None or found <= most)
    )
    if not inside:
        ends = (
            (above, f"above {above:g}" if above is not None else ""),
            (least, f"of at least {least:g}" if least is not None else ""),
            (below, f"below {below:g}" if below is not None else ""),
            (most, f"at most {most:g}" if most is not None else ""),
        )
        rules = " and ".join(words for end, words in ends if end is not None) or "that is finite"
        raise UsageError(
            f"{name} must be a number {rules}{', or None' * optional}; got {plain(value)!r}"
        )


def one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Nothing for one of the choices.

    Raises:
        UsageError: for anything else.

    Example:
        >>> one_of("kernel", "cubic", ("linear", "rbf"))
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: kernel must be one of linear, rbf; got 'cubic'
    """
    if not any(value is each or (type(value) is type(each) and value == each) for each in choices):
        raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}")


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which messages show without their type."""
    return value.item() if isinstance(value, np.generic) else value
