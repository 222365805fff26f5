"""How good embeddings are at finding rows of one class, by their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.neighbors import NearestNeighbors

from downslope import UsageError
from downslope.arguments import whole
from downslope.estimate import Estimate, not_estimable
from downslope.metrics import Results

RECALL_UNIT = "share of queries"
RESAMPLES = 500  # of the queries, for an interval


def nearest(
    queries: np.ndarray, k: int, *, reference: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances [n, k] and row numbers [n, k] of the nearest rows, nearest first.

    Args:
        queries: [n, d].
        k: neighbours, at most as many as there are.
        reference: rows to search, [m, d]; None searches the queries themselves, each among the
            others.

    Example:
        >>> nearest(np.array([[0.0], [1.0], [3.0]]), 1)[1].ravel().tolist()
        [1, 0, 1]
    """
    among = queries if reference is None else reference
    most = len(among) - (reference is None)
    whole("k", k, most=most)
    search = NearestNeighbors(n_neighbors=k).fit(among)
    if reference is None:  # a row is not among its own neighbours, also where it has duplicates
        distances, places = search.kneighbors()
    else:
        distances, places = search.kneighbors(queries)
    return distances, places


def retrieval(
    embeddings: Any,
    labels: Any,
    *,
    reference: Any = None,
    reference_labels: Any = None,
    ks: Sequence[int] = (1, 5),
    seed: int = 0,
) -> Results:
    """Recall@k and MAP@R, each with its 95 % interval.

    Recall@k is the share of queries with a row of their class among the k nearest. MAP@R is the
    mean of (1/R) sum_{i<=R} precision(i) [i-th is of the class], where R rows of the class are
    there to be found. Queries of a class with nothing to find are left out, and counted in the
    note. The interval takes queries as independent: it speaks of other rows of these classes, not
    of other classes.

    Args:
        embeddings: of the queries, [n, d].
        labels: their classes, [n].
        reference, reference_labels: rows to search, [m, d], [m]; None searches the queries, each
            among the others.
        ks: numbers of neighbours.
        seed: of the bootstrap over queries.

    Returns:
        Estimates "recall@1" and so on, and "map@r"; `.reasons` says what could not be estimated.

    Example:
        >>> found = retrieval([[0.0], [1.0], [1.4], [3.0]], [0, 0, 1, 1], ks=(1, 2))
        >>> found["recall@1"].value, found["recall@2"].value, found["map@r"].value
        (0.5, 0.75, 0.5)

    Source: Musgrave, Belongie and Lim 2020, section 3.2 (MAP@R); Wilson 1927.
    """
    z, y = _given("embeddings", embeddings, labels)
    own = reference is None
    among, classes = (z, y) if own else _given("reference", reference, reference_labels)
    names = [f"recall@{k}" for k in ks]
    total = _counts(y, classes) - own
    asked = np.flatnonzero(total > 0)
    if len(asked) == 0:
        none = not_estimable("no query has another row of its class to find", unit=RECALL_UNIT)
        return Results(dict.fromkeys([*names, "map@r"], none))
    most = len(among) - own
    depth = min(max([*ks, int(total.max())]), most)
    _, places = nearest(z, depth, reference=None if own else among)
    right = (classes[places] == y[:, None])[asked]
    left = len(y) - len(asked)
    flags = (f"{left} queries of classes with nothing to find are left out",) if left else ()
    found: dict[str, Estimate] = {}
    for k, name in zip(ks, names, strict=True):
        if not 1 <= k <= most:
            found[name] = not_estimable(f"there are only {most} rows to find", unit=RECALL_UNIT)
            continue
        hits = int(right[:, :k].any(1).sum())
        low, high = binomtest(hits, len(asked)).proportion_ci(method="wilson")
        found[name] = Estimate(
            value=hits / len(asked), lo=float(low), hi=float(high), num_examples=len(asked),
            unit=RECALL_UNIT, method="Wilson score interval", flags=flags,
        )  # fmt: skip
    each = _precision_at_r(right, total[asked])
    low, high = _bootstrap(each, seed)
    found["map@r"] = Estimate(
        value=float(each.mean()), lo=low, hi=high, num_examples=len(asked),
        unit="mean precision, 0 to 1", method="bootstrap over queries", flags=flags,
    )  # fmt: skip
    return Results(found, higher_is_better=found)


def _precision_at_r(right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Average precision of every query over its first R neighbours."""
    rank = np.arange(1, right.shape[1] + 1)
    counted = right & (rank <= total[:, None])
    return (counted * np.cumsum(counted, axis=1) / rank).sum(1) / total


def _bootstrap(values: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    if len(values) < 2 or np.ptp(values) == 0:
        return None, None  # no spread was seen
    draw = np.random.default_rng(seed)
    means = [values[draw.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _counts(labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    """How many of `among` have the label of each row."""
    known, counts = np.unique(among, return_counts=True)
    place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    return np.where(known[place] == labels, counts[place], 0)


def _given(name: str, vectors: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    z, y = np.asarray(vectors, np.float32), np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1] or len(z) < 2:
        raise UsageError(
            f"{name} and its labels must be [n, d] and [n] with n of 2 or more; "
            f"got {z.shape} and {y.shape}"
        )
    if not np.isfinite(z).all():
        raise UsageError(f"{name} must be finite numbers; got some that are not")
    return z, y
