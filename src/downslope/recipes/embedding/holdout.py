"""Which rows are held out, so that batches of P x K can be drawn from them too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of each class to train on, and those held out; an empty list where none are."""

    train: list[np.ndarray]
    held_out: list[np.ndarray]


def held_out(
    members: Sequence[np.ndarray],
    relation: str,
    *,
    share: float,
    num_classes: int,
    rows_per_class: int,
    seed: int,
) -> Part:
    """A share held out that fills batches of P x K, as large as those trained on.

    Of labels, rows of every class that has 2 K or more; of groups and views, whole ones, since
    rows of one group would be known from training. Where that leaves fewer than P on either side,
    none are held out.

    Args:
        members: rows of each class.
        relation: "labels", "groups" or "views".
        share: of the rows or groups, 0 or more and less than 1.
        num_classes, rows_per_class: P and K.

    Example:
        >>> part = held_out([np.arange(8), np.arange(8, 20)], "labels", share=0.2,
        ...                 num_classes=2, rows_per_class=2, seed=0)
        >>> [len(m) for m in part.train], [len(m) for m in part.held_out]
        ([6, 10], [2, 2])
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    everything = Part(train=list(members), held_out=[])
    if not share:
        return everything
    if relation == "labels":
        train, kept = [], []
        for rows in members:
            num = max(rows_per_class, round(share * len(rows)))
            if len(rows) - num < rows_per_class:
                train.append(rows)
                continue
            order = rng.permutation(rows)
            train.append(np.sort(order[num:]))
            kept.append(np.sort(order[:num]))
        return Part(train=train, held_out=kept) if len(kept) >= num_classes else everything
    num = max(num_classes, math.ceil(share * len(members)))
    if len(members) - num < num_classes:
        return everything
    order = rng.permutation(len(members))
    return Part(
        train=[members[i] for i in np.sort(order[num:])],
        held_out=[members[i] for i in np.sort(order[:num])],
    )
