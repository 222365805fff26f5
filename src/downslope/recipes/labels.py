"""Labels of rows: which are missing, and their codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from downslope import DataError, UsageError
from downslope.arguments import plain


def missing(values: Any) -> np.ndarray:
    """Whether each of some values is None, NaN, NaT or pandas' NA, bool [n].

    Args:
        values: [n].

    Example:
        >>> missing(["a", None, float("nan"), np.datetime64("NaT")]).tolist()
        [False, True, True, True]
    """
    array = _array(values)
    if array.dtype.kind in "mM":
        return np.isnat(array)
    if array.dtype.kind in "fc":
        return np.isnan(array)
    if array.dtype.kind != "O":
        return np.zeros(len(array), bool)
    return np.fromiter((_is_missing(value) for value in array), bool, len(array))


def coded(
    values: Any,
    name: str,
    *,
    num_rows: int | None = None,
    levels: Sequence[Any] | None = None,
    remedy: str | None = None,
) -> tuple[tuple[Any, ...], np.ndarray]:
    """Distinct labels, and the code of each row's label among them, int32 [n].

    Args:
        values: [n] strings, whole numbers, bools, dates, which are sorted; or a pandas categorical,
            whose order is kept and whose unused categories are left out.
        name: name of the argument, for messages.
        num_rows: number of labels required, where known.
        levels: labels known from a fit, in their order.
        remedy: what to do about a missing label.

    Raises:
        DataError: a label is missing.
        UsageError: not one label per row, labels that cannot be sorted, or one not in `levels`.

    Example:
        >>> coded(["Rome", "Oslo", "Rome"], "lab")
        (('Oslo', 'Rome'), array([1, 0, 1], dtype=int32))
        >>> coded(["Bern"], "lab", levels=("Oslo", "Rome"))
        Traceback (most recent call last):
        ...
        downslope.errors.UsageError: lab must be one of those seen in fit; got 'Bern'
    """
    found, codes = _categories(values) or _different(values, name)
    if num_rows is not None and len(codes) != num_rows:
        raise UsageError(f"{name} must be one label for each of {num_rows:,} rows; "
                         f"got {len(codes):,}")  # fmt: skip
    if len(codes) and codes.min() < 0:
        row = int((codes < 0).argmax()) + 1
        raise DataError("missing label", column=name, row=row, remedy=remedy)
    present = np.bincount(codes, minlength=len(found)) > 0
    kept = [level for level, there in zip(found, present, strict=True) if there]
    codes = (np.cumsum(present) - 1)[codes]
    if levels is None:
        return tuple(kept), codes.astype(np.int32)
    place = {level: i for i, level in enumerate(levels)}
    new = [level for level in kept if level not in place]
    if new:
        raise UsageError(f"{name} must be one of those seen in fit; got {plain(new[0])!r}")
    translation = np.array([place[level] for level in kept], np.int32)
    return tuple(levels), translation[codes]


def _array(values: Any) -> np.ndarray:
    return values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    differs = value != value  # NaN and NaT differ from themselves; for pandas' NA this is NA
    return (
        differs is not False
        and differs is not np.False_
        and (not isinstance(differs, (bool, np.bool_)) or bool(differs))
    )


def _categories(values: Any) -> tuple[list[Any], np.ndarray] | None:
    """Categories and codes of a pandas categorical, or of a series of one."""
    found = getattr(values, "cat", values)
    if not (hasattr(found, "categories") and hasattr(found, "codes")):
        return None
    return list(found.categories), np.asarray(found.codes, np.int64)


def _different(values: Any, name: str) -> tuple[list[Any], np.ndarray]:
    array = _array(values)
    if array.ndim != 1:
        raise UsageError(f"{name} must be one label a row, shape [n]; got {list(array.shape)}")
    gone = missing(array)
    if gone.any():
        return [0], np.where(gone, -1, 0)
    try:
        levels, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in array})
        raise UsageError(f"{name} must be labels of one kind; got {' and '.join(kinds)}") from error
    return levels.tolist(), codes
