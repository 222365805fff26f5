"""Report on whether a data set is stored in an order that hurts, by labels and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.noise.order.batches import (
    batch_variance_ratio,
    class_codes,
    label_variance_ratio,
)
from downslope.noise.order.randomness import (
    OrderTest,
    holm,
    ljung_box_test,
)

ALPHA = 0.05  # of the whole report, after Holm's correction
LABELS = "labels"


@dataclass(frozen=True, kw_only=True)
class OrderReport:
    """Effect of the order of a data set on the batches cut from it.

    Attributes:
        ordered: whether a test, after Holm's correction, finds an order; None if none could be
            done.
        variance_ratios: F by column: the factor on the variance of batch means.
        worst: the column of the largest F, or None.
        tests: every test, with its corrected p-value.
        sentence: the outcome in words.
    """

    ordered: bool | None
    variance_ratios: dict[str, Estimate]
    worst: str | None
    tests: tuple[OrderTest, ...]
    sentence: str


def is_ordered(
    columns: Mapping[str, ArrayLike], batch_size: int, *, labels: ArrayLike | None = None
) -> OrderReport:
    """Test whether rows come in an order that inflates the variance between batches.

    By column and for labels: the batch variance ratio F and an autocorrelation scan up to n/10
    lags. Holm's correction over all.

    Args:
        columns: name to numbers [n], such as features or losses.
        batch_size: B; F needs n >= 20 B.
        labels: classes [n], of any type.

    Raises:
        UsageError: columns differ in length, there is none, or one is named "labels" beside labels.

    Example:
        >>> y = np.repeat([0, 1], 2000)
        >>> print(is_ordered({}, 20, labels=y).sentence)
        Row order inflates batch-gradient variance x20.1 (16.7 to 24.7, by labels; x1 if random):
        shuffle before training.
        >>> print(is_ordered({}, 20, labels=np.random.default_rng(0).permutation(y)).ordered)
        False

    Source: analysis of variance; Ljung and Box 1978; Holm 1979.
    """
    size = whole("batch_size", batch_size)
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    if labels is not None:
        if LABELS in arrays:
            raise UsageError(f"columns must have no {LABELS!r} beside labels; got both")
        arrays = {LABELS: np.asarray(labels), **arrays}
    _check_lengths(arrays)
    ratios: dict[str, Estimate] = {}
    tests: list[OrderTest] = []
    for name, column in arrays.items():
        if name == LABELS and labels is not None:
            (ratio, p_value), column = label_variance_ratio(column, size), class_codes(column)[0]
        else:
            ratio, p_value = batch_variance_ratio(column, size)
        ratios[name] = ratio
        title = f"{name}: batch variance"
        tests.append(
            OrderTest(name=title, statistic=ratio.value, p_value=p_value, reason=ratio.reason)
        )
        tests.append(ljung_box_test(column, name=f"{name}: autocorrelation"))
    adjusted = iter(holm([test.p_value for test in tests if test.p_value is not None]))
    corrected = (
        test if test.p_value is None else replace(test, adjusted=next(adjusted)) for test in tests
    )
    return _report(ratios, tuple(corrected))


def _check_lengths(arrays: dict[str, np.ndarray]) -> None:
    if not arrays:
        raise UsageError("columns, labels must be at least one; got none")
    lengths = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in lengths.items())
        raise UsageError(f"columns must be of one length; got {shown}")


def _report(ratios: dict[str, Estimate], tests: tuple[OrderTest, ...]) -> OrderReport:
    values = {name: f.value for name, f in ratios.items() if f.value is not None}
    worst = max(values, key=lambda name: values[name]) if values else None
    found = [t for t in tests if t.adjusted is not None and t.adjusted < ALPHA]
    ordered: bool | None = bool(found)
    sentence = _sentence(ratios, worst, found)
    if all(t.p_value is None for t in tests):
        reasons = sorted({t.reason for t in tests if t.reason})
        ordered, sentence = None, f"The order cannot be judged: {'; '.join(reasons)}."
    return OrderReport(
        ordered=ordered, variance_ratios=ratios, worst=worst, tests=tests, sentence=sentence
    )


def _sentence(ratios: dict[str, Estimate], worst: str | None, found: list[OrderTest]) -> str:
    seen = ", ".join(f"{t.name} ({t.detail})" if t.detail else t.name for t in found)
    if worst is None:
        reasons = "; ".join(sorted({ratio.reason for ratio in ratios.values() if ratio.reason}))
        text = f"The batch variance ratio is not estimable ({reasons})"
        return f"{text}; an order was found in {seen}." if found else f"{text}; no order found."
    ratio = ratios[worst]
    span = f"{ratio.lo:.3g} to {ratio.hi:.3g}, " if ratio.lo is not None else ""
    number = f"x{ratio.value:.3g} ({span}by {worst}; x1 if random)"
    inflated = {f"{name}: batch variance" for name, f in ratios.items() if (f.value or 0) > 1}
    if any(t.name in inflated for t in found):
        return f"Row order inflates batch-gradient variance {number}: shuffle before training."
    if found:
        return (
            f"Row order does not inflate batch-gradient variance at this batch size, {number}, but "
            f"it is not random: {seen}."
        )
    return f"No order found: batch-gradient variance {number}."
