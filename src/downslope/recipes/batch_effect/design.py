"""What is known of every cell beside its counts, as codes and numbers: 4 or 8 bytes a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import DataError, UsageError
from downslope.recipes.labels import coded, missing

MOST_DESIGN = 1 << 20  # different rows of the design up to which they are looked at


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of cells as codes.

    Attributes:
        name: what is labelled, for messages.
        levels: the different labels that occur, sorted, or in the order of their categories.
        codes: [n], the place of each cell's label among the levels.
    """

    name: str
    levels: tuple[Any, ...]
    codes: np.ndarray

    @property
    def categories(self) -> tuple[Any, ...]:
        """The levels, by the name that a pandas categorical has for them."""
        return self.levels

    @property
    def counts(self) -> np.ndarray:
        """Cells of each level [levels]."""
        return np.bincount(self.codes, minlength=len(self.levels))


def labels_of(
    values: Any, name: str, levels: Sequence[Any] | None = None, num_cells: int | None = None
) -> Labels:
    """The labels as codes; categories that no cell has are left out.

    Args:
        values: [n] strings, whole numbers, bools, or a pandas categorical.
        name: what they label, for messages.
        levels: those known from a fit, in their order.
        num_cells: n, where that is known.

    Raises:
        DataError: a label is missing.
        UsageError: `values` is not a list of labels, or one of them is not among `levels`.

    Example:
        >>> found = labels_of(["Oslo", "Bern", "Oslo"], "batch")
        >>> found.levels, found.codes.tolist()
        (('Bern', 'Oslo'), [1, 0, 1])
    """
    found, codes = coded(values, name, num_rows=num_cells, levels=levels, remedy="drop these cells")
    return Labels(name=name, levels=found, codes=codes)


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
    if not hasattr(getattr(values, "cat", values), "categories"):
        array = np.asarray(values)
    is_number = array is not None and array.dtype.kind in "iuf"
    if known is not None:
        is_number = known.levels is None
    if is_number:
        gone = missing(np.asarray(values))
        if gone.any():
            raise DataError("missing value", column=name, row=int(gone.argmax()) + 1)
        try:
            numbers = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"covariate {name!r} must be numbers, as in fit") from error
        if numbers.shape != (num_cells,):
            raise UsageError(
                f"covariate {name!r} must have one value for each of {num_cells:,} cells; "
                f"got shape {list(numbers.shape)}"
            )
        if not np.isfinite(numbers).all():
            row = int(np.argmin(np.isfinite(numbers))) + 1
            raise DataError("not a finite number", column=name, row=row)
        return Covariate(name=name, levels=None, values=numbers)
    found = labels_of(values, name, None if known is None else known.levels, num_cells)
    return Covariate(name=name, levels=found.levels, values=found.codes)


def rows_of(covariates: Sequence[Covariate], at: slice) -> np.ndarray:
    """Columns [m, q] of all covariates for some cells."""
    length = at.stop - at.start
    blocks = [each.rows(at) for each in covariates]
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((length, 0))


def distinct_rows(
    batches: Labels, conditions: Labels, covariates: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of [1, conditions, covariates, batches], and how many cells have each."""
    n = len(batches.codes)
    others = covariates_of(covariates, n)
    columns = [conditions.codes, batches.codes, *(each.values for each in others)]
    distinct, counts = np.unique(
        np.stack(columns, 1).astype(np.float64), axis=0, return_counts=True
    )
    if len(distinct) > MOST_DESIGN:  # numbers in great variety: any sample of them has their rank
        distinct = distinct[:: len(distinct) // MOST_DESIGN + 1]
        counts = np.ones(len(distinct))
    blocks = [
        np.ones((len(distinct), 1)),
        (distinct[:, [0]] == np.arange(1, len(conditions.levels))).astype(float),
    ]
    for place, each in enumerate(others, start=2):
        values = distinct[:, place]
        column = type(each)(name=each.name, levels=each.levels, values=values)
        block = rows_of([column], slice(0, len(values)))
        if each.levels is None:  # centred and scaled, so that the tolerance means the same
            block = (block - block.mean()) / (block.std() or 1.0)
        blocks.append(block)
    blocks.append((distinct[:, [1]] == np.arange(1, len(batches.levels))).astype(float))
    return np.concatenate(blocks, axis=1), counts
