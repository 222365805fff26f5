"""Estimates with intervals from rows, as the journal holds them: `value`, `lo`, `hi`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from downslope.estimate import t_quantile
from downslope.metrics import MeanLoss
from downslope.metrics.intervals import wilson_interval
from downslope.table.evidence.scene import LeftOut

Estimate = dict[str, float | None]


def mean_of(values: Any, weight: Any, *, low: float = -math.inf) -> Estimate:
    """Weighted mean over rows with Student's interval; without ends where no spread was seen.

    Args:
        values, weight: [n].
        low: the least value that the mean can have.

    Raises:
        LeftOut: a value of a row that counts is not finite.

    Example:
        >>> mean_of(np.array([1.0, 2.0, 3.0, 50.0]), np.array([1.0, 1.0, 1.0, 0.0]))["value"]
        2.0
    """
    mean = MeanLoss()
    mean.add(values, weight)
    found = mean.result()
    if "loss" not in found:
        raise LeftOut(found.reasons["loss"])
    estimate = found["loss"]
    lo = None if estimate.lo is None else max(low, estimate.lo)
    return {"value": estimate.value, "lo": lo, "hi": estimate.hi}


def share_of(hits: Any, weight: Any) -> Estimate:
    """Weighted share of rows with Wilson's interval on the effective number of rows.

    Example:
        >>> found = share_of(np.arange(100) < 90, np.ones(100))
        >>> {name: round(end, 4) for name, end in found.items()}
        {'value': 0.9, 'lo': 0.8256, 'hi': 0.9448}
    """
    weight = np.asarray(weight, np.float64)
    share = float(np.average(np.asarray(hits, np.float64), weights=weight))
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    lo, hi = wilson_interval(share, effective)
    return {"value": share, "lo": lo, "hi": hi}


def root_of(estimate: Estimate) -> Estimate:
    """Square root of an estimated mean, with the delta method's interval on the log scale."""
    value, hi = estimate["value"], estimate["hi"]
    assert value is not None
    root = math.sqrt(value)
    if hi is None or value <= 0:
        return {"value": root, "lo": None, "hi": None}
    reach = (hi - value) / (2 * value)
    return {"value": root, "lo": root * math.exp(-reach), "hi": root * math.exp(min(reach, 700.0))}


def mean_of_pairs(cells: Any, partners: Any, weight: Any) -> Estimate:
    """Mean of what rows lose to partners, drawn several times; rows and partners both vary.

    With s_i the part of a cell's variance that its row explains, s_j the part that its partner
    explains and s_ij the rest, the mean over n rows and R draws has the variance
    (s_i + s_j)/n + s_ij/(n R). The parts follow from the variances of the cells, of the means of
    rows and of the means of partners.

    Args:
        cells: [R, n], R of 2 or more: of row i at draw r.
        partners: [R, n], each draw a permutation.
        weight: [n].

    Raises:
        LeftOut: a cell that counts is not finite.

    Example:
        >>> partners = np.array([[1, 2, 3, 0], [2, 3, 0, 1]])
        >>> mean_of_pairs(np.ones((2, 4)), partners, np.ones(4))
        {'value': 1.0, 'lo': 1.0, 'hi': 1.0}

    Source: components of variance of a crossed design; Hoeffding 1948 for pairs of rows.
    """
    cells, weight = np.asarray(cells, np.float64), np.asarray(weight, np.float64)
    cells = np.where(weight > 0, cells, 0.0)
    if not np.isfinite(cells).all():
        raise LeftOut("the loss of a row with other values is not finite")
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
    return {"value": value, "lo": value - reach, "hi": value + reach}
