"""Report on whether a data set is stored in an order that hurts, by labels and columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

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
    neighbours_test,
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
    columns: Mapping[str, ArrayLike],
    batch_size: int,
    *,
    labels: ArrayLike | None = None,
    seed: int = 0,
) -> OrderReport:
    """Whether rows come in an order that inflates the variance between batches.

    By column: the batch variance ratio F and an autocorrelation scan up to n/10 lags; for labels
    and columns of two values also neighbours of one class. Holm's correction over all.

    Args:
        columns: name to numbers [n] (features, losses) or [n, k] (projected gradients).
        batch_size: B; F needs n >= 20 B.
        labels: classes [n], of any type.
        seed: of the permutation test.

    Returns:
        An `OrderReport`.

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
    classes = None if labels is None else np.asarray(labels)
    _check_lengths(arrays, classes)
    ratios: dict[str, Estimate] = {}
    tests: list[OrderTest] = []
    if classes is not None:
        found = label_variance_ratio(classes, size)
        ratios[LABELS] = found.ratio
        tests.append(_as_test(LABELS, found.ratio, found.p_value))
        tests.append(neighbours_test(classes, seed, name=f"{LABELS}: neighbours"))
        tests.append(ljung_box_test(class_codes(classes)[0], name=f"{LABELS}: autocorrelation"))
    for name, column in arrays.items():
        found = batch_variance_ratio(column, size)
        ratios[name] = found.ratio
        tests.append(_as_test(name, found.ratio, found.p_value))
        for part, one in _columns(name, column):
            tests.append(ljung_box_test(one, name=f"{part}: autocorrelation"))
            if np.isfinite(one).all() and len(np.unique(one[:1000])) <= 2:
                tests.append(neighbours_test(one, seed, name=f"{part}: neighbours"))
    return _report(ratios, _corrected(tests))


def _columns(name: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    if values.ndim == 1:
        return [(name, values)]
    return [(f"{name}[{i}]", column) for i, column in enumerate(values.T)]


def _check_lengths(arrays: dict[str, np.ndarray], classes: np.ndarray | None) -> None:
    if classes is not None and LABELS in arrays:
        raise UsageError(f"columns must have no {LABELS!r} beside labels; got both")
    lengths = {name: array.shape[:1] for name, array in arrays.items()}
    if classes is not None:
        lengths[LABELS] = classes.shape[:1]
    if not lengths:
        raise UsageError("columns, labels must be at least one; got none")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in lengths.items())
        raise UsageError(f"columns must be of one length; got {shown}")


def _as_test(name: str, ratio: Estimate, p_value: float | None) -> OrderTest:
    return OrderTest(
        name=f"{name}: batch variance", statistic=ratio.value,
        expected=1.0 if p_value is not None else None, p_value=p_value, reason=ratio.reason,
    )  # fmt: skip


def _corrected(tests: list[OrderTest]) -> tuple[OrderTest, ...]:
    adjusted = iter(holm([t.p_value for t in tests if t.p_value is not None]))
    return tuple(
        dataclasses.replace(t, adjusted=next(adjusted)) if t.p_value is not None else t
        for t in tests
    )


def _report(ratios: dict[str, Estimate], tests: tuple[OrderTest, ...]) -> OrderReport:
    values = {name: f.value for name, f in ratios.items() if f.value is not None}
    worst = max(values, key=lambda name: values[name]) if values else None
    found = [t for t in tests if t.adjusted is not None and t.adjusted < ALPHA]
    done = any(t.p_value is not None for t in tests)
    if not done:
        reasons = {t.reason for t in tests if t.reason}
        sentence = f"The order cannot be judged: {'; '.join(sorted(reasons))}."
        return OrderReport(
            ordered=None, variance_ratios=ratios, worst=worst, tests=tests, sentence=sentence
        )
    return OrderReport(
        ordered=bool(found), variance_ratios=ratios, worst=worst, tests=tests,
        sentence=_sentence(ratios, worst, found),
    )  # fmt: skip


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
