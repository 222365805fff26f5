"""How much of the inputs' ill-conditioning standardising the columns removes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.ranges import Floats, array

RANK_TOLERANCE = 1e-12  # of eigenvalues, relative to the largest: rounding of a covariance
NUM_GROUPS = 20
FEW_ROWS = 10  # rows a column below which the condition number is visibly biased up; assumed


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Condition numbers of a layer's inputs.

    Attributes:
        before: of the covariance.
        after: of the correlation matrix, which is the covariance of standardised columns.
        rank: numerical rank of the covariance, after scaling constant-free columns.
        num_columns: p; a rank below it means columns that others determine.
        constant_columns: indices of the columns that never change.
    """

    before: Estimate
    after: Estimate
    rank: int
    num_columns: int
    constant_columns: tuple[int, ...]


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
        >>> told = condition_number(x)
        >>> print(told.before, "to", told.after)
        103.5 (97.4 to 109.9) to 1.060 (1.000 to 1.124)

    Source: for standardising, LeCun, Bottou, Orr and Mueller 1998.
    """
    x = array("inputs", inputs, 2)
    num, columns = x.shape
    fault = _fault(x)
    if fault:
        none = not_estimable(fault, unit="", num_examples=num)
        return Conditioning(
            before=none, after=none, rank=0, num_columns=columns, constant_columns=()
        )
    # a column is constant if its spread is rounding of its size
    centred = x - x.mean(axis=0)
    size = np.abs(x).max(axis=0)
    spread = np.abs(centred).max(axis=0)
    constant = np.flatnonzero(spread <= 1e-13 * size)
    varying = np.setdiff1d(np.arange(columns), constant)
    scaled = centred[:, varying] / spread[varying]
    rank = _rank(_correlation(scaled)) if len(varying) else 0
    if len(constant):
        named = ", ".join(str(c) for c in constant[:5]) + ("..." if len(constant) > 5 else "")
        reason = f"{len(constant)} constant columns ({named})"
    elif rank < columns:
        reason = f"rank {rank} of {columns}: columns that others determine, or too few rows"
    else:
        reason = ""
    if reason:
        before = after = not_estimable(reason, unit="", num_examples=num)
    else:
        before = _measure(centred, _covariance, "covariance")
        after = _measure(scaled, _correlation, "correlation matrix")
    return Conditioning(
        before=before, after=after, rank=rank, num_columns=columns,
        constant_columns=tuple(int(c) for c in constant),
    )  # fmt: skip


def _fault(x: Floats) -> str:
    if x.shape[1] == 0:
        return "no columns"
    if len(x) < 2:
        return "fewer than 2 rows"
    return "" if np.isfinite(x).all() else "an input is not finite"


def _covariance(x: Floats) -> Floats:
    centred = x - x.mean(axis=0)
    centred = centred / np.abs(centred).max()
    return centred.T @ centred / (len(x) - 1)


def _correlation(x: Floats) -> Floats:
    covariance = _covariance(x)
    deviation = np.sqrt(np.diag(covariance))
    return covariance / np.outer(deviation, deviation)


def _rank(matrix: Floats) -> int:
    values = np.linalg.eigvalsh(matrix)
    return int((values > RANK_TOLERANCE * values[-1]).sum())


def _log_condition(matrix: Floats) -> float | None:
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= RANK_TOLERANCE * values[-1]:
        return None
    return math.log(values[-1] / values[0])


def _measure(x: Floats, matrix, name: str) -> Estimate:
    num, columns = x.shape
    log = _log_condition(matrix(x))
    if log is None:
        reason = "the columns differ too much in scale for double precision"
        return not_estimable(reason, unit="", num_examples=num)
    value = math.exp(log)
    flags = ()
    if num < FEW_ROWS * columns:
        flags = (f"upper: {num} rows for {columns} columns bias it up",)
    method = f"eigenvalues of the {name}"
    if columns == 1:
        return Estimate(value=1.0, lo=1.0, hi=1.0, unit="", num_examples=num, method=method)
    groups = min(NUM_GROUPS, num)
    logs = []
    for group in range(groups):
        kept = np.arange(num) % groups != group
        part = x[kept]
        one = _log_condition(matrix(part)) if (np.ptp(part, axis=0) > 0).all() else None
        if one is None:
            return Estimate(
                value=value, unit="", num_examples=num, method=method,
                flags=(*flags, "too few rows for an interval"),
            )  # fmt: skip
        logs.append(one)
    deviation = np.array(logs) - np.mean(logs)
    error = math.sqrt(float(deviation @ deviation) * (groups - 1) / groups)
    reach = float(special.stdtrit(groups - 1, 0.975)) * error
    return Estimate(
        value=value, lo=math.exp(max(log - reach, 0.0)), hi=math.exp(log + reach), unit="",
        num_examples=num, method=f"{method}; delete-a-group jackknife on the log scale",
        flags=flags,
    )  # fmt: skip
