"""The linear model with batch and condition together: each gene's effect, with its interval.

The same sums as ComBat's give three effects: with batch in the model, without it, and after naive
centring of every batch, to show what each would have said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope import DataError, UsageError
from downslope.arguments import plain
from downslope.estimate import t_quantile
from downslope.recipes.batch_effect.cells import open_cells
from downslope.recipes.batch_effect.confounding import Confounding, check_design, require_estimable
from downslope.recipes.batch_effect.design import Covariate
from downslope.recipes.batch_effect.gather import gather
from downslope.recipes.batch_effect.moments import RANK, Moments


@dataclass(frozen=True, kw_only=True)
class Effects:
    """A condition's effect on each gene, in the unit of the values.

    Attributes:
        of, against: the conditions compared: effects are of the first less the second.
        effect, lo, hi: with batch in the model [genes], with the ends of the 95 % interval.
        p_value: two-sided, of no effect [genes]; 1 for a constant gene.
        before, before_lo, before_hi: the same without batch in the model.
        centred: what naive centring of each batch before would have given [genes].
        kept_by_centring: share of the effect that such centring keeps, for any gene. None with a
            third condition or covariates: what it keeps then depends on their effects.
        degrees_of_freedom: of the interval.
        confounding: the check that was passed.
    """

    of: Any
    against: Any
    effect: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    p_value: np.ndarray
    before: np.ndarray
    before_lo: np.ndarray
    before_hi: np.ndarray
    centred: np.ndarray
    kept_by_centring: float | None
    degrees_of_freedom: int
    confounding: Confounding

    def __str__(self) -> str:
        clear, claimed = ((lo > 0) | (hi < 0) for lo, hi in _ends(self))
        said = (
            f"{self.of} against {self.against}: {int(clear.sum())} of {len(clear)} genes differ "
            f"with batch in the model, {int(claimed.sum())} without (95 % intervals, no correction "
            "for many genes)"
        )
        if self.kept_by_centring is None:
            return said
        return f"{said}; centring each batch would leave {self.kept_by_centring:.3g} of each effect"


def _ends(effects: Effects) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (effects.lo, effects.hi), (effects.before_lo, effects.before_hi)


def effects(
    data: Any,
    key: Any = "batch",
    condition: Any = "condition",
    *,
    of: Any = None,
    against: Any = None,
    covariates: Any = None,
    layer: str | None = None,
) -> Effects:
    """Each gene's difference between two conditions, with batch in the model, from one pass.

    y = batch + condition + covariates + noise of equal variance, by least squares. Rows count as
    independent: where many cells come from each donor, give one row a donor (the mean or sum of
    its cells), else the intervals are far too narrow.

    Args:
        data: as for `batch_correct`: values as they are, not corrected ones.
        key, condition: columns of `obs`, or labels [n].
        of, against: the conditions to compare; by default the second and the first of two.
        covariates: names of columns of `obs`, or a mapping or data frame of values [n].
        layer: of an AnnData or its file, instead of X.

    Returns:
        `Effects`, whose text says how many genes differ.

    Raises:
        UsageError: condition and batch are confounded, or arguments do not fit.
        DataError: values that cannot be used, or too few rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat([0, 1], 100)
        >>> treated = np.r_[np.arange(100) < 80, np.arange(100) < 20]
        >>> y = 0.1 * rng.normal(size=(200, 1)) + 1.0 * treated[:, None] - 4.0 * lab[:, None]
        >>> found = effects(y, lab, treated)
        >>> print(f"{found.effect[0]:.1f}, without batch {found.before[0]:.1f}, "
        ...       f"centred {found.centred[0]:.1f}")
        1.0, without batch 3.4, centred 0.7

    Source:
        M. Ritchie et al., limma, Nucleic Acids Res. 43 (2015); V. Nygaard, E. Rodland and
        E. Hovig, Biostatistics 17 (2016), on why corrected data are not to be tested.
    """
    if condition is None:
        raise UsageError("condition must be the label of each cell; got None")
    with open_cells(data, layer) as (reader, known):
        given = gather(reader, known, key, covariates, condition)
        assert given.condition is not None
        pair = _pair(given.condition.levels, of, against)
        check = check_design(given.batch, given.condition, covariates=given.mapping())
        wanted = next(c for c in check.contrasts if {c.of, c.against} == set(pair))
        if not wanted.estimable:
            require_estimable(check)
        moments = given.moments(reader)
    contrast = _contrast(given.covariates, given.condition.name, *pair)
    inside, total = _within(moments), moments.pooled()
    effect, error, freedom = _fit(inside, len(moments.count), contrast)
    before, error_before, freedom_before = _fit(total, 1, contrast)
    centred = contrast @ np.linalg.pinv(total.cc[0], rcond=RANK, hermitian=True) @ inside.cy[0]
    width, width_before = (
        e * t_quantile(f) for e, f in ((error, freedom), (error_before, freedom_before))
    )
    return Effects(
        of=pair[0], against=pair[1],
        effect=effect, lo=effect - width, hi=effect + width,
        p_value=_p_value(effect, error, freedom),
        before=before, before_lo=before - width_before, before_hi=before + width_before,
        centred=centred, kept_by_centring=wanted.kept_by_centring,
        degrees_of_freedom=freedom, confounding=check,
    )  # fmt: skip


def _pair(levels: tuple[Any, ...], of: Any, against: Any) -> tuple[Any, Any]:
    if of is None and against is None and len(levels) == 2:
        return levels[1], levels[0]
    for name, value in (("of", of), ("against", against)):
        if value not in levels:
            known = ", ".join(map(repr, levels[:5])) + ", ..." * (len(levels) > 5)
            raise UsageError(
                f"{name} must be one of the {len(levels)} conditions ({known}); "
                f"got {plain(value)!r}"
            )
    if of == against:
        raise UsageError(f"of and against must differ; got {of!r} twice")
    return of, against


def _contrast(covariates: tuple[Covariate, ...], name: str, of: Any, against: Any) -> np.ndarray:
    columns = [column for each in covariates for column in each.columns]
    place = {column: i for i, column in enumerate(columns)}
    c = np.zeros(len(columns))
    for level, sign in ((of, 1.0), (against, -1.0)):
        if f"{name}: {level}" in place:
            c[place[f"{name}: {level}"]] = sign
    return c


def _within(moments: Moments) -> Moments:
    """Sums about the batches' own means, of all batches."""
    out = Moments(1, moments.mean_c.shape[1], moments.mean_y.shape[1])
    out.count[0] = moments.count.sum()
    out.cc[0], out.cy[0], out.yy[0] = moments.cc.sum(0), moments.cy.sum(0), moments.yy.sum(0)
    return out


def _fit(
    moments: Moments, num_levels: int, contrast: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Effect and standard error [genes], and degrees of freedom."""
    cc, cy, yy = moments.cc[0], moments.cy[0], moments.yy[0]
    inverse = np.linalg.pinv(cc, rcond=RANK, hermitian=True)
    beta = inverse @ cy
    residual = yy - 2 * np.einsum("qg,qg->g", beta, cy)
    residual = np.maximum(residual + np.einsum("qg,qr,rg->g", beta, cc, beta), 0)
    rank = int(np.linalg.matrix_rank(cc, rtol=RANK, hermitian=True))
    freedom = int(moments.count[0]) - num_levels - rank
    if freedom < 1:
        raise DataError(
            f"{int(moments.count[0])} rows for {num_levels + rank} parameters",
            remedy="no error can be estimated; add rows or leave out covariates",
        )
    variance = residual / freedom * (contrast @ inverse @ contrast)
    return contrast @ beta, np.sqrt(variance), freedom


def _p_value(effect: np.ndarray, error: np.ndarray, freedom: int) -> np.ndarray:
    from scipy.stats import t

    ratio = np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)
    return 2 * t.sf(np.abs(ratio), freedom)
