"""Scale, outliers and condition number of the inputs."""

from __future__ import annotations

import itertools
import math

import numpy as np

from downslope.check.findings import Finding, Severity, bare, shown
from downslope.check.sample import SQUEEZED_RANGE, Sample
from downslope.estimate import Estimate, not_estimable
from downslope.noise.curvature import condition_number

FAR_APART = 100.0  # ratio of raw scales worth saying; assumed
FAR_OUT = 30.0  # standard deviations; assumed
ILL_CONDITIONED = 1e3  # condition number worth saying; assumed
CONDITION_ROWS = 20_000
INTERVAL_COLUMNS = 100  # beyond, the 40 eigenvalue problems of an interval take too long
MAX_COLUMNS = 2000
NEGLIGIBLE = 1e-3  # weight of a standardised column in the combination that gives another; assumed
RANK_TOLERANCE = 1e-10  # of the largest eigenvalue; float32 leaves 1e-14 of a copy


def input_scale(sample: Sample) -> Finding:
    """Ratio of the columns' raw scales, and the outliers that standardising leaves.

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
    names = [sample.names[j] for j in places]
    x = sample.x[:, places]
    farthest = dict(zip(names, np.abs(x).max(axis=0).tolist(), strict=True))
    ranges = [float(np.subtract(*np.percentile(column, [75, 25]))) for column in x.T]
    squeezed = {n: q for n, q in zip(names, ranges, strict=True) if 0 < q < SQUEEZED_RANGE}
    by_reach = sorted(names, key=lambda name: -farthest[name])
    reach = farthest[by_reach[0]]
    text, ratio, values = _raw_scales(sample, places)
    severity: Severity = "fine"
    remedy = None
    if squeezed:
        worst = min(squeezed, key=lambda name: squeezed[name])
        severity, remedy = "warning", "take its logarithm, or mend the outliers"
        text += (
            f"; outliers squeeze {shown(*squeezed)}: half of its values lie within "
            f"{squeezed[worst]:.2g} standard deviations, the farthest at {farthest[worst]:.3g}, so "
            "a step that the outliers allow teaches the others little"
        )
    elif reach > FAR_OUT:
        severity = "note"
        remedy = "look at these rows; clipping the gradient or a warm-up softens them"
        text += (
            f"; after standardising {shown(by_reach[0])} still reaches {reach:.3g} standard "
            "deviations: for rows like it the largest stable learning rate of a linear model is "
            f"{reach**2:.2g} times smaller at batch size 1"
        )
    else:
        text += f"; after standardising no value lies more than {reach:.3g} standard deviations off"
        if ratio > FAR_APART:
            severity = "note"
            remedy = "harmless here; other tools need the columns standardised"
    values |= {"largest_z": {name: farthest[name] for name in by_reach[:10]}, "squeezed": squeezed}
    return Finding(
        name="scale", severity=severity, sentence=text, remedy=remedy, rows=sample.rows,
        values=values,
    )  # fmt: skip


def _raw_scales(sample: Sample, places: list[int]) -> tuple[str, float, dict[str, object]]:
    """Raw scales in words, how far they lie apart, and as values."""
    if sample.scales is None:
        return "raw scales are not known", 1.0, {}
    scales = {sample.names[j]: float(sample.scales[j]) for j in places}
    low, high = min(scales, key=lambda n: scales[n]), max(scales, key=lambda n: scales[n])
    ratio = scales[high] / scales[low] if scales[low] > 0 else math.inf
    is_finite = math.isfinite(ratio)
    apart = f"{ratio:.3g}" if is_finite else "over 1e308"
    text = (
        f"raw scales (standard deviations) lie up to {apart} times apart, from {shown(low)} "
        f"({scales[low]:.3g}) to {shown(high)} ({scales[high]:.3g})"
    )
    return text, ratio, {"raw_scale_ratio": ratio if is_finite else None, "most": high}


def input_condition(sample: Sample) -> Finding:
    """Condition number of the standardised inputs, and its effect on the learning rate.

    For a linear model with squared loss the largest eigenvalue L of the inputs' covariance bounds
    the learning rate by 2/L, and the flattest direction then takes about kappa/2 steps to shrink by
    e; momentum makes that about sqrt(kappa). Other losses and hidden layers start from the same.

    Args:
        sample: rows to examine; the first 20,000 are.

    Returns:
        A `Finding` "condition": a note from 1,000 on, or where numbers determine others: groups of
        those, the first of each given by the rest, are `dependent` among its values.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a = rng.normal(size=5000)
        >>> x = np.stack([a, a + 0.1 * rng.normal(size=5000)], 1).astype("float32")
        >>> found = input_condition(Sample(x=x, names=["a", "b"], y=a, target="y", num_rows=5000))
        >>> print(found.values["condition_number"])  # 402 in truth
        399 (373 to 426)
    """
    sample = sample.first(CONDITION_ROWS)
    x = sample.x.astype(np.float64)
    varies = np.ptp(x, axis=0) > 0 if len(x) else np.zeros(x.shape[1], bool)
    x = x[:, varies]
    fault = _fault(*x.shape)
    if fault:
        text = f"cannot be judged: {fault}"
        return Finding(name="condition", severity="fine", sentence=text, rows=sample.rows)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    largest, num_used = float(eigenvalues[-1]), x.shape[1]
    rank = int((eigenvalues > RANK_TOLERANCE * largest).sum())
    kappa = _condition(x, eigenvalues, rank)
    groups = []
    if rank < num_used:
        groups = _dependent(x.T @ x / len(x), list(itertools.compress(sample.names, varies)), rank)
    severity: Severity = "fine"
    remedy = None
    text = (
        f"the largest eigenvalue of the standardised inputs' covariance is {largest:.3g}, which "
        f"bounds the learning rate of a linear model with squared loss by {2 / largest:.2g}"
    )
    if rank < num_used:
        severity, remedy = "note", "ignore a column of each group, or use --l2"
        first, *rest = groups[0]
        text += (
            f"; rank {rank} of {num_used}: {num_used - rank} numbers are determined by others, so "
            f"some weights are arbitrary: {shown(first)} by {shown(*rest)}"
            + (", for one" if len(groups) > 1 else "")
        )
    elif kappa.value is not None:
        text += (
            f"; condition number {bare(kappa)}: at that rate the flattest direction takes about "
            f"{kappa.value / 2:,.2g} steps, with momentum {math.sqrt(kappa.value):,.2g}"
        )
        if kappa.value > ILL_CONDITIONED:
            severity, remedy = "note", "momentum, an adaptive optimizer or --l2 helps"
    return Finding(
        name="condition", severity=severity, sentence=text, remedy=remedy, rows=sample.rows,
        values={
            "condition_number": kappa, "largest_eigenvalue": largest, "rank": rank,
            "num_numbers": num_used, "largest_learning_rate": 2 / largest, "dependent": groups,
        },
    )  # fmt: skip


def _dependent(covariance: np.ndarray, names: list[str], rank: int) -> list[list[str]]:
    """Groups of names, of which the first is a linear combination of the rest.

    A QR decomposition with pivoting finds as many columns as the rank that determine the others
    (Golub and Van Loan 2013, section 5.5.7).
    """
    from scipy.linalg import qr

    _, order = qr(covariance, mode="r", pivoting=True)  # type: ignore[misc]
    kept, others = order[:rank], order[rank:]
    shares = np.linalg.lstsq(covariance[:, kept], covariance[:, others])[0].T
    return [
        [names[other], *(names[at] for at, share in zip(kept, each, strict=True)
                         if abs(share) > NEGLIGIBLE)]
        for other, each in zip(others, shares, strict=True)
    ]  # fmt: skip


def _fault(num_rows: int, num_used: int) -> str:
    if not num_used:
        return "no numbers that vary"
    if num_used > MAX_COLUMNS:
        return f"{num_used:,} numbers, more than {MAX_COLUMNS:,}"
    return f"{num_rows:,} rows for {num_used:,} numbers" if num_rows <= num_used else ""


def _condition(x: np.ndarray, eigenvalues: np.ndarray, rank: int) -> Estimate:
    if rank < x.shape[1]:
        return not_estimable(f"rank {rank} of {x.shape[1]}", unit="", num_examples=len(x))
    if x.shape[1] <= INTERVAL_COLUMNS:
        return condition_number(x).after
    return Estimate(
        value=float(eigenvalues[-1] / eigenvalues[0]), unit="", num_examples=len(x),
        method="eigenvalues of the correlation matrix",
        flags=(f"no interval: more than {INTERVAL_COLUMNS} numbers",),
    )  # fmt: skip
