"""Estimates with 95 % intervals from weighted rows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from downslope.estimate import Estimate, t_quantile
from downslope.metrics import MeanLoss
from downslope.metrics.intervals import wilson_interval
from downslope.table.evidence.context import Skipped

MAX_LOG = 700.0  # beyond it the exponential of a double overflows


def ends(estimate: Estimate) -> dict[str, float | None]:
    """An estimate as the journal holds it: `value`, `lo` and `hi`."""
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi}


def mean_of(values: Any, weight: Any, *, low: float = -math.inf) -> Estimate:
    """Weighted mean over rows [n], of at least `low`, with Student's interval.

    Raises:
        Skipped: a value of a row that counts is not finite.
    """
    mean = MeanLoss()
    mean.add(values, weight)
    found = mean.estimate()
    if not found.is_measured:
        raise Skipped(found.reason)
    return found if found.lo is None else dataclasses.replace(found, lo=max(low, found.lo))


def share_of(hits: Any, weight: Any) -> Estimate:
    """Weighted share of rows [n] with Wilson's interval on the effective number of rows."""
    weight = np.asarray(weight, np.float64)
    share = float(np.average(np.asarray(hits, np.float64), weights=weight))
    lo, hi = wilson_interval(share, float(weight.sum() ** 2 / (weight**2).sum()))
    return Estimate(value=share, lo=lo, hi=hi, unit="")


def root_of(estimate: Estimate) -> Estimate:
    """Square root of an estimated mean, with the delta method's interval on the log scale."""
    value, hi = float(estimate), estimate.hi
    root = Estimate(value=math.sqrt(value), unit="")
    reach = math.inf if hi is None or value <= 0 else (hi - value) / (2 * value)
    if reach > MAX_LOG:
        return root
    lo, hi = (float(root) * math.exp(sign * reach) for sign in (-1, 1))
    return dataclasses.replace(root, lo=lo, hi=hi)


def mean_of_pairs(cells: Any, partners: Any, weight: Any) -> Estimate:
    """Mean loss of rows to partners drawn several times, where rows and partners both vary.

    With s_i the part of a cell's variance that its row explains, s_j the part that its partner
    explains and s_ij the rest, the mean over n rows and R draws has the variance
    (s_i + s_j)/n + s_ij/(n R). The parts follow from the variances of the cells, of the means of
    rows and of the means of partners.

    Args:
        cells: [R, n], R of 2 or more: of row i at draw r.
        partners: [R, n], each draw a permutation.
        weight: [n].

    Raises:
        Skipped: a cell that counts is not finite.

    Source: components of variance of a crossed design; Hoeffding 1948 for pairs of rows.
    """
    cells, weight = np.asarray(cells, np.float64), np.asarray(weight, np.float64)
    cells = np.where(weight > 0, cells, 0.0)
    if not np.isfinite(cells).all():
        raise Skipped("the loss of a row with other values is not finite")
    draws, n = cells.shape
    share = weight / weight.mean()
    value = float((share * cells).mean())
    parts = share * (cells - value)
    by_partner = np.stack([part[np.argsort(to)] for part, to in zip(parts, partners, strict=True)])
    whole = float(parts.var()) * n / (n - 1)
    rows, others = (
        max(0.0, (float(means.var(ddof=1)) - whole / draws) / (1 - 1 / draws))
        for means in (parts.mean(0), by_partner.mean(0))
    )
    rest = max(0.0, whole - rows - others)
    reach = t_quantile(n - 1) * math.sqrt((rows + others) / n + rest / (n * draws))
    return Estimate(value=value, lo=value - reach, hi=value + reach, unit="")
