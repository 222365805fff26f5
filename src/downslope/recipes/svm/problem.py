"""The problem of a support vector machine: rows, costs, both sums over the rows, and its losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from downslope.losses import hinge, squared_hinge
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


@dataclass(frozen=True)
class RowLoss:
    """The weighted hinge loss of every row. It compares by value: its programs outlive a fit.

    Attributes:
        name: hinge, squared_hinge or crammer_singer.
    """

    name: str

    def __call__(self, model: Any, batch: Any, key: Any) -> Any:
        """Losses [B] of a batch of rows, class numbers and weights."""
        x, y, weight = batch
        outputs = x @ model["weights"]
        outputs = outputs + model["intercept"] if "intercept" in model else outputs
        if self.name == "crammer_singer":
            return weight * crammer_singer(outputs, y)
        loss = {"hinge": hinge, "squared_hinge": squared_hinge}[self.name]
        count = outputs.shape[-1]
        target = y[:, None] if count == 1 else y[:, None] == jnp.arange(count)
        return weight * loss(outputs, target.astype(outputs.dtype)).sum(-1)


def crammer_singer(outputs: Any, y: Any) -> Any:
    """Loss [B] of all outputs together: max over k of o_k + [k != y], less o_y.

    Example:
        >>> crammer_singer(jnp.array([[2.0, 0.5, 1.5]]), jnp.array([0])).tolist()
        [0.5]
    """
    own = jnp.arange(outputs.shape[-1]) == y[:, None]
    rivals = jnp.max(outputs + ~own, axis=-1)
    return rivals - jnp.where(own, outputs, 0.0).sum(-1)
