"""What is known of every cell beside its counts, as codes and numbers: 4 or 8 bytes a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of cells as codes.

    Attributes:
        name: what is labelled, for messages.
        levels: the different labels that occur, sorted.
        codes: [n], the place of each cell's label among the levels.
    """

    name: str
    levels: tuple[Any, ...]
    codes: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Cells of each level [levels]."""
        return np.bincount(self.codes, minlength=len(self.levels))


def labels_of(values: Any, name: str, levels: Sequence[Any] | None = None) -> Labels:
    """The labels as codes; categories that no cell has are left out.

    Args:
        values: [n] strings, whole numbers, bools, or a pandas categorical.
        name: what they label, for messages.
        levels: those known from a fit, in their order.

    Raises:
        DataError: a label is missing.
        UsageError: `values` is not a list of labels, or one of them is not among `levels`.

    Example:
        >>> found = labels_of(["Oslo", "Bern", "Oslo"], "batch")
        >>> found.levels, found.codes.tolist()
        (('Bern', 'Oslo'), [1, 0, 1])
    """
    if isinstance(values, Labels):
        found, codes = list(values.levels), values.codes
    else:
        found, codes = _coded(values, name)
    if len(codes) and codes.min() < 0:
        row = int(np.argmin(codes >= 0)) + 1
        raise DataError("missing label", column=name, row=row, remedy="drop these cells")
    if levels is not None:
        place = {level: i for i, level in enumerate(levels)}
        new = [level for level in found if level not in place]
        if new:
            raise UsageError(f"{name} must be one of those seen in fit; got {new[0]!r}")
        translation = np.array([place[level] for level in found], np.int32)
        return Labels(name=name, levels=tuple(levels), codes=translation[codes])
    present = np.bincount(codes, minlength=len(found)) > 0
    translation = (np.cumsum(present) - 1).astype(np.int32)
    kept = tuple(level for level, there in zip(found, present, strict=True) if there)
    return Labels(name=name, levels=kept, codes=translation[codes])


def _coded(values: Any, name: str) -> tuple[list[Any], np.ndarray]:
    categorical = getattr(values, "cat", values)  # a pandas series, or its categories by themselves
    if hasattr(categorical, "categories") and hasattr(categorical, "codes"):
        return list(categorical.categories), np.asarray(categorical.codes, np.int32)
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(f"{name} must be one label a cell, shape [n]; got {list(array.shape)}")
    if array.dtype.kind == "f" or array.dtype.kind == "O":
        missing = array != array if array.dtype.kind == "f" else _missing(array)
        if missing.any():
            return [], np.where(missing, -1, 0).astype(np.int32)
    levels, codes = np.unique(array, return_inverse=True)
    return levels.tolist(), codes.astype(np.int32)


def _missing(array: np.ndarray) -> np.ndarray:
    return np.fromiter((v is None or v != v for v in array), bool, len(array))


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """One thing known of a cell: labels, coded as columns of 0 and 1, or a number as it is.

    Attributes:
        name: of the covariate.
        levels: labels, of which the first has no column; None for a number.
        values: [n], codes or numbers.
    """

    name: str
    levels: tuple[Any, ...] | None
    values: np.ndarray

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it takes."""
        if self.levels is None:
            return (self.name,)
        return tuple(f"{self.name}: {level}" for level in self.levels[1:])

    def rows(self, at: slice) -> np.ndarray:
        """Its columns [m, k] for some cells, as float64."""
        values = self.values[at]
        if self.levels is None:
            return values[:, None]
        return (values[:, None] == np.arange(1, len(self.levels))).astype(np.float64)


def covariates_of(
    covariates: Any, num_cells: int, known: Sequence[Covariate] | None = None
) -> tuple[Covariate, ...]:
    """The covariates by name, checked.

    Args:
        covariates: None; a data frame or a mapping from name to values [n]. Numbers stay numbers,
            anything else is a label.
        num_cells: n.
        known: those of a fit, whose labels and order apply.

    Raises:
        UsageError: of another length, not by name, or not those of the fit.
        DataError: a value is missing or infinite.
    """
    table = {} if covariates is None else covariates
    if hasattr(table, "columns") and not isinstance(table, Mapping):
        table = {str(name): table[name] for name in table.columns}
    if not isinstance(table, Mapping):
        raise UsageError(
            "covariates must be a data frame, or a mapping from name to values; "
            f"got {type(covariates).__name__}"
        )
    if known is not None:
        names = [each.name for each in known]
        if sorted(table) != sorted(names):
            raise UsageError(f"covariates must be those of fit, {names}; got {sorted(table)}")
        table = {name: table[name] for name in names}
    before = {each.name: each for each in known or ()}
    return tuple(
        _covariate(str(name), values, num_cells, before.get(name)) for name, values in table.items()
    )


def _covariate(name: str, values: Any, num_cells: int, known: Covariate | None) -> Covariate:
    array = None
    if not isinstance(values, Labels) and not hasattr(getattr(values, "cat", values), "categories"):
        array = np.asarray(values)
    is_number = array is not None and array.dtype.kind in "iuf"
    if known is not None:
        is_number = known.levels is None
    if is_number:
        numbers = np.asarray(values, np.float64)
        if numbers.shape != (num_cells,):
            raise UsageError(
                f"covariate {name!r} must have one value for each of {num_cells:,} cells; "
                f"got shape {list(numbers.shape)}"
            )
        if not np.isfinite(numbers).all():
            row = int(np.argmin(np.isfinite(numbers))) + 1
            raise DataError("not a finite number", column=name, row=row)
        return Covariate(name=name, levels=None, values=numbers)
    found = labels_of(values, name, None if known is None else known.levels)
    if len(found.codes) != num_cells:
        raise UsageError(
            f"covariate {name!r} must have one value for each of {num_cells:,} cells; "
            f"got {len(found.codes):,}"
        )
    return Covariate(name=name, levels=found.levels, values=found.codes)


def rows_of(covariates: Sequence[Covariate], at: slice) -> np.ndarray:
    """Columns [m, q] of all covariates for some cells."""
    length = at.stop - at.start
    blocks = [each.rows(at) for each in covariates]
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((length, 0))
