"""How far conditions and batches go together: Cramer's V, corrected for its bias."""

from __future__ import annotations

import math

import numpy as np

from downslope.estimate import Estimate, not_estimable

RESAMPLES = 2000  # tables drawn for the interval of V


def phi2(tables: np.ndarray) -> np.ndarray:
    """chi2 / n of tables [k, r, c]; rows and columns without cells add nothing."""
    n = tables.sum((1, 2), keepdims=True)
    expected = tables.sum(2, keepdims=True) * tables.sum(1, keepdims=True) / n
    ratio = np.divide(tables * tables, expected, out=np.zeros(tables.shape), where=expected > 0)
    return np.maximum(ratio.sum((1, 2)) / n[:, 0, 0] - 1, 0)


def corrected_v(table: np.ndarray, seed: int) -> Estimate:
    """V of a table [conditions, batches] with its interval, or why there is none."""
    n, (r, c) = int(table.sum()), table.shape
    unit, method = "of 1", "Bergsma's correction; tables drawn from the observed one"
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    if least <= 0:
        return not_estimable(f"{n} cells in a table of {r} x {c}", unit=unit, num_examples=n)
    bias = (r - 1) * (c - 1) / (n - 1)
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, RESAMPLES)
    found = phi2(drawn.reshape(-1, r, c))
    # a drawn table is as much above the observed one as that is above the truth
    lo, hi = np.percentile(found - 2 * bias, [2.5, 97.5])
    value, lo, hi = (
        min(1.0, math.sqrt(max(0.0, v) / least)) for v in (phi2(table[None])[0] - bias, lo, hi)
    )
    return Estimate(
        value=value, lo=min(lo, value), hi=max(hi, value), unit=unit, num_examples=n, method=method
    )
