"""The problem of a support vector machine: rows, costs, and both of its sums over the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope.recipes.svm import duals
from downslope.recipes.svm.duals import Floats, Rows

PIECE = 1 << 16  # numbers of a table converted to float64 at once: 512 KiB, to stay in a cache


@dataclass
class Passes:
    """How many times all rows were read."""

    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Rows, classes, costs and the loss.

    Attributes:
        x: rows [n, d] as they are; pieces are converted to float64 when they are used.
        y: class numbers [n].
        cost: C times the weight of each row [n].
        loss: hinge or squared_hinge.
        joint: Crammer and Singer's loss of all outputs, instead of each output by itself.
        intercept: a column of ones is thought at the end of x.
        num_outputs: K.
    """

    x: Any
    y: NDArray[np.intp]
    cost: Floats
    loss: str
    joint: bool
    intercept: bool
    num_outputs: int
    passes: Passes = field(default_factory=Passes)

    @property
    def width(self) -> int:
        return self.x.shape[1] + self.intercept

    def pieces(self, chosen: NDArray[np.intp] | None = None) -> Iterator[tuple[Any, Floats]]:
        """Pieces of the rows [B, width] in float64, with what picks them; all, or the chosen."""
        num = len(self.y) if chosen is None else len(chosen)
        self.passes.total += chosen is None
        size = max(16, PIECE // self.width)
        space = np.ones((min(size, num), self.width))  # its last column stays 1
        for start in range(0, num, size):
            stop = min(start + size, num)
            pick: Any = slice(start, stop) if chosen is None else chosen[start:stop]
            rows = space[: stop - start]
            rows[:, : self.x.shape[1]] = self.x[pick]
            yield pick, rows

    def some(self, chosen: NDArray[np.intp]) -> Floats:
        """These rows [B, width] in float64."""
        rows = np.ones((len(chosen), self.width))
        rows[:, : self.x.shape[1]] = self.x[chosen]
        return rows

    def outputs(self, weights: Floats) -> Floats:
        found = np.empty((len(self.y), self.num_outputs))
        for pick, rows in self.pieces():
            found[pick] = rows @ weights
        return found

    def pulled(self, q: Floats) -> Floats:
        """W(q) = sum_i c_i x_i q_i'."""
        found = np.zeros((self.width, self.num_outputs))
        for pick, rows in self.pieces():
            found += rows.T @ (self.cost[pick, None] * q[pick])
        return found

    def rows(self, outputs: Floats, ramp: Floats) -> Rows:
        """Losses and duals of all rows, output by output."""
        signs: Any
        if self.num_outputs == 1:
            signs = 2.0 * self.y[:, None] - 1
        else:
            signs = 2.0 * (self.y[:, None] == np.arange(self.num_outputs)) - 1
        if self.loss == "squared_hinge":
            return duals.squared_hinge(outputs, signs)
        return duals.hinge(outputs, signs, ramp)
