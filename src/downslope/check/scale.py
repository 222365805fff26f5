"""The scale of the inputs, outliers in them, and how well-conditioned they are together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from downslope.check.findings import Finding, Severity, shown
from downslope.check.sample import Sample
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature import condition_number

SCALES_APART = 100.0  # ratio of raw scales worth saying; assumed
FAR_OUT = 30.0  # standard deviations; assumed
SQUEEZED = 0.02  # quartile range in standard deviations, 1.35 for a normal column; assumed
ILL = 1e3  # condition number worth saying; assumed
CONDITION_ROWS = 20_000
CONDITION_COLUMNS = 100  # beyond, 40 repeated eigenvalue problems take too long
MOST_COLUMNS = 2000


def input_scale(sample: Sample) -> Finding:
    """How far the columns' raw scales lie apart, and the outliers that standardising leaves.

    downslope standardises, so raw scales do no harm here; without, the largest would set the
    learning rate: for a squared loss it must stay below 2 over the largest variance, and a column
    of scale s learns s^2 times as slowly as one of scale 1. An outlier of z standard deviations
    still makes a step z^2 times as long in its own row.

    Args:
        sample: rows with the `means` and `scales` that were taken out.

    Returns:
        A `Finding` "scale": a warning where outliers squeeze a column so that half of its values
        lie within 0.02 standard deviations, a note for raw scales 100 times apart or |z| above 30.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype("float32")
        >>> sample = Sample(x=x, names=["km", "s"], means=np.zeros(2), y=x[:, 0], target="y",
        ...                 scales=np.array([1.0, 500.0]), num_rows=1000)
        >>> print(input_scale(sample).sentence)
        raw scales (standard deviations) lie up to 500 times apart, from 'km' (1) to 's'
        (500); after standardising no value lies more than 3.9 standard deviations off
    """
    places = [j for j in range(len(sample.names)) if j not in sample.missing]
    if not places or len(sample.y) < 2:
        text = "no numbers to scale" if not places else "one row has no scale"
        return Finding(name="scale", severity="fine", sentence=text, rows=sample.rows)
    farthest = {j: float(np.abs(sample.x[:, j]).max()) for j in places}
    quartiles = {j: float(np.subtract(*np.percentile(sample.x[:, j], [75, 25]))) for j in places}
    squeezed = [j for j in places if 0 < quartiles[j] < SQUEEZED]
    out = max(places, key=lambda j: farthest[j])
    text, ratio, values = _raw(sample, places)
    severity: Severity = "fine"
    remedy = None
    if squeezed:
        worst = min(squeezed, key=lambda j: quartiles[j])
        severity = "warning"
        text += (
            f"; outliers squeeze {shown([sample.names[j] for j in squeezed])}: half of its values "
            f"lie within {quartiles[worst]:.2g} standard deviations, the farthest at "
            f"{farthest[worst]:.3g}, so a step that the outliers stand teaches the others little"
        )
        remedy = "take its logarithm, or mend the outliers"
    elif farthest[out] > FAR_OUT:
        severity = "note"
        text += (
            f"; after standardising {shown([sample.names[out]])} still reaches {farthest[out]:.3g} "
            f"standard deviations: for rows like it the largest stable learning rate of a linear "
            f"model is {farthest[out] ** 2:.2g} times smaller at batch size 1"
        )
        remedy = "look at these rows; clipping the gradient or a warm-up softens them"
    else:
        text += (
            f"; after standardising no value lies more than {farthest[out]:.3g} standard "
            "deviations off"
        )
        severity = "note" if ratio > SCALES_APART else "fine"
        if severity == "note":
            remedy = "harmless here; other tools need the columns standardised"
    values |= {
        "largest_z": {sample.names[j]: farthest[j] for j in _top(farthest)},
        "squeezed": {sample.names[j]: quartiles[j] for j in squeezed},
    }
    return Finding(
        name="scale", severity=severity, sentence=text, remedy=remedy, rows=sample.rows,
        values=values,
    )  # fmt: skip


def _top(of: dict[int, float]) -> list[int]:
    return sorted(of, key=lambda j: -of[j])[:10]


def _raw(sample: Sample, places: list[int]) -> tuple[str, float, dict[str, Any]]:
    """Raw scales in words, how far they lie apart, and as values."""
    if sample.scales is None:
        return "raw scales are not known", 1.0, {}
    scales = {j: float(sample.scales[j]) for j in places}
    low, high = min(scales, key=lambda j: scales[j]), max(scales, key=lambda j: scales[j])
    ratio = scales[high] / scales[low] if scales[low] > 0 else math.inf
    apart = f"{ratio:.3g}" if math.isfinite(ratio) else "over 1e308"
    text = (
        f"raw scales (standard deviations) lie up to {apart} times apart, from "
        f"{shown([sample.names[low]])} ({scales[low]:.3g}) to {shown([sample.names[high]])} "
        f"({scales[high]:.3g})"
    )
    finite = ratio if math.isfinite(ratio) else None
    return text, ratio, {"raw_scale_ratio": finite, "most": sample.names[high]}


def input_condition(sample: Sample) -> Finding:
    """Condition number of the standardised inputs, and what it does to the learning rate.

    For a linear model with squared loss the largest eigenvalue L of the inputs' covariance bounds
    the learning rate by 2/L, and the flattest direction then takes about kappa/2 steps to shrink by
    e; momentum makes that about sqrt(kappa). Other losses and hidden layers start from the same.

    Args:
        sample: rows to look at; the first 20,000 are.

    Returns:
        A `Finding` "condition": a note from 1,000 on, or where columns determine others.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a = rng.normal(size=5000)
        >>> x = np.stack([a, a + 0.1 * rng.normal(size=5000)], 1).astype("float32")
        >>> found = input_condition(Sample(x=x, names=["a", "b"], y=a, target="y", num_rows=5000))
        >>> print(found.values["condition_number"])  # 402 in truth
        399 (373 to 426)
    """
    rows = sample.first(CONDITION_ROWS)
    x = rows.x.astype(np.float64)
    spread = np.ptp(x, axis=0) if len(x) else np.zeros(x.shape[1])
    used = np.flatnonzero(spread > 0)
    fault = _fault(len(x), len(used))
    if fault:
        return Finding(
            name="condition", severity="fine", sentence=f"cannot be judged: {fault}", rows=rows.rows
        )
    x = x[:, used] - x[:, used].mean(axis=0)
    x /= x.std(axis=0)
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    largest = float(eigenvalues[-1])
    rank = int((eigenvalues > 1e-10 * largest).sum())  # float32 leaves 1e-14 of a copy
    kappa = _condition(x, eigenvalues, rank)
    text = (
        f"the largest eigenvalue of the standardised inputs' covariance is {largest:.3g}, which "
        f"bounds the learning rate of a linear model with squared loss by {2 / largest:.2g}"
    )
    severity: Severity = "fine"
    remedy = None
    if rank < len(used):
        severity = "note"
        text += (
            f"; rank {rank} of {len(used)}: {len(used) - rank} numbers are determined by others, "
            "so some weights are arbitrary"
        )
        remedy = "drop them, or use --l2"
    elif kappa.value is not None:
        span = "" if kappa.lo is None or kappa.hi is None else (
            f" ({kappa.lo:,.3g} to {kappa.hi:,.3g})"
        )  # fmt: skip
        text += (
            f"; condition number {kappa.value:,.3g}{span}: at that rate the flattest direction "
            f"takes some {kappa.value / 2:,.2g} steps, with momentum {math.sqrt(kappa.value):,.2g}"
        )
        if kappa.value > ILL:
            severity, remedy = "note", "momentum, an adaptive optimizer or --l2 helps"
    return Finding(
        name="condition", severity=severity, sentence=text, remedy=remedy, rows=rows.rows,
        values={
            "condition_number": kappa, "largest_eigenvalue": largest, "rank": rank,
            "num_numbers": len(used), "largest_learning_rate": 2 / largest,
        },
    )  # fmt: skip


def _fault(num_rows: int, num_used: int) -> str:
    if not num_used:
        return "no numbers that vary"
    if num_used > MOST_COLUMNS:
        return f"{num_used:,} numbers, more than {MOST_COLUMNS:,}"
    if num_rows <= num_used:
        return f"{num_rows:,} rows for {num_used:,} numbers"
    return ""


def _condition(x: np.ndarray, eigenvalues: np.ndarray, rank: int) -> Estimate:
    if rank < x.shape[1]:
        return not_estimable(f"rank {rank} of {x.shape[1]}", unit="", num_examples=len(x))
    if x.shape[1] <= CONDITION_COLUMNS:
        return condition_number(x).after
    return Estimate(
        value=float(eigenvalues[-1] / eigenvalues[0]), unit="", num_examples=len(x),
        method="eigenvalues of the correlation matrix",
        flags=(f"no interval: more than {CONDITION_COLUMNS} numbers",),
    )  # fmt: skip
