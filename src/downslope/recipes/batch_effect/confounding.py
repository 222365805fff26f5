"""Before any correction: can the effect of a condition be told from that of the laboratories?

Cells of a condition are spread over laboratories ("batches"). If each condition was measured in a
laboratory of its own, the two effects are one column of the design, and no method can part them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import UsageError
from downslope.noise import Measurement, not_estimable
from downslope.recipes.batch_effect.design import Labels, covariates_of, labels_of, rows_of

RESAMPLES = 2000  # tables drawn for the interval of V
TOLERANCE = 1e-9  # share of a contrast that may lie outside the rows of the design: rounding
MOST_DESIGN = 1 << 20  # different rows of the design up to which they are looked at
GOOD, POOR = 0.9, 0.5  # of the information left; assumed


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One pair of conditions.

    Attributes:
        of, against: the conditions compared.
        estimable: the batches leave something to tell them apart by.
        vif: how many times larger the variance of their difference is because batch is in the
            model; None where it is not estimable.
        kept_by_centring: share of their true difference that is left after every batch was
            centred and the two were then compared; 0 where nothing is left.
    """

    of: Any
    against: Any
    estimable: bool
    vif: float | None
    kept_by_centring: float

    def __str__(self) -> str:
        pair = f"{self.of} against {self.against}"
        if not self.estimable:
            return f"{pair}: not estimable, no method can separate it from the batches"
        return (
            f"{pair}: estimable; batch in the model makes its variance {self.vif:.3g} times as "
            f"large, centring each batch would leave {self.kept_by_centring:.3g} of the effect"
        )


@dataclass(frozen=True, kw_only=True)
class Confounding:
    """How far conditions and batches go together.

    Attributes:
        table: cells of each condition in each batch [conditions, batches].
        conditions, batches: what its rows and columns are.
        cramers_v: bias-corrected association, 0 (none) to 1 (each batch has one condition), or
            why there is none; its interval is for cells drawn at random.
        raw_cramers_v: the same without the correction, which is too large for few cells.
        rank, num_columns: of the design with intercept, conditions, covariates and batches.
        contrasts: every pair of conditions.
        advice: the route to take.
    """

    table: np.ndarray
    conditions: tuple[Any, ...]
    batches: tuple[Any, ...]
    cramers_v: Measurement
    raw_cramers_v: float
    rank: int
    num_columns: int
    contrasts: tuple[Contrast, ...]
    advice: str

    @property
    def estimable(self) -> bool:
        """Whether every pair of conditions can be compared."""
        return all(contrast.estimable for contrast in self.contrasts)

    @property
    def vif(self) -> float | None:
        """The largest variance inflation of a pair that can be compared; None if none can."""
        known = [contrast.vif for contrast in self.contrasts if contrast.vif is not None]
        return max(known, default=None)

    def __str__(self) -> str:
        head = (
            f"{len(self.conditions)} conditions in {len(self.batches)} batches: Cramer's V "
            f"{self.cramers_v}; rank {self.rank} of {self.num_columns} columns"
        )
        return "\n".join([head, *map(str, self.contrasts), self.advice])


