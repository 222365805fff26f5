"""Does a sampler give every example once an epoch, in a new order, each to one worker?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.delete_one import measured
from downslope.noise.statistics.ranges import count

LEAST_ROWS = 10
BORDER = 2.0  # standard errors 1/sqrt(n): sheet section 21


@dataclass(frozen=True, kw_only=True)
class SamplerAudit:
    """What was wrong with the order in which a sampler gave out its examples.

    Attributes:
        every_once: each epoch holds each of the n examples exactly once.
        num_missing: examples that never came, by epoch.
        num_repeated: draws beyond the first of an example, by epoch.
        new_order: consecutive epochs have unrelated orders; None with one epoch.
        rank_correlations: Spearman's of the places in consecutive epochs.
        disjoint_shards: no example goes to two workers; None without shards.
        partial_batch: examples in the last batch if it is not full, else 0.
        faults: what is wrong, one sentence each; empty if all is well.
    """

    every_once: bool
    num_missing: tuple[int, ...]
    num_repeated: tuple[int, ...]
    new_order: bool | None
    rank_correlations: tuple[Estimate, ...]
    disjoint_shards: bool | None
    partial_batch: int
    faults: tuple[str, ...]


def audit_sampler(
    epochs: Sequence[ArrayLike],
    num_rows: int,
    *,
    shards: Sequence[ArrayLike] | None = None,
    batch_size: int | None = None,
) -> SamplerAudit:
    """Checks recorded row numbers of some epochs against what a shuffling sampler promises.

    Args:
        epochs: row numbers in the order they came, one array an epoch.
        num_rows: n; row numbers are 0 to n-1.
        shards: row numbers that each worker got in one epoch.
        batch_size: to say how the last batch is filled.

    Returns:
        A `SamplerAudit`.

    Raises:
        UsageError: no epoch, or row numbers out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> once = rng.permutation(1000)
        >>> audit_sampler([once, once], 1000).faults  # shuffled once, not every epoch
        ('epoch 2 repeats the order of epoch 1 (rank correlation 1.00)',)
        >>> audit_sampler([once, rng.permutation(1000)], 1000).faults
        ()

    Source: Spearman 1904; its standard error 1/sqrt(n-1) in random order.
    """
    n = count("num_rows", num_rows)
    if not len(epochs):
        raise UsageError("epochs must hold at least one; got none")
    orders = [_rows(epoch, n, f"epoch {i}") for i, epoch in enumerate(epochs, 1)]
    counts = [np.bincount(order, minlength=n) for order in orders]
    missing = tuple(int((c == 0).sum()) for c in counts)
    repeated = tuple(int(np.maximum(c - 1, 0).sum()) for c in counts)
    faults = [
        f"epoch {i}: {lost:,} of {n:,} examples missing, {again:,} draws repeated"
        for i, (lost, again) in enumerate(zip(missing, repeated, strict=True), 1)
        if lost or again
    ]
    places = [_places(order, n) for order in orders]
    ranks = tuple(_spearman(a, b) for a, b in itertools.pairwise(places))
    for i, rank in enumerate(ranks, 1):
        if _is_same(rank):
            faults.append(f"epoch {i + 1} repeats the order of epoch {i} "
                          f"(rank correlation {rank.value:.2f})")  # fmt: skip
    known = [rank for rank in ranks if rank.value is not None]
    disjoint = _disjoint(shards, n, faults)
    partial = 0
    if batch_size is not None:
        partial = len(orders[0]) % count("batch_size", batch_size)
        if partial:
            faults.append(f"the last batch holds {partial} of {batch_size}: weight it by its size")
    return SamplerAudit(
        every_once=not any(missing) and not any(repeated), num_missing=missing,
        num_repeated=repeated, new_order=not any(map(_is_same, known)) if known else None,
        rank_correlations=ranks, disjoint_shards=disjoint, partial_batch=partial,
        faults=tuple(faults),
    )  # fmt: skip


def _is_same(rank: Estimate) -> bool:
    """Whether two orders are related beyond chance, at four standard errors over many epochs."""
    if rank.value is None or rank.num_examples is None:
        return False
    return abs(rank.value) > 2 * BORDER / math.sqrt(rank.num_examples - 1)


def _disjoint(shards: Sequence[ArrayLike] | None, n: int, faults: list[str]) -> bool | None:
    if shards is None:
        return None
    owners = np.zeros(n, dtype=np.int64)
    for i, shard in enumerate(shards, 1):
        owners[_rows(shard, n, f"shard {i}")] += 1  # once a shard, however often it is listed
    shared = int((owners > 1).sum())
    if shared:
        faults.append(f"{shared:,} examples went to more than one worker")
    return not shared


def _rows(rows: ArrayLike, n: int, name: str) -> np.ndarray:
    order = np.asarray(rows)
    if order.size == 0:
        return np.zeros(0, dtype=np.int64)
    if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer):
        raise UsageError(f"{name} must be integers of shape [n]; got {order.dtype}")
    if order.min() < 0 or order.max() >= n:
        raise UsageError(f"{name} must hold 0 to {n - 1}; got {order.min()} to {order.max()}")
    return order


def _places(order: np.ndarray, n: int) -> np.ndarray:
    """Place of each example's first draw; -1 where it never came."""
    places = np.full(n, -1, dtype=np.int64)
    places[order[::-1]] = np.arange(len(order))[::-1]
    return places


def _spearman(a: np.ndarray, b: np.ndarray) -> Estimate:
    both = (a >= 0) & (b >= 0)
    num = int(both.sum())
    fields = {"unit": "", "num_examples": num, "method": "Spearman; chance is 0 within 2/sqrt(n)"}
    if num < LEAST_ROWS:
        return not_estimable(f"needs {LEAST_ROWS} examples in both epochs; got {num}", **fields)
    x = np.argsort(np.argsort(a[both])) - (num - 1) / 2
    y = np.argsort(np.argsort(b[both])) - (num - 1) / 2
    value = float(x @ y) / float(x @ x)
    reach = BORDER / math.sqrt(num - 1)
    return measured(value, (max(-1.0, value - reach), min(1.0, value + reach)), **fields)
