"""Checks of arguments shared by the instruments, with one-line errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.errors import UsageError
from downslope.estimate import Estimate

Floats = NDArray[np.float64]


def _number(value: object) -> float:
    """The value as a float; NaN if it is not a number, or is a bool."""
    if isinstance(value, bool | str):
        return math.nan
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan


def positive(name: str, value: float) -> float:
    """The value as a float above 0, or a UsageError.

    Example:
        >>> positive("threshold", 1)
        1.0
    """
    number = _number(value)
    if not (math.isfinite(number) and number > 0):
        raise UsageError(f"{name} must be finite and above 0; got {value}")
    return number


def not_negative(name: str, value: float) -> float:
    """The value as a finite float of 0 or more, or a UsageError."""
    number = _number(value)
    if not (math.isfinite(number) and number >= 0):
        raise UsageError(f"{name} must be finite and 0 or more; got {value}")
    return number


def share_below_one(name: str, value: float) -> float:
    """The value as a float in [0, 1), or a UsageError."""
    number = _number(value)
    if not 0 <= number < 1:
        raise UsageError(f"{name} must be 0 or more and below 1; got {value}")
    return number


def count(name: str, value: float, least: int = 1) -> int:
    """The value as an integer of at least `least`, or a UsageError.

    Example:
        >>> count("batch_size", 32.0)
        32
    """
    number = _number(value)
    if not (number.is_integer() and number >= least):
        raise UsageError(f"{name} must be a whole number of at least {least}; got {value}")
    return int(number)


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """The value if it is one of the words allowed, or a UsageError."""
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return str(value)


def array(name: str, value: ArrayLike, num_axes: int) -> Floats:
    """The value as float64 with that many axes, or a UsageError; it need not be finite."""
    values = np.asarray(value, dtype=np.float64)
    if values.ndim != num_axes:
        raise UsageError(f"{name} must have {num_axes} axes; got shape {values.shape}")
    return values


def as_measurement(value: float | Estimate, *, unit: str) -> Estimate:
    """An estimate without an interval from a number; an estimate unchanged."""
    if isinstance(value, Estimate):
        return value
    if not math.isfinite(value):
        return Estimate(value=None, unit=unit, reason=f"the value given is {value}")
    return Estimate(value=float(value), unit=unit, method="given")
