"""The exact statistics of every layer at the end, by passes over the data, and prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from downslope.arguments import plain, whole
from downslope.errors import DataError, UsageError
from downslope.recipes.batch_norm.layer import EPSILON, Norm, Statistics, check_epsilon, frozen
from downslope.recipes.batch_norm.moments import Moments, merge, moments
from downslope.recipes.batch_norm.passes import (
    BLOCK_ROWS,
    Net,
    Rows,
    default_block,
    layer_shapes,
    of_one_layer,
    padded,
    rows_of,
)
from downslope.recipes.labels import coded


@dataclass(frozen=True, kw_only=True)
class Population:
    """Statistics of every layer of a net, from all rows.

    Attributes:
        layers: mean and variance of each layer's inputs by its name, float64, [features] or
            [laboratories, features]. The variance divides by the number of rows.
        labs: the laboratories in the order of the statistics; None where all rows are one.
        num_rows: rows behind them.
        epsilon: added to variances when normalising.
    """

    layers: dict[str, Statistics]
    labs: tuple[Any, ...] | None
    num_rows: int
    epsilon: float

    def codes(self, lab: Any) -> np.ndarray | None:
        """The places of laboratories [n] among `labs`; None where there are none.

        Raises:
            DataError: a label is missing.
            UsageError: a laboratory without statistics, or `lab` given where there are none of
                laboratories, or missing where there are.
        """
        if self.labs is None:
            if lab is not None:
                raise UsageError("lab must be None: the statistics are those of all rows together")
            return None
        if lab is None:
            raise UsageError("lab must be the laboratory of each row; got None")
        place = {level: i for i, level in enumerate(self.labs)}
        levels, codes = coded(lab, "lab")
        new = [level for level in levels if level not in place]
        if new:
            known = ", ".join(map(repr, self.labs[:5])) + (", ..." if len(self.labs) > 5 else "")
            raise UsageError(
                f"lab must be one of those with statistics ({known}); got {plain(new[0])!r}: pass "
                "over some of its rows first"
            )
        return np.array([place[level] for level in levels], np.int32)[codes]

    def norm(self, lab: Any = None) -> Norm:
        """Normalises by these statistics, inside a loss too.

        Args:
            lab: places of the rows' laboratories among `labs` [rows], as `codes` gives them.
        """
        return frozen(self.layers, lab, epsilon=self.epsilon)


def population_statistics(
    net: Net,
    model: Any,
    data: Any,
    *,
    lab: Any = None,
    weight: Any = None,
    inputs: Callable[[Any], Any] | None = None,
    epsilon: float = EPSILON,
    block_rows: int | None = None,
) -> Population:
    """The mean and variance of every layer's inputs over all rows, exactly.

    One pass for each layer, since what a later layer is given depends on the statistics of those
    before it. Memory is that of a block. Running averages kept while training are statistics of
    nets that are no more; these are of the net as it is.

    Args:
        net: `net(model, inputs, norm)`.
        model: the trained model.
        data: rows in arrays, or a source of downslope.
        lab: labels [rows], for statistics of each laboratory; or a function that finds them in a
            batch.
        weight: of each row [rows], zero or more.
        inputs: picks from a batch of the data what the net takes; None: all of it.
        epsilon: added to variances, as in training.
        block_rows: rows taken at once; None: as many as fill 32 MiB in the widest layer.

    Raises:
        UsageError: a generator; a net that calls no norm, or one name twice.
        DataError: a layer's input is not finite, or a laboratory has fewer than 2 rows.

    Example:
        >>> x = np.float32([[1.0], [2.0], [3.0], [6.0]])
        >>> found = population_statistics(lambda model, x, norm: norm("x", x), {}, x)
        >>> found.layers["x"].mean.tolist(), found.layers["x"].variance.tolist()
        ([3.0], [3.5])

    Source: Ioffe and Szegedy 2015, algorithm 2; merging of blocks: Chan, Golub and LeVeque 1983.
    """
    rows = rows_of(data, lab=lab, weight=weight, inputs=inputs, block_rows=block_rows or BLOCK_ROWS)
    found = sweep(
        net, model, rows, rows.codes, len(rows.labs or (None,)), by_lab=rows.labs is not None,
        epsilon=epsilon, block_rows=block_rows,
    )  # fmt: skip
    return Population(
        layers={
            name: each.statistics(by_group=rows.labs is not None) for name, each in found.items()
        },
        labs=rows.labs,
        num_rows=rows.num_rows,
        epsilon=epsilon,
    )


def sweep(
    net: Net,
    model: Any,
    rows: Rows,
    groups: np.ndarray,
    num_groups: int,
    *,
    by_lab: bool,
    epsilon: float,
    block_rows: int | None = None,
) -> dict[str, Moments]:
    """Moments of every layer's inputs in each group, the layers before it frozen.

    Args:
        groups: of each row [rows], laboratories or finer.
        num_groups: groups in all.
        by_lab: layers are frozen at the statistics of each laboratory, else at those of all rows.
    """
    whole("block_rows", block_rows, optional=True)
    check_epsilon(epsilon)
    _check_rows(rows, by_lab)
    shapes = layer_shapes(net, model, rows.read(0, min(2, rows.num_rows)))
    size = min(block_rows or default_block(shapes, rows.num_rows), rows.num_rows)
    found: dict[str, Moments] = {}
    layers: dict[str, Statistics] = {}
    for name in shapes:
        h_of = of_one_layer(net, model, name, epsilon)
        both = None  # of groups, and of what the layer is frozen at
        for at, inputs in rows.blocks(size):
            codes, count = rows.codes[at], at.stop - at.start
            h = h_of(padded(inputs, size), padded(codes, size), layers)[:count]
            _check_finite(h, name, at.start)
            weight = rows.weight[at]
            block = [moments(h, groups[at], num_groups, weight)]
            if by_lab and groups is not rows.codes:
                block.append(moments(h, codes, len(rows.labs or (None,)), weight))
            both = (
                block if both is None else [merge(a, b) for a, b in zip(both, block, strict=True)]
            )
        assert both is not None
        found[name], layers[name] = both[0], both[-1].statistics(by_group=by_lab)
    return found


def _check_rows(rows: Rows, by_lab: bool) -> None:
    """Every laboratory needs two rows, and some weight."""
    num = len(rows.labs) if by_lab and rows.labs else 1
    codes = rows.codes if by_lab else np.zeros(rows.num_rows, np.int32)
    count = np.bincount(codes[rows.weight > 0], minlength=num)
    few = int(count.argmin())
    if count[few] < 2:
        whose = f"laboratory {rows.labs[few]!r} has" if by_lab and rows.labs else "data have"
        raise DataError(
            f"{whose} {count[few]} rows of positive weight, fewer than 2: there is no spread"
        )


def _check_finite(h: np.ndarray, name: str, start: int) -> None:
    if not np.isfinite(h).all():
        row = start + int(np.argwhere(~np.isfinite(h))[0][0]) + 1
        raise DataError(f"what layer {name!r} is given is not finite", row=row)