def check_design(
    batch: Any, condition: Any, *, covariates: Any = None, seed: int = 0
) -> Confounding:
    """Whether conditions can be told from batches, and what correcting would do to them.

    V = sqrt(phi2 / min(r - 1, c - 1)) with phi2 = chi2 / n, corrected for its bias (Bergsma 2013).
    A difference c of conditions is estimable if c (D+ D) = c for the design D. Its variance
    inflation is its variance with batch in the model over that without. What centring leaves is
    1 - sum_j (w_aj - w_bj)(p_aj - p_bj) / 2, where w_aj is the share of condition a's cells that
    lie in batch j, and p_aj the share of batch j that is of condition a; for two conditions that
    is 1 - R2, and 1 - phi^2 with two batches.

    Args:
        batch: [n] laboratory of each cell.
        condition: [n] labels whose differences are of interest.
        covariates: data frame or mapping of what else the model holds; see `batch_correct`.
        seed: of the tables drawn for the interval of V.

    Returns:
        A `Confounding`, whose text says what to do.

    Raises:
        UsageError: fewer than two batches or conditions, or of different lengths.
        DataError: a label is missing.

    Example:
        >>> lab = ["A"] * 100 + ["B"] * 100
        >>> treated = [1] * 80 + [0] * 20 + [1] * 20 + [0] * 80
        >>> found = check_design(lab, treated)
        >>> print(found.contrasts[0])
        1 against 0: estimable; batch in the model makes its variance 1.56 times as large,
        centring each batch would leave 0.64 of the effect

    Source:
        W. Bergsma, A bias-correction for Cramer's V and Tschuprow's T, J. Korean Stat. Soc. 42
        (2013), eq. 6; V. Nygaard, E. Rodland and E. Hovig, Biostatistics 17 (2016).
    """
    batches, conditions = labels_of(batch, "batch"), labels_of(condition, "condition")
    if len(batches.codes) != len(conditions.codes):
        raise UsageError(
            f"condition must have one label for each of {len(batches.codes):,} cells; "
            f"got {len(conditions.codes):,}"
        )
    for labels in (batches, conditions):
        if len(labels.levels) < 2:
            raise UsageError(f"{labels.name} must have two labels or more; got {labels.levels}")
    shape = (len(conditions.levels), len(batches.levels))
    table = np.zeros(shape, np.int64)
    np.add.at(table, (conditions.codes, batches.codes), 1)
    design, weight = _design(batches, conditions, covariates)
    contrasts = _contrasts(table, conditions.levels, design, weight)
    phi2 = _phi2(table[None])[0]
    return Confounding(
        table=table,
        conditions=conditions.levels,
        batches=batches.levels,
        cramers_v=_corrected_v(table, seed),
        raw_cramers_v=float(np.sqrt(phi2 / (min(shape) - 1))),
        rank=int(np.linalg.matrix_rank(design, tol=TOLERANCE * max(design.shape))),
        num_columns=design.shape[1],
        contrasts=contrasts,
        advice=_advice(contrasts),
    )


def require_estimable(found: Confounding) -> None:
    """Nothing, where conditions can be compared.

    Raises:
        UsageError: a pair of conditions is fully confounded with the batches.
    """
    lost = [c for c in found.contrasts if not c.estimable]
    if lost:
        raise UsageError(
            f"condition and batch are confounded: {lost[0].of!r} and {lost[0].against!r} were "
            "never measured in batches that are comparable, so no method can separate their "
            "difference from that of the batches; measure both in one batch, or do not correct"
        )


def _phi2(tables: np.ndarray) -> np.ndarray:
    """chi2 / n of tables [k, r, c]; rows and columns without cells add nothing."""
    n = tables.sum((1, 2), keepdims=True)
    expected = tables.sum(2, keepdims=True) * tables.sum(1, keepdims=True) / n
    ratio = np.divide(tables * tables, expected, out=np.zeros(tables.shape), where=expected > 0)
    return np.maximum(ratio.sum((1, 2)) / n[:, 0, 0] - 1, 0)


def _corrected_v(table: np.ndarray, seed: int) -> Measurement:
    n, (r, c) = int(table.sum()), table.shape
    unit, method = "of 1", "Bergsma's correction; tables drawn from the observed one"
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    if least <= 0:
        return not_estimable(f"{n} cells in a table of {r} x {c}", unit=unit, num_examples=n)
    bias = (r - 1) * (c - 1) / (n - 1)
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, RESAMPLES)
    found = _phi2(drawn.reshape(-1, r, c))
    # a drawn table is as much above the observed one as that is above the truth
    lo, hi = np.percentile(found - 2 * bias, [2.5, 97.5])
    value, lo, hi = (
        min(1.0, math.sqrt(max(0.0, v) / least)) for v in (_phi2(table[None])[0] - bias, lo, hi)
    )
    return Measurement(
        value=value, lo=min(lo, value), hi=max(hi, value), unit=unit, num_examples=n, method=method
    )


