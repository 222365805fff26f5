"""Linear model of a table in memory, with the l2 of a path that held-out rows prefer.

The problem is convex and small: L-BFGS of SciPy over a sparse matrix solves it in less time than it
takes to compile a step of gradient descent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from downslope.choose import Decision, choose_l2
from downslope.data.stored import RowFile, StoredTable
from downslope.table.model import TableModel

Floats = NDArray[np.float64]
# Losses [n] and their derivatives by the outputs [n, K], from outputs and targets [n].
Slope = Callable[[Floats, Floats], tuple[Floats, Floats]]
MOST_ENTRIES = 2_000_000  # numbers and codes of all rows times outputs: up to three seconds
MOST_PARAMETERS = 200_000  # for which L-BFGS takes 40 MB
# Times the rows: the penalty relative to the information of one row (1 is scikit-learn's default)
PATH = (100.0, 10.0, 1.0, 0.1, 0.01)
WORSE = 2  # values in a row without a gain, after which the path ends
ITERATIONS = 100  # of each value, which begins at the solution of the one before
# Share of the range of a tenth of the targets, around a quantile, over which the kink of its loss
# is rounded: the derivative is then smooth, and the least point moves by far less than its error
# (He et al. 2023).
ROUNDING, EXACT = 0.1, 1e-6
TOLERANCE = 1e-7  # relative fall of the loss in an iteration, below which it is solved


class LinearFit(NamedTuple):
    """A linear model's parameters, the losses of all held-out rows [n], and what it took.

    `losses` is None without held-out rows, `decision`, on its l2, where none was chosen.
    """

    params: Any
    losses: Floats | None
    decision: Decision | None
    seconds: float


def fit_linear(
    model: TableModel, stored: StoredTable, *, seconds: float | None = None
) -> LinearFit | None:
    """Linear model with the l2 of the path that has the lowest loss on held-out rows.

    None where no rows are held out, the table is too large, or the loss has no smooth derivative
    here (squared, logistic and softmax have, and that of quantiles is rounded).

    Args:
        model: its linear part.
        stored: the table.
        seconds: after which the solution reached is taken; None for no limit.

    Source: Nocedal and Wright (2006), section 7.2.
    """
    slope = held_slope = SLOPES.get(model.loss)
    if model.loss == "quantile":
        slope = held_slope = _pinball(model.options.quantile, EXACT)
    encoding = model.encoding
    if slope is None or held_slope is None or stored.held_out is None:
        return None
    per_row = (encoding.num_numeric + encoding.num_codes_columns) * model.num_outputs
    if max(stored.num_train, stored.num_held_out) * per_row > MOST_ENTRIES:
        return None
    num_inputs = encoding.num_numeric + sum(table.num_codes for table in model.lookups)
    if num_inputs * model.num_outputs > MOST_PARAMETERS:
        return None
    from scipy.optimize import minimize  # takes longer to import than a small table to solve

    begin = time.perf_counter()
    x, batch = _matrix(model, stored.train)
    weight = batch.weight.astype(np.float64)
    if model.class_weights:
        weight *= np.array(model.class_weights)[batch.y.astype(int)]
    held_x, held = _matrix(model, stored.held_out)
    if not (weight.sum() > 0 and held.weight.sum() > 0):
        return None
    weight /= weight.sum()
    shape = x.shape[1], model.num_outputs
    target, held_target = (each.y.astype(np.float64) for each in (batch, held))
    if model.loss == "quantile":
        slope = _pinball(model.options.quantile, _widths(model.options.quantile, target))

    def objective(flat: Floats, l2: float) -> tuple[float, Floats]:
        theta = flat.reshape(shape)
        losses, slopes = slope(x @ theta, target)
        penalized = theta[:-1]  # all but the bias
        value = weight @ losses + l2 / 2 * np.square(penalized).sum()
        gradient = x.T @ (weight[:, None] * slopes)
        gradient[:-1] += l2 * penalized
        return float(value), gradient.ravel()

    def stop_in_time(_: Floats) -> None:
        if seconds is not None and time.perf_counter() - begin > seconds:
            raise StopIteration

    theta, values, means, solutions = np.zeros(np.prod(shape)), [], [], []
    for times in PATH:
        l2 = times / len(target)
        options = {"maxiter": ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0}
        theta = minimize(
            objective, theta, (l2,), "L-BFGS-B", jac=True, callback=stop_in_time, options=options
        ).x
        held_out = held_x @ theta.reshape(shape)
        if model.loss == "quantile":
            held_out = np.sort(held_out)  # as the model has them
        losses, _ = held_slope(held_out, held_target)
        values.append(l2)
        means.append(float(np.average(losses, weights=held.weight)))
        solutions.append((theta, losses))
        decision = choose_l2(values=tuple(values), losses=tuple(means))
        assert decision is not None  # as of every policy that always decides
        best = values.index(decision.new)
        took = time.perf_counter() - begin
        if len(values) - 1 - best >= WORSE or (seconds is not None and took > seconds):
            break
    theta, losses = solutions[best]
    params = _params(model, theta.reshape(shape))
    return LinearFit(params, losses, decision, time.perf_counter() - begin)


def _matrix(model: TableModel, rows: RowFile) -> tuple[Any, Any]:
    """Sparse matrix [n, d + 1] of numbers, indicators of codes and a last column of ones."""
    from scipy import sparse

    batch = rows.unpack(rows.read(0, rows.num_rows))
    parts = [sparse.csr_matrix(batch.x.astype(np.float64))]
    for table in model.lookups:
        codes = batch.codes[:, table.first_slot : table.first_slot + table.num_slots]
        row, slot = np.nonzero(codes)  # code 0 adds nothing
        ones = np.ones(len(row))
        shape = rows.num_rows, table.num_codes
        parts.append(sparse.csr_matrix((ones, (row, codes[row, slot])), shape))
    parts.append(sparse.csr_matrix(np.ones((rows.num_rows, 1))))
    return sparse.hstack(parts, "csr"), batch


def _params(model: TableModel, theta: Floats) -> dict[str, Any]:
    """Parameters of the linear model from rows of `theta` [d + 1, K]."""
    numbers = model.encoding.num_numeric
    ends = np.cumsum([numbers, *(table.num_codes for table in model.lookups)])
    weights, *tables, bias = np.split(theta.astype(np.float32), ends)
    names = [table.name for table in model.lookups]
    found = dict(zip(names, tables, strict=True))
    return {"weights": weights, "bias": bias[0], "tables": found}


def _squared(out: Floats, target: Floats) -> tuple[Floats, Floats]:
    residual = out[:, 0] - target
    return np.square(residual) / 2, residual[:, None]


def _logistic(out: Floats, target: Floats) -> tuple[Floats, Floats]:
    from scipy.special import expit

    odds = out[:, 0]
    return np.logaddexp(odds, 0) - target * odds, (expit(odds) - target)[:, None]


def _softmax(out: Floats, target: Floats) -> tuple[Floats, Floats]:
    chosen = np.arange(len(out)), target.astype(int)
    shifted = out - out.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    slopes = np.exp(shifted) / total
    losses = np.log(total)[:, 0] - shifted[chosen]
    slopes[chosen] -= 1
    return losses, slopes


def _widths(levels: tuple[float, ...], target: Floats) -> Floats:
    """Widths [K] over which kinks are rounded: a tenth of the range of a tenth of the targets."""
    middle = np.clip(levels, 0.06, 0.94)
    found = np.quantile(target, middle + 0.05) - np.quantile(target, middle - 0.05)
    return np.maximum(ROUNDING * found, EXACT)


def _pinball(levels: tuple[float, ...], widths: Floats | float) -> Slope:
    """Loss of quantiles, whose kinks are parabolas where residuals are below `widths` [K]."""
    tilt = np.array(levels) - 0.5

    def slope(out: Floats, target: Floats) -> tuple[Floats, Floats]:
        rest = target[:, None] - out
        size, sign = np.abs(rest), np.clip(rest / widths, -1, 1)
        size = np.where(size < widths, rest**2 / (2 * widths) + widths / 2, size)
        return (tilt * rest + size / 2).mean(1), -(tilt + sign / 2) / len(levels)

    return slope


SLOPES: dict[str, Slope] = {
    "squared": _squared,
    "logistic": _logistic,
    "softmax": _softmax,
}
