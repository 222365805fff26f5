"""Dual coordinate ascent for Crammer and Singer's loss: row by row, each step exact (NumPy)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from downslope.recipes.svm.duals import Floats, nearest_shares
from downslope.recipes.svm.problem import Problem

LOOKED_AT = 256  # rows whose outputs are computed at once, to find those worth a step; assumed
TINY = 1e-9  # c |x|^2 below which a row takes the worst rival whole: it moves no weights


class Ascent:
    """Shares p [n, K] of the classes, and the weights W(p) = sum_i c_i x_i (e_y - p_i)' they give.

    Begins at the shares that the margins of some weights give, drawn towards e_y by the factor
    that makes the dual objective highest: it is a parabola along that line.

    Attributes:
        weights: W(p) [width, K].
        dual_objective: sum_i c_i (1 - p_iy) - |W(p)|^2 / 2.
    """

    def __init__(self, problem: Problem, outputs: Floats):
        self.problem = problem
        self._own = np.zeros(outputs.shape)
        self._own[np.arange(len(problem.y)), problem.y] = 1
        self._p = nearest_shares(outputs + 1 - self._own)
        pulled = problem.pulled(self._own - self._p)
        linear, square = self._linear(), float(np.vdot(pulled, pulled))
        share = min(1.0, linear / square) if square > 0 else 0.0
        self._p = self._own + share * (self._p - self._own)
        self.weights = share * pulled
        self._norms = np.concatenate([(rows**2).sum(axis=1) for _, rows in problem.pieces()])

    @property
    def dual_objective(self) -> float:
        return self._linear() - float(np.vdot(self.weights, self.weights)) / 2

    def _linear(self) -> float:
        return float(self.problem.cost @ (self._p * (1 - self._own)).sum(axis=1))

    def sweep(self, order: NDArray[np.intp], tolerance: float) -> None:
        """One step for each row of `order` whose own gap is above `tolerance`.

        The best shares of row i, the others held, are the nearest to
        p_i + (o_i + 1 - e_y) / (c_i |x_i|^2).
        """
        problem, cost = self.problem, self.problem.cost
        for chosen in self._pieces(order):
            rows = problem.some(chosen)
            v = rows @ self.weights + 1 - self._own[chosen]
            open_by = v.max(axis=1) - (self._p[chosen] * v).sum(axis=1)
            for j in np.flatnonzero(open_by > tolerance):
                i, x = chosen[j], rows[j]
                size = max(cost[i] * self._norms[i], TINY)
                before = self._p[i]
                point = before + (x @ self.weights + 1 - self._own[i]) / size
                after = nearest_shares(point[None])[0]
                self.weights += np.outer(cost[i] * x, before - after)
                self._p[i] = after

    def again(self) -> None:
        """The weights anew from the shares, so that rounding does not add up."""
        self.weights = self.problem.pulled(self._own - self._p)

    @staticmethod
    def _pieces(order: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        for start in range(0, len(order), LOOKED_AT):
            yield order[start : start + LOOKED_AT]
