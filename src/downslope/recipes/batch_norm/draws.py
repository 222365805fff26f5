"""Mini-batches of one laboratory each, so that each is normalised by its own rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from downslope.errors import UsageError
from downslope.recipes.batch_norm.passes import weights_of
from downslope.recipes.labels import coded


class OneLab:
    """Draws mini-batches of one laboratory each, every laboratory as often as the others.

    Give it to `downslope.Generator`. With `by_batch`, a mini-batch is then normalised by the rows
    of its laboratory, as many as there are in it.

    Args:
        rows: an array [n, ...].
        lab: labels [n].
        weight: how often each row is drawn beside the others of its laboratory [n], such as
            `balanced` gives; None: alike.

    Attributes:
        labs: the laboratories, sorted or in the order of their categories.

    Example:
        >>> draw = OneLab(np.arange(6.0), ["a", "a", "a", "b", "b", "b"])
        >>> rows, codes = draw(np.random.default_rng(0), 4)
        >>> bool((rows // 3 == codes).all()), len(set(codes.tolist()))
        (True, 1)

    Source: one laboratory a mini-batch: Li et al. 2018 (adaptive batch normalization).
    """

    def __init__(self, rows: Any, lab: Any, weight: Any = None):
        self.rows = np.asarray(rows)
        self.labs, codes = coded(lab, "lab", num_rows=len(self.rows))
        weight = weights_of(weight, len(self.rows))
        self._places = [np.flatnonzero((codes == i) & (weight > 0)) for i in range(len(self.labs))]
        if not all(map(len, self._places)):
            raise UsageError("weight must leave each laboratory a row; got one without")
        self._sums = [np.cumsum(weight[places]) for places in self._places]

    def __call__(self, rng: np.random.Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of one laboratory, drawn with replacement, and its place among `labs`."""
        lab = int(rng.integers(len(self._places)))
        sums = self._sums[lab]
        drawn = np.searchsorted(sums, rng.random(num_rows) * sums[-1], side="right")
        chosen = self._places[lab][np.minimum(drawn, len(sums) - 1)]
        return self.rows[chosen], np.full(num_rows, lab, np.int32)


def balanced(lab: Any, types: Any = None) -> np.ndarray:
    """Weights of rows by which every laboratory has the same composition, [n]; each sums to 1.

    Normalising each laboratory by its own rows takes off what differs in composition as well. With
    these weights, of the draws and of the statistics, types count alike in each laboratory: by
    their share of all rows. Types that a laboratory lacks get no weight.

    Args:
        lab: labels [n].
        types: labels [n] of what the rows are; None weighs the rows of a laboratory alike.

    Raises:
        UsageError: no type that every laboratory has.

    Example:
        >>> balanced(["a", "a", "a", "b", "b"], [0, 0, 1, 0, 1]).round(2).tolist()
        [0.3, 0.3, 0.4, 0.6, 0.4]
    """
    labs, codes = coded(lab, "lab")
    if types is None:
        return 1.0 / np.bincount(codes)[codes]
    levels, of_type = coded(types, "types", num_rows=len(codes))
    table = np.zeros((len(labs), len(levels)))
    np.add.at(table, (codes, of_type), 1)
    share = np.where((table > 0).all(axis=0), table.sum(axis=0), 0.0)
    if not share.any():
        raise UsageError("types must have one that every laboratory has; got none")
    each = np.divide(share / share.sum(), table, out=np.zeros(table.shape), where=table > 0)
    return each[codes, of_type]
