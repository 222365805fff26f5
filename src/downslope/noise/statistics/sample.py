"""Moments of a matrix of per-example gradients: signal, trace and rank of the noise.

All sums are about the mean gradient, so that a large gradient costs no digits.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from downslope.errors import UsageError
from downslope.estimate import t_quantile
from downslope.noise.statistics.intervals import Part, plain_part, positive_part

SQUARED = "(loss/parameter)^2"  # unit of |G|^2 and of tr Sigma
ROUNDING = 1e-28  # a variance below this share of the mean square is rounding of equal rows


@dataclass(frozen=True, eq=False)
class Sample:
    """Per-example gradients as their mean [d] and the centred rest [n, d], n >= 3.

    `mean_product` and `products` are the same again, or their products with a Hessian H. With
    c_i = g_i - mean, and lengths |v|^2 = v^T v, or v^T H v:

    - `trace`: sum |c_i|^2 / (n - 1), unbiased for tr Sigma, or tr(H Sigma).
    - `signal`: |mean|^2 - trace / n, unbiased for |G|^2, or G^T H G; may be negative.
    - `trace_square`: unbiased for tr(Sigma^2), or tr((H Sigma)^2), if the noise is Gaussian; may
      be negative.
    """

    mean: np.ndarray
    centred: np.ndarray
    mean_product: np.ndarray
    products: np.ndarray

    @property
    def num(self) -> int:
        return len(self.centred)

    @property
    def is_plain(self) -> bool:
        return self.products is self.centred

    @functools.cached_property
    def squares(self) -> np.ndarray:
        """|c_i|^2, shape [n]."""
        return np.einsum("ij,ij->i", self.centred, self.products)

    @functools.cached_property
    def along(self) -> np.ndarray:
        """c_i . mean, shape [n]."""
        return self.centred @ self.mean_product

    @functools.cached_property
    def length(self) -> float:
        """|mean|^2, too large for |G|^2 by trace / n."""
        return float(self.mean @ self.mean_product)

    @functools.cached_property
    def trace(self) -> float:
        return float(self.squares.sum() / (self.num - 1))

    @functools.cached_property
    def signal(self) -> float:
        return self.length - self.trace / self.num

    @functools.cached_property
    def gram(self) -> np.ndarray:
        """Matrix with the non-zero eigenvalues of the sample covariance S (or H S)."""
        c = self.centred
        if not self.is_plain:
            return c @ self.products.T / (self.num - 1)
        return (c @ c.T if len(c) <= c.shape[1] else c.T @ c) / (self.num - 1)

    @functools.cached_property
    def trace_square(self) -> float:
        n, raw = self.num, float((self.gram**2).sum())
        scale = (n - 1) ** 2 / ((n - 2) * (n + 1))
        return scale * (raw - self.trace**2 / (n - 1))

    def kept(self, rows: np.ndarray) -> Sample:
        """Sample of some of the examples, centred on their own mean."""
        shift = self.centred[rows].mean(axis=0)
        mean, centred = self.mean + shift, self.centred[rows] - shift
        if self.is_plain:
            return Sample(mean, centred, mean, centred)
        turned = self.products[rows].mean(axis=0)
        return Sample(mean, centred, self.mean_product + turned, self.products[rows] - turned)

    def trace_part(self) -> Part:
        """Trace of Sigma, with the error of the mean of |c_i|^2."""
        error = float(self.squares.std(ddof=1)) / self.num**0.5
        part = positive_part if self.is_plain else plain_part
        return part(self.trace, error, self.num - 1)

    def signal_part(self) -> Part:
        """|G|^2 with the interval of all s that lie within t errors of the estimate.

        The error at s is sqrt(a + b s), with a = 2 tr(Sigma^2)/n^2 and
        b = 4 G^T Sigma G / (|G|^2 n), so the interval is not symmetric.
        """
        n, t = self.num, t_quantile(self.num - 1)
        a = 2 * max(self.trace_square, 0.0) / n**2
        linear = 4 * float(self.along @ self.along) / ((n - 1) * n)
        b = linear / self.length if self.length > 0 else 0.0
        s = self.signal
        centre = s + t * t * b / 2
        reach = t * max(a + b * s + (t * b / 2) ** 2, 0.0) ** 0.5
        error = max(a + b * max(s, 0.0), 0.0) ** 0.5
        # an estimate far below 0 lies outside: no s explains it
        return Part(value=s, error=error, lo=min(centre - reach, s), hi=max(centre + reach, s))

    def covariance(self) -> float:
        """Covariance of the two estimates: 0 for symmetric noise."""
        return 2 * float(self.along @ self.squares) / ((self.num - 1) * self.num)


def read_sample(gradients: ArrayLike) -> Sample | str:
    """The `Sample` of the gradients, or the reason why nothing can be estimated from them.

    Args:
        gradients: [n, d], one example's gradient a row; [n] is read as [n, 1].

    Raises:
        UsageError: another number of dimensions.
    """
    g = np.asarray(gradients, dtype=np.float64)
    g = g[:, None] if g.ndim == 1 else g
    if g.ndim != 2:
        raise UsageError(f"gradients must have shape [n, d], one gradient a row; got {g.shape}")
    if len(g) < 3:
        return f"{len(g)} example(s): at least 3 are needed"
    if g.shape[1] == 0:
        return "gradients without entries"
    if not np.isfinite(g).all():
        return "a gradient is not finite"
    size = float(abs(g).max())
    if not size < 1e75:  # fourth powers of the entries are summed
        return "gradients too large for their squares to be summed"
    mean = g.mean(axis=0)
    rest = g - mean
    sample = Sample(mean, rest, mean, rest)
    if size < 1e-75:
        return "all gradients are zero"
    if sample.trace <= ROUNDING * (sample.trace + float(mean @ mean)):
        return "all gradients are equal: no spread is seen"
    return sample
