"""A linear model of a table by a solver, for comparison, on the trained model's columns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, sparse
from scipy.sparse import linalg
from scipy.special import log_softmax

from downslope.data.stored import TableBatch
from downslope.models import Lookup
from downslope.table.evidence.context import Skipped

MAX_ROWS = 20_000
MAX_CELLS = 4_000_000  # rows times columns times classes: 10 ms a pass (measured)
MAX_WIDTH = 4096  # columns, each category and word one
MAX_ITERATIONS, MIN_ITERATIONS = 200, 10
PRECISE = 1e-7  # relative: three or four digits of a score are shown


class Columns:
    """Numbers as they are, and a 0/1 column for each code that occurs, learned from a batch.

    Raises:
        Skipped: there are too many codes.
    """

    def __init__(self, batch: TableBatch, lookups: tuple[Lookup, ...]):
        self._lookups = lookups
        self._known = [np.unique(_codes(table, batch)) for table in lookups]
        self._known = [codes[codes > 0] for codes in self._known]
        self.width = batch.x.shape[1] + sum(map(len, self._known))
        if self.width > MAX_WIDTH:
            raise Skipped(
                f"its categories and words would be {self.width:,} columns; at most {MAX_WIDTH:,} "
                "are fitted"
            )

    def __call__(self, batch: TableBatch) -> Any:
        """The matrix [n, width], in a form that has products from both sides."""
        x = np.asarray(batch.x, np.float32)
        if not self._lookups:
            return x
        parts = [sparse.csr_array(x)]
        for table, known in zip(self._lookups, self._known, strict=True):
            codes = _codes(table, batch)
            place = np.searchsorted(known, codes)
            place[place == len(known)] = 0
            rows, slots = np.nonzero(known[place] == codes if len(known) else codes < 0)
            ones = np.ones(len(rows), np.float32)
            shape = (len(x), len(known))
            # a word that comes twice counts twice, as in the model
            parts.append(sparse.csr_array((ones, (rows, place[rows, slots])), shape=shape))
        return sparse.hstack(parts, format="csr")


def _codes(table: Lookup, batch: TableBatch) -> np.ndarray:
    return np.asarray(batch.codes)[:, table.first_slot : table.first_slot + table.num_slots]


def least_squares(
    columns: Any, y: np.ndarray, weight: np.ndarray, seconds: float = math.inf
) -> tuple[np.ndarray, float, bool]:
    """Weights [width] and shift of the least squares fit, and whether it was found in time.

    Columns are [n, width], `y` and `weight` [n].
    """
    n, width = columns.shape
    root = np.sqrt(weight)

    # in the columns' own type: else they would be copied at every product
    def forth(v: np.ndarray) -> np.ndarray:
        return root * (columns @ v[:-1].astype(np.float32) + v[-1])

    def back(u: np.ndarray) -> np.ndarray:
        return np.append(columns.T @ (root * u).astype(np.float32), root @ u)

    most = _iterations(lambda: back(forth(np.zeros(width + 1))), seconds)
    operator: Any = linalg.LinearOperator
    product = operator(shape=(n, width + 1), matvec=forth, rmatvec=back, dtype=np.float64)
    found = linalg.lsmr(product, root * y, atol=PRECISE, btol=PRECISE, maxiter=most)
    return found[0][:-1], float(found[0][-1]), most == MAX_ITERATIONS or found[2] < most


def logistic(
    columns: Any, y: np.ndarray, weight: np.ndarray, num_classes: int, seconds: float = math.inf
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Weights [width, K] and shifts [K] of a softmax regression, and whether found in time.

    Minimises the weighted mean of the log loss plus |weights|^2 / (2 n), by L-BFGS: the penalty
    is scikit-learn's default, and keeps separable classes finite. Columns are [n, width], class
    numbers `y` and `weight` [n].
    """
    n, width = columns.shape
    share = weight / weight.sum()
    chosen = y[:, None] == np.arange(num_classes)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(width + 1, num_classes).astype(np.float32)
        logs = log_softmax((columns @ w[:-1] + w[-1]).astype(np.float64), axis=1)
        residual = share[:, None] * (np.exp(logs) - chosen)
        slopes = columns.T @ residual.astype(np.float32) + w[:-1] / n
        gradient = np.concatenate([slopes, residual.sum(0)[None]], dtype=np.float64)
        penalty = float((w[:-1].astype(np.float64) ** 2).sum()) / (2 * n)
        return penalty - float(share @ np.where(chosen, logs, 0.0).sum(1)), gradient.ravel()

    start = np.zeros((width + 1) * num_classes)
    most = _iterations(lambda: value(start), seconds)
    options = {"maxiter": most, "ftol": PRECISE}
    found = optimize.minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    w = found.x.reshape(width + 1, num_classes)
    return w[:-1], w[-1], most == MAX_ITERATIONS or found.nit < most


def _iterations(one: Callable[[], Any], seconds: float) -> int:
    """Iterations that there is time for, by the time of one."""
    begin = time.perf_counter()
    one()
    fits = seconds / max(time.perf_counter() - begin, 1e-6)
    return int(np.clip(fits, MIN_ITERATIONS, MAX_ITERATIONS))
