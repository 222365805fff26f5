"""Before any correction: can the effect of a condition be told from that of the laboratories?

Cells of a condition are spread over laboratories ("batches"). If each condition was measured in a
laboratory of its own, the two effects are one column of the design, and no method can part them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import UsageError
from downslope.estimate import Estimate
from downslope.recipes.batch_effect.association import corrected_v, phi2
from downslope.recipes.batch_effect.design import distinct_rows, labels_of

TOLERANCE = 1e-9  # share of a contrast that may lie outside the rows of the design: rounding
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
            centred and the two were then compared. None with a third condition or covariates:
            what is left then depends on their effects too.
    """

    of: Any
    against: Any
    estimable: bool
    vif: float | None
    kept_by_centring: float | None

    def __str__(self) -> str:
        pair = f"{self.of} against {self.against}"
        if not self.estimable:
            return f"{pair}: not estimable, no method can separate it from the batches"
        said = (
            f"{pair}: estimable; batch in the model makes its variance {self.vif:.3g} times as "
            "large"
        )
        if self.kept_by_centring is None:
            return said
        return f"{said}, centring each batch would leave {self.kept_by_centring:.3g} of the effect"


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
    cramers_v: Estimate
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
    inflation is its variance with batch in the model over that without. Of two conditions centring
    leaves 1 - sum_j (w_aj - w_bj) p_aj, where w_aj is the share of condition a's cells that lie in
    batch j, and p_aj the share of batch j that is of condition a. That is 1 - R2, and 1 - phi^2
    with two batches.

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
    batches = labels_of(batch, "batch")
    conditions = labels_of(condition, "condition", num_cells=len(batches.codes))
    for labels in (batches, conditions):
        if len(labels.levels) < 2:
            raise UsageError(f"{labels.name} must have two labels or more; got {labels.levels}")
    shape = (len(conditions.levels), len(batches.levels))
    table = np.zeros(shape, np.int64)
    np.add.at(table, (conditions.codes, batches.codes), 1)
    design, weight = distinct_rows(batches, conditions, covariates)
    is_alone = design.shape[1] == 1 + (shape[0] - 1) + (shape[1] - 1)
    kept = _kept_by_centring(table) if shape[0] == 2 and is_alone else None
    contrasts = _contrasts(len(batches.levels), conditions.levels, design, weight, kept)
    return Confounding(
        table=table,
        conditions=conditions.levels,
        batches=batches.levels,
        cramers_v=corrected_v(table, seed),
        raw_cramers_v=float(np.sqrt(phi2(table[None])[0] / (min(shape) - 1))),
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


def _kept_by_centring(table: np.ndarray) -> float:
    """1 - R2 of two conditions."""
    within = table / table.sum(axis=1, keepdims=True)
    kept = 1 - float((within[1] - within[0]) @ (table[1] / table.sum(axis=0)))
    return kept if kept > TOLERANCE else 0.0


def _contrasts(
    num_batches: int, levels: tuple[Any, ...], design: np.ndarray, weight: np.ndarray,
    kept: float | None,
) -> tuple[Contrast, ...]:  # fmt: skip
    gram = (design * weight[:, None]).T @ design
    without = gram[: 1 - num_batches, : 1 - num_batches]
    inverse, smaller = np.linalg.pinv(gram, hermitian=True), np.linalg.pinv(without, hermitian=True)
    projection = np.linalg.pinv(design) @ design
    found = []
    for b, a in itertools.combinations(range(len(levels)), 2):
        c = np.zeros(design.shape[1])
        c[a] = 1.0  # column 0 is the intercept, and the first condition has no column
        if b:
            c[b] = -1.0
        estimable = bool(np.abs(c @ projection - c).max() < 1e-6)
        short = c[: 1 - num_batches]
        found.append(
            Contrast(
                of=levels[a],
                against=levels[b],
                estimable=estimable,
                vif=float((c @ inverse @ c) / (short @ smaller @ short)) if estimable else None,
                kept_by_centring=kept,
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
