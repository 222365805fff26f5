"""Weighted means of vectors with their sampling covariance, block by block of rows.

Squares are taken about the mean, and blocks joined by the formula of Chan, Golub and LeVeque
(1983), so large offsets lose no digits and the order of the blocks does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class _Sums(NamedTuple):
    total: float  # sum of the weights
    mean: Floats  # [d]
    scatter: Floats  # [d, d], weighted sum of products about the mean


class Moments:
    """Streaming mean of d-vectors and the covariance of that mean.

    With weights w the mean is sum(w x) / sum(w), a ratio of two sums; its covariance is
    sum(w^2 (x - m)(x - m)') / sum(w)^2 * n / (n - 1) with the effective sample size
    n = sum(w)^2 / sum(w^2) (Kish 1965). This linearised form stays right when weights and values
    go together, as with class weights, where s^2 / n does not; without weights they are the same.

    >>> moments = Moments(1)
    >>> moments.add(np.array([[1.0, 2.0, 3.0, 4.0]]))
    >>> moments.mean.tolist(), moments.covariance_of_mean().round(4).tolist()
    ([2.5], [[0.4167]])
    """

    def __init__(self, num_components: int):
        d = num_components
        self.num_components = d
        self.count = 0  # rows used
        self.num_bad = 0  # rows left out, because a component was not finite
        empty = _Sums(0.0, np.zeros(d), np.zeros((d, d)))
        # a second set under w^2 gives sum(w^2 (x - m)(x - m)') for whatever m turns out to be
        self._first, self._second = empty, empty

    def add(self, values: Floats, weight: Floats | None = None) -> None:
        """Add rows: values [d, n], weight [n] (all positive) or None for ones."""
        good = np.isfinite(values).all(axis=0)
        num_good = int(np.count_nonzero(good))
        self.num_bad += good.size - num_good
        if num_good == 0:
            return
        if num_good < good.size:
            values, weight = values[:, good], None if weight is None else weight[good]
        self.count += num_good
        with np.errstate(over="ignore", invalid="ignore"):  # a spread beyond doubles is checked for
            first = _sums(values, weight)
            second = first if weight is None else _sums(values, weight * weight)
            self._first, self._second = _join(self._first, first), _join(self._second, second)

    @property
    def mean(self) -> Floats:
        """Weighted mean [d]."""
        return self._first.mean

    @property
    def variance(self) -> Floats:
        """Weighted population variance [d]: mean squares about the mean, no correction."""
        return np.diag(self._first.scatter) / self._first.total

    @property
    def num_effective(self) -> float:
        """Effective sample size sum(w)^2 / sum(w^2); the row count without weights."""
        squares = self._second.total
        return self._first.total**2 / squares if squares > 0 else 0.0

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the spread: effective sample size - 1."""
        return self.num_effective - 1

    def covariance_of_mean(self) -> Floats:
        """Sampling covariance [d, d] of the mean; NaN below two effective examples.

        One example says nothing about its spread: the callers turn the NaN into "no interval".
        """
        n = self.num_effective
        if n <= 1 + 1e-9:
            return np.full((self.num_components,) * 2, np.nan)
        shift = self._second.mean - self._first.mean
        with np.errstate(over="ignore", invalid="ignore"):
            about_mean = self._second.scatter + self._second.total * np.outer(shift, shift)
            return about_mean / self._first.total**2 * (n / (n - 1))


def _sums(values: Floats, weight: Floats | None) -> _Sums:
    # the first row as origin makes the spread of a constant exactly zero
    origin = values[:, :1]
    residual = values - origin
    total = float(values.shape[1]) if weight is None else float(weight.sum())
    mean = (
        residual.sum(axis=1) if weight is None else np.einsum("in,n->i", residual, weight)
    ) / total
    residual -= mean[:, None]
    weighted = residual if weight is None else residual * weight
    # not `@`: the threads of a BLAS wait by spinning, and cost up to ten times on a busy machine
    return _Sums(total, origin[:, 0] + mean, np.einsum("in,jn->ij", weighted, residual))


def _join(a: _Sums, b: _Sums) -> _Sums:
    if a.total == 0 or b.total == 0:
        return b if a.total == 0 else a
    total = a.total + b.total
    delta = b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(delta, delta) * (a.total * b.total / total)
    return _Sums(total, a.mean + delta * (b.total / total), scatter)
