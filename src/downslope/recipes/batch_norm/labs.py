"""Normalisation of each laboratory inside a mini-batch, and losses that count only some rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from downslope.arguments import whole
from downslope.recipes.batch_norm.layer import (
    EPSILON,
    Layer,
    Norm,
    check_epsilon,
    check_shape,
    learned,
    near_zero,
)

FEWEST = 8  # rows of a laboratory in a mini-batch: the spread is then known to 27 %; assumed


def by_lab(lab: Any, num_labs: int, *, fewest: int = FEWEST, epsilon: float = EPSILON) -> Norm:
    """Normalises each row by the rows of its own laboratory in the mini-batch.

    Rows of a laboratory with fewer than `fewest` rows in the mini-batch become 0 before the
    scale and shift, since nothing can be said of them; leave their losses out with `enough_rows`
    and `counted_mean`.

    Args:
        lab: whole numbers [rows], 0 to `num_labs` - 1; a row with another number is left out.
        num_labs: laboratories in all.
        fewest: rows of a laboratory, 2 or more.
        epsilon: added to variances.

    Example:
        >>> h = jnp.array([[1.0], [10.0], [3.0], [30.0], [7.0]])
        >>> norm = by_lab(jnp.array([0, 1, 0, 1, 2]), 3, fewest=2)
        >>> norm("h", h).round(3).ravel().tolist()
        [-1.0, -1.0, 1.0, 1.0, 0.0]

    Source: Chang et al. 2019 (domain-specific batch normalization), here within one mini-batch.
    """
    check_epsilon(epsilon)
    _check_labs(num_labs, fewest)

    def norm(name: str, h: Any, layer: Layer | None = None) -> Array:
        check_shape(name, h)
        own, count = _membership(lab, num_labs, h)
        share = own / jnp.maximum(count, 1)

        def of_own(values: Any) -> Array:  # [rows, ..., features] -> its laboratory's mean
            of_rows = values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)
            mean = jnp.matmul(share.T, of_rows, precision="highest")
            found = jnp.matmul(own, mean, precision="highest")
            return found.reshape(len(values), *(1,) * (values.ndim - 2), values.shape[-1])

        d = near_zero(h)
        d = d - of_own(d)
        d = d - of_own(d)  # what rounding leaves where laboratories are far apart
        found = d * jax.lax.rsqrt(of_own(d * d) + epsilon)
        enough = (own @ (count >= fewest)) > 0
        return learned(jnp.where(enough.reshape(-1, *(1,) * (h.ndim - 1)), found, 0), layer)

    return norm


def enough_rows(lab: Any, num_labs: int, *, fewest: int = FEWEST) -> Array:
    """Whether each row's laboratory has enough rows in the mini-batch, [rows].

    Args:
        lab, num_labs, fewest: as for `by_lab`.

    Example:
        >>> enough_rows(jnp.array([0, 1, 0]), 2, fewest=2).tolist()
        [True, False, True]
    """
    _check_labs(num_labs, fewest)
    own, count = _membership(lab, num_labs, jnp.zeros(()))
    return (own @ (count >= fewest)) > 0


def counted_mean(losses: Any, counted: Any) -> Array:
    """Mean loss of the rows that count: a scalar, by which the engine knows that rows interact.

    Args:
        losses: [rows].
        counted: bools [rows]. Where none counts the mean is 0, and so is its gradient.

    Example:
        >>> float(counted_mean(jnp.array([1.0, 9.0, 3.0]), jnp.array([True, False, True])))
        2.0
    """
    counted = jnp.asarray(counted)
    return jnp.where(counted, losses, 0).sum() / jnp.maximum(counted.sum(), 1)


def _membership(lab: Any, num_labs: int, like: Any) -> tuple[Array, Array]:
    """Ones where a row [rows, laboratories] is of a laboratory, and rows of each."""
    own = jax.nn.one_hot(lab, num_labs, dtype=jnp.result_type(like.dtype, jnp.float32))
    return own, own.sum(axis=0)


def _check_labs(num_labs: int, fewest: int) -> None:
    whole("num_labs", num_labs)
    whole("fewest", fewest, least=2)
