"""Order of the rows in the file, by the variance of batches cut from it as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from downslope.check.findings import Finding, bare, shown
from downslope.errors import UsageError
from downslope.noise.order import VarianceRatio, batch_variance_ratio, holm, label_variance_ratio
from downslope.noise.order.batches import MIN_BATCHES

SIGNIFICANCE = 0.01  # of the whole check, after Holm's correction
MIN_VARIANCE_RATIO = 1.5  # factor on the variance of a batch mean that is worth saying; assumed
MIN_ROWS = 2  # of a batch
GRADIENT = "the gradient of a linear model"


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


class _Tested(NamedTuple):
    """A variance ratio: in which rows, of what, and of batches of which size."""

    rows: str
    subject: str
    batch_size: int
    ratio: VarianceRatio

    @property
    def value(self) -> float:
        return self.ratio.ratio.value or 0.0


def file_order(stretches: Sequence[Stretch], batch_size: int, *, target: str) -> Finding:
    """Factor on the variance of batches if they were cut from the file as it stands.

    F = B Var(means of consecutive batches)/Var(rows) for the target, each column, and the gradient
    of a linear model before its first step: 1 in a random order, about B in a sorted file. Batches
    are taken smaller where there are fewer than 20 of them.

    Args:
        stretches: rows in the order of the file; the worst of them is reported.
        batch_size: B.
        target: name of the target.

    Returns:
        A `Finding` "order": a note where an F above 1.5 differs from 1 at 1 % (Holm). No more than
        that: conversion shuffles the rows, so no batch is cut from the file's order.

    Raises:
        UsageError: batch_size below 1, no stretch, or columns of unequal length.

    Example:
        >>> y = np.repeat([0, 1], 2000)
        >>> x = np.random.default_rng(0).normal(size=4000)
        >>> whole = Stretch(rows="all 4,000 rows", target=y, columns={"x": x}, is_class=True)
        >>> print(file_order([whole], 20, target="sick").sentence)
        read as it stands, batches of 20 would vary 20.1 (16.7 to 24.7) times as much as
        from shuffled rows by 'sick', and 10.6 (9.2 to 12.2) times by the gradient of a linear
        model

    Source: analysis of variance, F = 1 + (B - 1) rho with rho the correlation inside a batch.
    """
    if batch_size < 1 or not stretches:
        raise UsageError(f"batch_size must be 1 or more, with a stretch; got {batch_size}")
    found: list[_Tested] = []
    for stretch in stretches:
        size = min(max(batch_size, MIN_ROWS), len(stretch.target) // MIN_BATCHES)
        if size >= MIN_ROWS:
            ratios = _ratios(stretch, size, target)
            found += [_Tested(stretch.rows, name, size, ratio) for name, ratio in ratios.items()]
    tested = [each for each in found if each.ratio.p_value is not None]
    if not tested:
        text = f"cannot be judged: fewer than {MIN_BATCHES * MIN_ROWS} rows, or none that vary"
        return Finding(name="order", severity="fine", sentence=text, rows=stretches[0].rows)
    corrected = holm([p for each in tested if (p := each.ratio.p_value) is not None])
    ordered = [
        each for each, p in zip(tested, corrected, strict=True)
        if p < SIGNIFICANCE and each.value > MIN_VARIANCE_RATIO
    ]  # fmt: skip
    worst = max(ordered or tested, key=lambda each: each.value)
    of_gradient = worst.subject == GRADIENT
    subject = GRADIENT if of_gradient else shown(worst.subject.split(" ", 1)[1])
    times, remedy = bare(worst.ratio.ratio), None
    if ordered:
        text = (
            f"read as it stands, batches of {worst.batch_size} would vary {times} times as much "
            f"as from shuffled rows by {subject}"
        )
        remedy = (
            "harmless here, where conversion shuffles the rows; other tools must shuffle, and not "
            "hold out the end. If rows follow time, random held-out rows flatter"
        )
    else:
        text = (
            f"no order that matters: batches of {worst.batch_size} vary at most {times} times as "
            f"much as from shuffled rows, by {subject}"
        )
    for each in found if ordered and not of_gradient else ():
        if (each.rows, each.subject) == (worst.rows, GRADIENT) and each.ratio.ratio.is_measured:
            text += f", and {bare(each.ratio.ratio)} times by {GRADIENT}"
    by_rows = {
        rows: {each.subject: each.ratio.ratio for each in found if each.rows == rows}
        for rows in dict.fromkeys(each.rows for each in found)
    }
    return Finding(
        name="order", severity="note" if ordered else "fine", sentence=text, rows=worst.rows,
        remedy=remedy, values={"batch_size": worst.batch_size, "variance_ratios": by_rows},
    )  # fmt: skip


def _ratios(stretch: Stretch, size: int, target: str) -> dict[str, VarianceRatio]:
    y = np.asarray(stretch.target, dtype=np.float64)
    if any(len(column) != len(y) for column in stretch.columns.values()):
        raise UsageError(f"columns must have {len(y)} rows, as the target")
    ratio = label_variance_ratio(y, size) if stretch.is_class else batch_variance_ratio(y, size)
    return {
        f"target {target}": ratio,
        **{f"column {n}": batch_variance_ratio(x, size) for n, x in stretch.columns.items()},
        GRADIENT: batch_variance_ratio(_gradients(y, stretch), size),
    }


def _gradients(y: np.ndarray, stretch: Stretch) -> np.ndarray:
    """Gradients [n, 1 + columns] of a linear model at zero, for a random direction of classes."""
    if stretch.is_class:
        codes = y.astype(np.int64)
        y = np.random.default_rng(0).normal(size=int(codes.max(initial=0)) + 1)[codes]
    residual = y - y.mean() if len(y) else y
    return np.stack([residual, *(residual * column for column in stretch.columns.values())], axis=1)
