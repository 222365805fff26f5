"""Are the laboratories mixed, and are the cell types still apart? Each score beside its null.

What a score says depends on how many cells, neighbours and laboratories there are. So each is
given with what it would be if the labels were shuffled: for laboratories the best that mixing can
do, for cell types the worst.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from downslope import DataError, UsageError
from downslope.arguments import whole
from downslope.recipes.batch_effect.design import Labels, labels_of
from downslope.recipes.batch_effect.neighbourhoods import (
    PATTERN,
    kbet,
    lisi,
    neighbours,
    perplexity_weights,
    silhouettes,
)

FEWEST = 20  # cells below which neighbours mean nothing; assumed
PERPLEXITY = 30  # of LISI; Korsunsky et al. 2019
KBET_NEIGHBOURS = 50  # about the reach of LISI; assumed


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of an embedding.

    Attributes:
        name, unit: of the score.
        value: of these cells.
        null: mean over shuffled labels; None where shuffling says nothing.
        lo, hi: 95 % of the shuffles lie between.
        better: "low" or "high".
    """

    name: str
    unit: str
    value: float
    null: float
    lo: float
    hi: float
    better: str

    def __str__(self) -> str:
        return (
            f"{self.name} {self.value:.3g} {self.unit} ({self.better} is better); labels shuffled: "
            f"{self.null:.3g} ({self.lo:.3g} to {self.hi:.3g})"
        )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How mixed laboratories are, and how well cell types are kept apart.

    Attributes:
        kbet: share of neighbourhoods whose laboratories differ from those of all cells.
        ilisi: effective number of laboratories in a neighbourhood.
        silhouette_batch: 1 less the absolute silhouette of laboratories, in each cell type.
        clisi: effective number of cell types in a neighbourhood; None without types.
        silhouette_label: silhouette of cell types, -1 to 1; None without types.
        num_cells: that were looked at.
    """

    kbet: Score
    ilisi: Score
    silhouette_batch: Score
    clisi: Score | None
    silhouette_label: Score | None
    num_cells: int

    def __str__(self) -> str:
        given = [getattr(self, each.name) for each in fields(self)]
        return "\n".join(str(score) for score in given if isinstance(score, Score))


def mixing(
    embedding: Any,
    batch: Any,
    labels: Any = None,
    *,
    sample: int = 2000,
    shuffles: int = 50,
    seed: int = 0,
) -> Scores:
    """Scores of an embedding, each with its null from shuffled labels.

    Give the same cells, sample and seed before and after a correction. Laboratories are shuffled
    within cell types where these are known, as types need not be spread evenly. Read all of the
    scores: well mixed laboratories (iLISI near its null) with mixed cell types (cLISI above 1)
    say that biology was taken off with the batches. kBET is near 1 after small shifts already;
    silhouettes see large ones only.

    Args:
        embedding: [n, dimensions], such as principal components.
        batch: [n] laboratories.
        labels: [n] cell types, or None.
        sample: largest number of cells looked at, drawn at random: distances of all pairs are
            held, 8 bytes each.
        shuffles: of the labels, for the nulls.
        seed: of the sample and the shuffles.

    Raises:
        UsageError: fewer than two laboratories, other lengths, or too small a sample.
        DataError: a value is not finite or too large, or there are fewer than 20 cells.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lab = np.repeat([0, 1], 200)
        >>> apart = rng.normal(size=(400, 2)) + 20.0 * lab[:, None]
        >>> found = mixing(apart, lab)
        >>> found.kbet.value, round(found.ilisi.value, 2), round(found.ilisi.null, 1)
        (1.0, 1.0, 1.9)

    Source:
        kBET: M. Buttner et al., Nat. Methods 16 (2019). LISI: I. Korsunsky et al., Nat. Methods
        16 (2019). Silhouettes: M. Luecken et al., Nat. Methods 19 (2022).
    """
    points = np.asarray(embedding, np.float64)
    if points.ndim != 2:
        raise UsageError(f"embedding must be [cells, dimensions]; got {list(points.shape)}")
    whole("sample", sample, least=FEWEST)
    whole("shuffles", shuffles)
    whole("seed", seed, least=0)
    if len(points) < FEWEST:
        raise DataError(f"{len(points)} cells, too few for neighbours", remedy=f"give {FEWEST}")
    with np.errstate(over="ignore"):  # no distance is longer than twice the longest row
        is_finite = np.isfinite(np.square(2 * points).sum(axis=1))
    if not is_finite.all():
        row = int(np.argmin(is_finite)) + 1
        raise DataError("not a finite number, or too large for distances", row=row)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(points))[:sample])
    batches = _chosen(batch, "batch", len(points), chosen)
    if len(batches.levels) < 2:
        raise UsageError("batch must have two laboratories or more among the cells looked at")
    types = None if labels is None else _chosen(labels, "labels", len(points), chosen)
    return _scores(points[chosen], batches, types, shuffles, rng)


def _chosen(values: Any, name: str, n: int, chosen: np.ndarray) -> Labels:
    found = labels_of(values, name, num_cells=n)
    return labels_of(Labels(name=name, levels=found.levels, codes=found.codes[chosen]), name)


def _scores(
    points: np.ndarray, batches: Labels, types: Labels | None, shuffles: int, rng: Any
) -> Scores:
    from scipy.spatial.distance import cdist

    near, distances = neighbours(points, min(3 * PERPLEXITY, len(points) - 1))
    weights = perplexity_weights(distances, min(PERPLEXITY, near.shape[1] // 3))
    k = min(KBET_NEIGHBOURS, near.shape[1])
    between = cdist(points, points)
    within = np.zeros(len(points), np.int32) if types is None else types.codes
    num_batches = len(batches.levels)

    def scored(name: str, unit: str, better: str, codes: PATTERN, groups: PATTERN,
               of: Callable[[PATTERN], float]) -> Score:  # fmt: skip
        null = [of(_shuffled(codes, groups, rng)) for _ in range(shuffles)]
        lo, hi = np.percentile(null, [2.5, 97.5])
        return Score(
            name=name, unit=unit, value=of(codes), null=float(np.mean(null)), lo=float(lo),
            hi=float(hi), better=better,
        )  # fmt: skip

    found: dict[str, Score | None] = {
        "kbet": scored(
            "kBET", "of neighbourhoods rejected", "low", batches.codes, within,
            lambda codes: kbet(near[:, :k], codes, num_batches),
        ),
        "ilisi": scored(
            "iLISI", f"of {num_batches} laboratories", "high", batches.codes, within,
            lambda codes: float(lisi(near, weights, codes, num_batches).mean()),
        ),
        "silhouette_batch": scored(
            "batch silhouette", "of 1", "high", batches.codes, within,
            lambda codes: _batch_silhouette(between, codes, within),
        ),
        "clisi": None,
        "silhouette_label": None,
    }  # fmt: skip
    if types is not None and len(types.levels) > 1:
        everyone = np.zeros(len(points), np.int32)
        found["clisi"] = scored(
            "cLISI", "cell types", "low", types.codes, everyone,
            lambda codes: float(lisi(near, weights, codes, len(types.levels)).mean()),
        )  # fmt: skip
        found["silhouette_label"] = scored(
            "cell type silhouette", "of 1", "high", types.codes, everyone,
            lambda codes: float(silhouettes(between, codes).mean()),
        )  # fmt: skip
    return Scores(num_cells=len(points), **found)  # type: ignore[arg-type]


def _shuffled(codes: PATTERN, groups: PATTERN, rng: Any) -> PATTERN:
    """The codes in a random order, within each group."""
    out = np.empty_like(codes)
    start = np.argsort(groups, kind="stable")
    out[start] = codes[np.lexsort((rng.random(len(codes)), groups))]
    return out


def _batch_silhouette(between: np.ndarray, codes: PATTERN, within: PATTERN) -> float:
    found = []
    for group in np.unique(within):
        rows = np.flatnonzero(within == group)
        if len(np.unique(codes[rows])) > 1:
            here = silhouettes(between[np.ix_(rows, rows)], codes[rows])
            found.append(1 - np.abs(here).mean())
    return float(np.mean(found)) if found else 0.0
