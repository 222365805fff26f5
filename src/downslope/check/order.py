"""Whether the file lies in an order that would hurt a tool that reads it as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from downslope.check.findings import Finding, shown
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.order import VarianceRatio, batch_variance_ratio, holm, label_variance_ratio
from downslope.noise.order.batches import MIN_BATCHES

ALPHA = 0.01  # of the whole check, after Holm's correction
WORTH_SAYING = 1.5  # factor on the variance of a batch mean; assumed
LEAST_BATCH = 2


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Rows in the order of the file.

    Attributes:
        rows: which ones, in words.
        target: [n], class index or number.
        columns: numbers [n] by name.
        is_class: whether the target is a class.
    """

    rows: str
    target: np.ndarray
    columns: Mapping[str, np.ndarray]
    is_class: bool


def file_order(stretches: Sequence[Stretch], batch_size: int, *, target: str) -> Finding:
    """How much the file's order would inflate the variance of batches cut from it as it stands.

    F = B Var(means of consecutive batches)/Var(rows) for the target, each column, and the gradient
    of a linear model before its first step: 1 in a random order, about B in a sorted file. Batches
    are taken smaller where there are fewer than 20 of them.

    Args:
        stretches: rows in the order of the file; the worst of them is told.
        batch_size: B.
        target: name of the target.

    Returns:
        A `Finding` "order": a note where an F above 1.5 is told from 1 at 1 % (Holm). No more than
        that: conversion shuffles the rows, so no batch is cut from the file's order.

    Raises:
        UsageError: batch_size below 1, no stretch, or columns of unequal length.

    Example:
        >>> y = np.repeat([0, 1], 2000)
        >>> x = np.random.default_rng(0).normal(size=4000)
        >>> whole = Stretch(rows="all 4,000 rows", target=y, columns={"x": x}, is_class=True)
        >>> print(file_order([whole], 20, target="sick").sentence)
        read as it stands, batches of 20 would vary 20.1 (16.7 to 24.7) times as much as
        from shuffled rows by 'sick', and 10.6 (9.24 to 12.2) times by the gradient of a linear
        model

    Source: analysis of variance, F = 1 + (B - 1) rho with rho the correlation inside a batch.
    """
    if batch_size < 1 or not stretches:
        raise UsageError(f"batch_size must be 1 or more, with a stretch; got {batch_size}")
    found: list[tuple[str, str, int, VarianceRatio]] = []
    for stretch in stretches:
        size = min(max(batch_size, LEAST_BATCH), len(stretch.target) // MIN_BATCHES)
        if size >= LEAST_BATCH:
            ratios = _ratios(stretch, size, target)
            found += [(stretch.rows, name, size, ratio) for name, ratio in ratios.items()]
    tested = [each for each in found if each[3].p_value is not None]
    if not tested:
        text = f"cannot be judged: fewer than {MIN_BATCHES * LEAST_BATCH} rows, or none that vary"
        return Finding(name="order", severity="fine", sentence=text, rows=stretches[0].rows)
    corrected = holm([p for each in tested if (p := each[3].p_value) is not None])
    ordered = [
        each for each, p in zip(tested, corrected, strict=True)
        if p < ALPHA and (each[3].ratio.value or 0) > WORTH_SAYING
    ]  # fmt: skip
    worst = max(ordered or tested, key=lambda each: each[3].ratio.value or 0)
    where, name, size, ratio = worst
    values = {
        "batch_size": size,
        "variance_ratios": {
            rows: {n: r.ratio for w, n, _, r in found if w == rows} for rows, *_ in found
        },
    }
    if not ordered:
        text = f"no order that matters: batches of {size} vary {_times(ratio.ratio)} times as much "
        text += f"as from shuffled rows, at most, by {_by(name, target)}"
        return Finding(name="order", severity="fine", sentence=text, rows=where, values=values)
    text = (
        f"read as it stands, batches of {size} would vary {_times(ratio.ratio)} times as much as "
        f"from shuffled rows by {_by(name, target)}"
    )
    gradient = next(
        (r.ratio for w, n, _, r in found if w == where and n == GRADIENT),
        not_estimable("", unit=""),
    )
    if name != GRADIENT and gradient.value is not None:
        text += f", and {_times(gradient)} times by {GRADIENT}"
    return Finding(
        name="order", severity="note", sentence=text, rows=where, values=values,
        remedy="harmless here, where conversion shuffles the rows; other tools must shuffle, and "
        "not hold out the end. If rows follow time, random held-out rows flatter",
    )  # fmt: skip


GRADIENT = "the gradient of a linear model"


def _ratios(stretch: Stretch, size: int, target: str) -> dict[str, VarianceRatio]:
    y = np.asarray(stretch.target, dtype=np.float64)
    if any(len(column) != len(y) for column in stretch.columns.values()):
        raise UsageError(f"columns must have {len(y)} rows, as the target")
    told = label_variance_ratio(y, size) if stretch.is_class else batch_variance_ratio(y, size)
    found = {f"target {target}": told}
    for name, column in stretch.columns.items():
        found[f"column {name}"] = batch_variance_ratio(column, size)
    found[GRADIENT] = batch_variance_ratio(_gradients(y, stretch), size)
    return found


def _gradients(y: np.ndarray, stretch: Stretch) -> np.ndarray:
    """Gradients [n, 1 + columns] of a linear model at zero, for a random direction of classes."""
    if stretch.is_class:
        codes = y.astype(np.int64)
        y = np.random.default_rng(0).normal(size=int(codes.max(initial=0)) + 1)[codes]
    residual = y - y.mean() if len(y) else y
    return np.stack([residual, *(residual * column for column in stretch.columns.values())], axis=1)


def _by(name: str, target: str) -> str:
    if name == GRADIENT:
        return name
    return shown([target] if name == f"target {target}" else [name.removeprefix("column ")])


def _times(of: Estimate) -> str:
    span = "" if of.lo is None or of.hi is None else f" ({of.lo:.3g} to {of.hi:.3g})"
    return f"{of.value:.3g}{span}"
