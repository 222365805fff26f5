"""Training rows of a table in memory, as the checks examine them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from downslope.errors import UsageError

HEAD_ROWS = 1000  # rows that tell columns that vary from those that hardly do
RARE_SHARE = 0.05  # share of those rows off the median below which all rows are counted
SQUEEZED_RANGE = 0.02  # of the quartiles, in standard deviations; 1.35 for normal ones. Assumed
MISSING_CODE = 1  # the code of a missing category; 0 is one not seen in training


class Category(NamedTuple):
    """A column of categories: its name, number of values in training, whether codes are shared."""

    name: str
    num_values: int
    hashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Training rows in random order.

    Attributes:
        x: float32 [n, p], standardised numbers.
        names: of the p numbers.
        missing: for the numbers that are 1 where a column has no value, by their place in x, the
            name of that column.
        means, scales: [p], taken out by standardising, in each column's own unit; 0 and 1 where
            nothing was.
        codes: int32 [n, c], one column of codes a category.
        categories: the c of them.
        y: [n], index of the class, or a number.
        target: name of the target.
        classes: the classes in the order of their index; empty for numbers.
        num_rows: training rows of the whole table.

    Raises:
        UsageError: arrays whose shapes do not go together.
    """

    x: np.ndarray
    names: Sequence[str]
    y: np.ndarray
    target: str
    num_rows: int
    classes: Sequence[Any] = ()
    missing: Mapping[int, str] = field(default_factory=dict)
    means: np.ndarray | None = None
    scales: np.ndarray | None = None
    codes: np.ndarray | None = None
    categories: Sequence[Category] = ()

    def __post_init__(self):
        n, p = self.x.shape
        if len(self.names) != p or self.y.shape != (n,):
            raise UsageError(
                f"names, y must go with x of shape [{n}, {p}]; got {len(self.names)} names and "
                f"y of shape {list(self.y.shape)}"
            )
        shape = (0,) if self.codes is None else self.codes.shape
        if shape != (n, len(self.categories)) and (self.categories or self.codes is not None):
            raise UsageError(
                f"codes must have shape [{n}, {len(self.categories)}]; got {list(shape)}"
            )

    @property
    def rows(self) -> str:
        """These rows in words."""
        return rows_in_words(len(self.y), self.num_rows)

    def category_columns(self) -> list[tuple[Category, np.ndarray]]:
        """Each category with its codes [n]."""
        if self.codes is None:
            return []
        return list(zip(self.categories, self.codes.T, strict=True))

    def off_common(self) -> np.ndarray:
        """Rows of each number that differ from its most common value, [p].

        Extrapolated from the first 1,000 rows, and counted where these are nearly all the same.
        """
        head = self.x[:HEAD_ROWS]
        if not len(head):
            return np.zeros(self.x.shape[1], np.int64)
        common = np.median(head, axis=0).astype(self.x.dtype)
        shares = (head != common).mean(axis=0)
        found = (shares * len(self.x)).astype(np.int64)
        for j in np.flatnonzero(shares < RARE_SHARE):
            found[j] = np.count_nonzero(self.x[:, j] != common[j])
        return found

    def first(self, count: int) -> Sample:
        """The first `count` rows: a smaller random sample."""
        if count >= len(self.y):
            return self
        codes = None if self.codes is None else self.codes[:count]
        return dataclasses.replace(self, x=self.x[:count], y=self.y[:count], codes=codes)


def rows_in_words(count: int, num_rows: int) -> str:
    """The training rows that were examined, in words."""
    if count >= num_rows:
        return f"all {count:,} training rows"
    return f"{count:,} random training rows of {num_rows:,}"
