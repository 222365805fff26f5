"""Condition numbers of a layer's inputs, and how far standardising the columns lowers them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import Floats, array
from downslope.noise.statistics.intervals import jackknife_error, log_interval

RANK_TOLERANCE = 1e-12  # of eigenvalues, relative to the largest: rounding of a covariance
NUM_GROUPS = 20
FEW_ROWS = 10  # rows a column below which the condition number is visibly biased up; assumed


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Condition numbers of a layer's inputs.

    Attributes:
        before: of the covariance.
        after: of the correlation matrix, which is the covariance of standardised columns.
    """

    before: Estimate
    after: Estimate


def condition_number(inputs: ArrayLike) -> Conditioning:
    """Largest over smallest eigenvalue of the inputs' covariance, before and after standardising.

    Standardising (and batch normalisation) gives 1 only where columns are uncorrelated; two
    columns with correlation r keep (1 + r)/(1 - r). Few rows bias both up.

    Args:
        inputs: [n rows, p columns].

    Returns:
        Both condition numbers, with delete-a-group jackknife intervals on the log scale from 20
        groups of rows; not estimable with constant columns or without full rank.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(5000, 2)) * [10, 1]
        >>> found = condition_number(x)
        >>> print(found.before, "to", found.after)
        103.5 (97.4 to 109.9) to 1.060 (1.000 to 1.124)

    Source: for standardising, LeCun, Bottou, Orr and Mueller 1998.
    """
    x = array("inputs", inputs, 2)
    reason = _fault(x)
    if reason:
        none = not_estimable(reason, unit="", num_examples=len(x))
        return Conditioning(before=none, after=none)
    centred = x - x.mean(axis=0)
    return Conditioning(
        before=_estimate(centred, _covariance, "covariance"),
        after=_estimate(centred / np.abs(centred).max(axis=0), _correlation, "correlation matrix"),
    )


def _fault(x: Floats) -> str:
    num, columns = x.shape
    if columns == 0:
        return "no columns"
    if num < 2:
        return "fewer than 2 rows"
    if not np.isfinite(x).all():
        return "an input is not finite"
    centred = x - x.mean(axis=0)
    spread = np.abs(centred).max(axis=0)
    # a column is constant if its spread is rounding of its size
    constant = np.flatnonzero(spread <= 1e-13 * np.abs(x).max(axis=0))
    if len(constant):
        named = ", ".join(map(str, constant[:5])) + ("..." if len(constant) > 5 else "")
        return f"{len(constant)} constant columns ({named})"
    values = np.linalg.eigvalsh(_correlation(centred / spread))
    rank = int((values > RANK_TOLERANCE * values[-1]).sum())
    if rank < columns:
        return f"rank {rank} of {columns}: columns that others determine, or too few rows"
    return ""


def _covariance(x: Floats) -> Floats:
    centred = x - x.mean(axis=0)
    centred = centred / np.abs(centred).max()
    return centred.T @ centred / (len(x) - 1)


def _correlation(x: Floats) -> Floats:
    covariance = _covariance(x)
    deviation = np.sqrt(np.diag(covariance))
    return covariance / np.outer(deviation, deviation)


def _log_condition(matrix: Floats) -> float | None:
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= RANK_TOLERANCE * values[-1]:
        return None
    return math.log(values[-1] / values[0])


def _estimate(x: Floats, matrix: Callable[[Floats], Floats], name: str) -> Estimate:
    num, columns = x.shape
    log = _log_condition(matrix(x))
    if log is None:
        reason = "the columns differ too much in scale for double precision"
        return not_estimable(reason, unit="", num_examples=num)
    value, method, flags = math.exp(log), f"eigenvalues of the {name}", ()
    if num < FEW_ROWS * columns:
        flags = (f"upper: {num} rows for {columns} columns bias it up",)
    num_groups = min(NUM_GROUPS, num)

    def without(group: int) -> float | None:
        part = x[np.arange(num) % num_groups != group]
        return _log_condition(matrix(part)) if np.ptp(part, axis=0).all() else None

    logs = [log for group in range(num_groups) if (log := without(group)) is not None]
    if len(logs) < num_groups:
        flags = (*flags, "too few rows for an interval")
        return Estimate(value=value, unit="", num_examples=num, method=method, flags=flags)
    lo, hi = log_interval(value, jackknife_error(np.array(logs)), num_groups - 1)
    return Estimate(
        value=value, lo=max(lo, 1.0), hi=hi, unit="", num_examples=num, flags=flags,
        method=f"{method}; delete-a-group jackknife on the log scale",
    )  # fmt: skip
