"""Means and variances of groups of rows, added up block by block in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from downslope.recipes.batch_norm.layer import Statistics

BLOCK_BYTES = 32 << 20  # of a block as float64


class Moments(NamedTuple):
    """Moments of rows of each of some groups.

    Attributes:
        weight: [groups], the rows' weights summed.
        mean: [groups, features].
        squares: [groups, features], weighted squared deviations from the mean, summed.
    """

    weight: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """[groups, features], dividing by the weight; 0 where a group has none."""
        weight = self.weight[:, None]
        return np.divide(self.squares, weight, out=np.zeros_like(self.squares), where=weight > 0)

    def pooled(self) -> Moments:
        """Of all rows, as one group."""
        share = self.weight / self.weight.sum()
        mean = share @ self.mean
        squares = self.squares.sum(axis=0) + self.weight @ (self.mean - mean) ** 2
        return Moments(self.weight.sum(keepdims=True), mean[None], squares[None])

    def statistics(self, *, by_group: bool) -> Statistics:
        """What normalises: of each group, or of all rows."""
        if by_group:
            return Statistics(self.mean, self.variance, self.weight)
        found = self.pooled()
        return Statistics(found.mean[0], found.variance[0], found.weight[0])


def moments(h: Any, codes: np.ndarray, num_groups: int, weight: np.ndarray) -> Moments:
    """The moments of one block, by the mean and then the deviations from it.

    Args:
        h: [rows, ..., features]; places between the axes count as rows of their own.
        codes: group of each row [rows].
        num_groups: groups.
        weight: of each row [rows].

    Example:
        >>> rows = np.array([[1.0], [3.0], [7.0]])
        >>> found = moments(rows, np.array([0, 0, 1]), 2, np.ones(3))
        >>> found.mean.ravel().tolist(), found.variance.ravel().tolist()
        ([2.0, 7.0], [1.0, 0.0])
    """
    h = np.asarray(h, np.float64)
    places = int(np.prod(h.shape[1:-1]))
    h = h.reshape(-1, h.shape[-1])
    codes = np.repeat(codes, places)
    weight = np.repeat(np.asarray(weight, np.float64) / places, places)
    own = np.zeros((num_groups, len(h)))
    own[codes, np.arange(len(h))] = weight
    total = own.sum(axis=1)
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)[:, None]
    origin = h[0]  # a mean far from 0 then costs no digits
    near = h - origin
    mean = scale * (own @ near)
    near -= mean[codes]
    return Moments(total, np.where(total[:, None] > 0, mean + origin, 0.0), own @ near**2)


def merge(one: Moments, other: Moments) -> Moments:
    """The moments of two sets of rows together.

    Example:
        >>> ones, none = np.ones(1), np.zeros(1, int)
        >>> a, b = (moments(np.array([[v]]), none, 1, ones) for v in (1.0, 3.0))
        >>> float(merge(a, b).variance[0, 0])
        1.0

    Source: Chan, Golub and LeVeque 1983, equation 2.1.
    """
    weight = one.weight + other.weight
    share = np.divide(other.weight, weight, out=np.zeros_like(weight), where=weight > 0)[:, None]
    apart = other.mean - one.mean
    mean = one.mean + share * apart
    squares = one.squares + other.squares + one.weight[:, None] * share * apart**2
    return Moments(weight, mean, squares)


def group_moments(
    x: np.ndarray, codes: np.ndarray, num_groups: int, weight: np.ndarray | None = None
) -> Moments:
    """Moments of all rows of an array, in memory bounded by a block.

    Args:
        x: [rows, features].
        codes: group of each row [rows], 0 to `num_groups` - 1.
        num_groups: groups.
        weight: of each row [rows], zero or more; None: 1.

    Example:
        >>> x = np.array([[1.0], [2.0], [4.0], [6.0]])
        >>> group_moments(x, np.array([0, 0, 1, 1]), 2).mean.ravel().tolist()
        [1.5, 5.0]
    """
    weight = np.ones(len(x)) if weight is None else weight
    step = max(1, BLOCK_BYTES // (8 * (max(1, x.shape[1]) + num_groups)))
    found = None
    for start in range(0, len(x), step):
        at = slice(start, start + step)
        block = moments(x[at], codes[at], num_groups, weight[at])
        found = block if found is None else merge(found, block)
    if found is None:
        zeros = np.zeros((num_groups, x.shape[1]))
        return Moments(np.zeros(num_groups), zeros, zeros.copy())
    return found
