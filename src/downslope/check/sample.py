"""Rows of a table in memory, as the checks look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from downslope.errors import UsageError

HEAD, RARE = 1000, 0.05  # rows that tell columns that vary from those that hardly do
MISSING_CODE = 1  # the code of a missing category; 0 is one not seen in training


class Category(NamedTuple):
    """A column of categories: how many values training has seen, and whether more share codes."""

    name: str
    num_values: int
    hashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Training rows in random order.

    Attributes:
        x: float32 [n, p], standardised numbers.
        names: what each of the p numbers is called.
        missing: for the numbers that say whether a column has a value (1 where not), by their
            place in x, the name of that column.
        means, scales: [p], what standardising took out, in each column's own unit; 0 and 1 where
            it took out nothing.
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
        """Which rows these are, in words."""
        count = len(self.y)
        if count >= self.num_rows:
            return f"all {count:,} training rows"
        return f"{count:,} random training rows of {self.num_rows:,}"

    def off_common(self) -> np.ndarray:
        """Rows of each number that differ from its most common value, [p]; none for one value.

        Where the median of the first 1,000 rows is not nearly all of them, their share stands for
        that of all rows.
        """
        head = self.x[:HEAD]
        if not len(head):
            return np.zeros(self.x.shape[1], np.int64)
        common = np.median(head, axis=0).astype(self.x.dtype)
        shares = (head != common).mean(axis=0)
        found = (shares * len(self.x)).astype(np.int64)
        for j in np.flatnonzero(shares < RARE):
            found[j] = np.count_nonzero(self.x[:, j] != common[j])
        return found

    def first(self, count: int) -> Sample:
        """The first `count` rows: a smaller random sample."""
        if count >= len(self.y):
            return self
        fields = {f: getattr(self, f) for f in self.__dataclass_fields__}
        codes = None if self.codes is None else self.codes[:count]
        return Sample(**{**fields, "x": self.x[:count], "y": self.y[:count], "codes": codes})
