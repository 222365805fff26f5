"""Columns as they come, read as numbers or as labels; what is missing is NaN or ""."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from downslope.errors import DataError, UsageError
from downslope.recipes.labels import missing

Columns = dict[str, np.ndarray]
MOST = 1e15  # of an input of the network: products of two are far from float32's 3e38; assumed


def read_columns(X: Any) -> Columns:
    """The columns by name, as NumPy arrays with the same number of rows.

    Args:
        X: a data frame (pandas, polars, Arrow), or a dict of arrays, of which an embedding may
            have two axes.

    Raises:
        UsageError: neither a frame nor a dict, or columns of several lengths.
    """
    names = X if isinstance(X, Mapping) else getattr(X, "column_names", getattr(X, "columns", None))
    if names is None:
        raise UsageError(
            f"X must be a data frame or a dict of columns by name; got {type(X).__name__}"
        )
    found = {str(name): np.asarray(X[name]) for name in names}
    lengths = {len(column) if column.ndim else -1 for column in found.values()}
    if len(lengths) != 1 or lengths <= {-1, 0}:
        raise UsageError(f"X must have columns of one length, 1 or more; got {sorted(lengths)}")
    return found


def take(columns: Columns, rows: np.ndarray) -> Columns:
    """These rows of every column."""
    return {name: column[rows] for name, column in columns.items()}


def holds_numbers(column: np.ndarray) -> bool:
    """Whether every value that is not missing is a number; strings of digits are none.

    Example:
        >>> [holds_numbers(np.array(v, object)) for v in ([None, 0.3], ["0.3", "7"], [None, None])]
        [True, False, False]
    """
    if column.dtype != object or column.ndim != 1:
        return column.dtype.kind in "biuf"
    held = column[~missing(column)]
    return len(held) > 0 and all(isinstance(v, (Real, Decimal, np.bool_)) for v in held)


def as_numbers(name: str, column: np.ndarray) -> np.ndarray:
    """The column in float64, NaN where missing; strings of digits are read.

    Raises:
        DataError: other strings, dates, complex numbers, or what float32 cannot hold.
    """
    if column.ndim != 1:
        raise DataError(f"must be one number a row; got {column.shape}", column=name)
    if column.dtype.kind in "cmM":
        raise DataError(f"does not hold numbers but {column.dtype}", column=name)
    values = np.full(len(column), np.nan)
    held = ~missing(column)
    try:
        values[held] = column[held].astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("does not hold numbers", column=name) from error
    if np.isinf(values).any():  # the rows may be a piece of the table: their numbers say nothing
        raise DataError("infinite value", column=name)
    refuse_above(float(np.finfo(np.float32).max), name, values, "")
    return values


def refuse_above(most: float, name: str, values: np.ndarray, unit: str) -> None:
    """Raises DataError where a value is beyond `most` of the unit, on either side of 0."""
    largest = float(np.nanmax(np.abs(values), initial=0))
    if largest > most:
        raise DataError(f"a value of {largest:.3g}{unit} is too large", column=name)


def as_labels(name: str, column: np.ndarray) -> np.ndarray:
    """The column as strings, "" where missing."""
    if column.ndim != 1:
        raise DataError(f"must be one string a row; got {column.shape}", column=name)
    gone = missing(column)
    pairs = zip(column.tolist(), gone, strict=True)
    return np.array(["" if lost else str(v) for v, lost in pairs], dtype=object)


def positions(labels: np.ndarray, levels: list[str]) -> np.ndarray:
    """Codes from 1 on; 0 for what is missing or was not seen."""
    place = {level: i + 1 for i, level in enumerate(levels)}
    return np.array([place.get(label, 0) for label in labels], np.int32)
