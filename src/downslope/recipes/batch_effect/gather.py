"""Cells together with what is known of them: batches, covariates and conditions, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import DataError, UsageError
from downslope.recipes.batch_effect.cells import Reader, chunks, column
from downslope.recipes.batch_effect.design import (
    Covariate,
    Labels,
    covariates_of,
    labels_of,
    rows_of,
)
from downslope.recipes.batch_effect.moments import Moments, rank


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is known of the cells.

    Attributes:
        batch: the laboratory of each cell.
        covariates: what is kept, with the condition as the last of them where there is one.
        condition: the condition of each cell, or None.
    """

    batch: Labels
    covariates: tuple[Covariate, ...]
    condition: Labels | None = None

    @property
    def num_columns(self) -> int:
        """Columns that the covariates take."""
        return sum(len(each.columns) for each in self.covariates)

    def rows(self, at: slice) -> np.ndarray:
        """Their columns [m, q] for some cells."""
        return rows_of(self.covariates, at)

    def mapping(self) -> dict[str, Any]:
        """The covariates but for the condition, as `covariates_of` takes them."""
        others = self.covariates[: len(self.covariates) - (self.condition is not None)]
        return {
            each.name: each.values
            if each.levels is None
            else Labels(name=each.name, levels=each.levels, codes=each.values)
            for each in others
        }

    def moments(self, reader: Reader, chunk_cells: int | None = None) -> Moments:
        """The sums of all cells, from one pass."""
        out = Moments(len(self.batch.levels), self.num_columns, reader.shape[1])
        for at, values in chunks(reader, chunk_cells):
            out.add(values, self.batch.codes[at], self.rows(at))
        return out


def gather(
    reader: Reader,
    known: Any,
    key: Any,
    covariates: Any = None,
    condition: Any = None,
    like: Given | None = None,
    called: str = "key",
) -> Given:
    """Labels by name or by value, one for each cell.

    Args:
        reader: of the cells.
        known: what knows their columns, as `open_cells` gives it.
        key, condition: names of columns, or labels [n].
        covariates: names of columns, or values by name.
        like: what a fit was given, whose levels apply.
        called: the caller's name for `key`, for messages.

    Raises:
        UsageError: of another length, unknown names, one batch only.
        DataError: a label is missing; no cells or no genes.
    """
    n = reader.shape[0]
    if not n or not reader.shape[1]:
        raise DataError(f"no cells: the matrix has shape {list(reader.shape)}")
    batch = named_labels(known, key, called, n, None if like is None else like.batch.levels)
    if len(batch.levels) < 2:
        raise UsageError(f"{called} must have two batches or more; got only {list(batch.levels)}")
    table = _table(known, covariates)
    found = None
    if condition is not None:
        if isinstance(key, str) and isinstance(condition, str) and condition == key:
            raise UsageError(f"condition must not be the batches; got {key!r}")
        found = named_labels(known, condition, "condition", n)
        table = {k: v for k, v in table.items() if k != found.name} | {found.name: found}
    if isinstance(key, str) and key in table:
        raise UsageError(f"covariates must not contain the batches; got {key!r}")
    return Given(
        batch=batch,
        covariates=covariates_of(table, n, None if like is None else like.covariates),
        condition=found,
    )


def named_labels(known: Any, of: Any, argument: str, n: int, levels: Any = None) -> Labels:
    """Labels of n cells, given or by the name of their column.

    Raises:
        UsageError: None, an unknown name, another number of labels, or one not among `levels`.
        DataError: a label is missing.
    """
    if of is None:
        raise UsageError(f"{argument} must be the label of each cell; got None")
    if isinstance(of, str):
        return labels_of(column(known, of, argument), of, levels, n)
    return labels_of(of, argument, levels, n)


def _table(known: Any, covariates: Any) -> dict[str, Any]:
    if covariates is None:
        return {}
    if isinstance(covariates, str):
        raise UsageError(f"covariates must be a list of names; got the name {covariates!r}")
    if hasattr(covariates, "columns") and not isinstance(covariates, Mapping):
        return {str(name): covariates[name] for name in covariates.columns}
    if isinstance(covariates, Mapping):
        return dict(covariates)
    if isinstance(covariates, Sequence) and all(isinstance(name, str) for name in covariates):
        return {name: column(known, name, "covariates") for name in covariates}
    raise UsageError(
        "covariates must be names of columns, a data frame or a mapping from name to values; "
        f"got {type(covariates).__name__}"
    )


def require_separable(given: Given, moments: Moments) -> None:
    """Nothing, where every covariate varies inside the batches as it does over all cells.

    Raises:
        UsageError: a covariate, or a mixture of them, is a function of the batch.
    """
    total = moments.pooled().cc[0]
    if rank(moments.cc.sum(0), total) == rank(total, total):
        return
    guilty = [
        each.name
        for each, lost in zip(given.covariates, _lost(given, moments, total), strict=True)
        if lost
    ]
    names = ", ".join(map(repr, guilty)) or "a mixture of the covariates"
    raise UsageError(
        f"covariates must not be confounded with the batches: {names} is told by the batch, so no "
        "method can separate the two; measure it in shared batches, or do not correct"
    )


def _lost(given: Given, moments: Moments, total: np.ndarray) -> list[bool]:
    lost, first, inside = [], 0, moments.cc.sum(0)
    for each in given.covariates:
        own = slice(first, first + len(each.columns))
        first = own.stop
        lost.append(
            rank(inside[own, own], total[own, own]) < rank(total[own, own], total[own, own])
        )
    return lost