def _design(batches: Labels, conditions: Labels, covariates: Any) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of [1, conditions, covariates, batches], and how many cells have each."""
    n = len(batches.codes)
    others = covariates_of(covariates, n)
    columns = [conditions.codes, batches.codes, *(each.values for each in others)]
    distinct, counts = np.unique(
        np.stack(columns, 1).astype(np.float64), axis=0, return_counts=True
    )
    if len(distinct) > MOST_DESIGN:  # numbers in great variety: any sample of them has their rank
        distinct = distinct[:: len(distinct) // MOST_DESIGN + 1]
        counts = np.ones(len(distinct))
    blocks = [
        np.ones((len(distinct), 1)),
        (distinct[:, [0]] == np.arange(1, len(conditions.levels))).astype(float),
    ]
    for place, each in enumerate(others, start=2):
        values = distinct[:, place]
        column = type(each)(name=each.name, levels=each.levels, values=values)
        block = rows_of([column], slice(0, len(values)))
        if each.levels is None:  # centred and scaled, so that the tolerance means the same
            block = (block - block.mean()) / (block.std() or 1.0)
        blocks.append(block)
    blocks.append((distinct[:, [1]] == np.arange(1, len(batches.levels))).astype(float))
    return np.concatenate(blocks, axis=1), counts


def _contrasts(
    table: np.ndarray, levels: tuple[Any, ...], design: np.ndarray, weight: np.ndarray
) -> tuple[Contrast, ...]:
    num_batches = table.shape[1]
    gram = (design * weight[:, None]).T @ design
    without = gram[: 1 - num_batches, : 1 - num_batches]
    inverse, smaller = np.linalg.pinv(gram, hermitian=True), np.linalg.pinv(without, hermitian=True)
    projection = np.linalg.pinv(design) @ design
    within = table / table.sum(1, keepdims=True)  # w
    shares = table / table.sum(0, keepdims=True)  # p
    found = []
    for b, a in itertools.combinations(range(len(levels)), 2):
        c = np.zeros(design.shape[1])
        c[a] = 1.0  # column 0 is the intercept, and the first condition has no column
        if b:
            c[b] = -1.0
        estimable = bool(np.abs(c @ projection - c).max() < 1e-6)
        short = c[: 1 - num_batches]
        kept = 1 - 0.5 * float(((within[a] - within[b]) * (shares[a] - shares[b])).sum())
        found.append(
            Contrast(
                of=levels[a],
                against=levels[b],
                estimable=estimable,
                vif=float((c @ inverse @ c) / (short @ smaller @ short)) if estimable else None,
                kept_by_centring=max(kept, 0.0) if kept > -TOLERANCE else kept,
            )
        )
    return tuple(found)


def _advice(contrasts: tuple[Contrast, ...]) -> str:
    lost = sum(not contrast.estimable for contrast in contrasts)
    if lost == len(contrasts):
        return (
            "not estimable: no method can separate conditions from batches; do not correct, "
            "measure conditions again in shared batches"
        )
    if lost:
        return f"{lost} of {len(contrasts)} comparisons are not estimable; leave these out"
    left = min(1 / contrast.vif for contrast in contrasts if contrast.vif)
    if left >= GOOD:
        return (
            "nearly balanced: test with batch in the linear model; ComBat with the condition as a "
            "covariate is safe for pictures and clusters"
        )
    if left >= POOR:
        return (
            "unbalanced: test with batch in the linear model, never on corrected data; correct "
            "for pictures only with the condition as a covariate"
        )
    return (
        "strongly unbalanced: only the linear model with batch keeps its error rates, and most of "
        "the cells tell nothing of the condition"
    )
