"""Terms of an equation's loss: residuals of the equation, of its conditions, of measured values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax import Array

from downslope.recipes.equation.net import Net

Row = tuple[Any, ...]  # what a term is evaluated at: a point, and a normal or measured values


@dataclass(frozen=True)
class Term:
    """One term: `residual(u, row, coefficients)`, a number or [k], and its name."""

    name: str
    residual: Callable[[Any, Row, Any], Any]


@dataclass(frozen=True)
class Terms:
    """All terms of a loss, as functions of a model `{"net": ..., "coefficients": {...}}`.

    A batch is `{"rows": one tuple of arrays a term, "weights": [B, number of terms]}`; each row of
    it has one row of every term, so that conditions are in every batch.

    Attributes:
        terms: the equation first.
        net: stands for the solution.
        ansatz: `ansatz(u, x)`, which satisfies conditions exactly; None for the net itself.
        scales: of the coefficients, which are trained in units of these.
    """

    terms: tuple[Term, ...]
    net: Net
    ansatz: Callable[[Any, Any], Any] | None = None
    scales: tuple[tuple[str, float], ...] = ()

    def solution(self, model: Any) -> Callable[[Array], Array]:
        """The function of a point that the model stands for: a number, or [num_outputs]."""

        def plain(x: Array) -> Array:
            out = self.net(model["net"], x)
            return out[0] if self.net.num_outputs == 1 else out

        ansatz = self.ansatz
        return plain if ansatz is None else lambda x: ansatz(plain, x)

    def coefficients(self, model: Any) -> dict[str, Array]:
        """Coefficients by name, in their own units."""
        return {name: scale * model["coefficients"][name] for name, scale in self.scales}

    def residual(self, model: Any, place: int, row: Row) -> Array:
        """Residual [k] of one term at one row."""
        found = self.terms[place].residual(self.solution(model), row, self.coefficients(model))
        return jnp.atleast_1d(found)

    def residuals(self, model: Any, place: int, rows: Row) -> Array:
        """Residuals [B, k] of one term."""
        return jax.vmap(lambda row: self.residual(model, place, row))(rows)

    def __call__(self, model: Any, batch: Mapping[str, Any], key: Array) -> Array:
        """Weighted half squares of all terms, [B]."""
        found = [
            jnp.square(self.residuals(model, place, rows)).sum(-1)
            for place, rows in enumerate(batch["rows"])
        ]
        return (batch["weights"] * jnp.stack(found, axis=1)).sum(1) / 2


def balanced(terms: Terms, model: Any, rows: tuple[Row, ...]) -> np.ndarray:
    """Weights of the terms by which their gradients are equally long, of mean 1.

    The length of a term's gradient is that of the mean over all rows: the inner product of the
    gradients of two halves, in which noise does not count. A term whose gradient cannot be told
    from its noise has the length of its noise. No weight is beyond 1,000 times another.

    Args:
        rows: rows of each term, two or more.

    Source: Wang, Teng and Perdikaris (2021), Understanding and mitigating gradient flow pathologies
    in physics-informed neural networks; the noise taken out is ours.
    """

    @jax.jit
    def moments(model: Any, rows: tuple[Row, ...]) -> Array:
        found = []
        for place, each in enumerate(rows):

            def half_loss(model: Any, part: Row, place: int = place) -> Array:
                return jnp.square(terms.residuals(model, place, part)).sum(-1).mean() / 2

            half = each[0].shape[0] // 2
            a, b = (
                jax.flatten_util.ravel_pytree(
                    jax.grad(half_loss)(model, tuple(part[begin : begin + half] for part in each))
                )[0]
                for begin in (0, half)
            )
            found.append(jnp.stack([a @ b, jnp.square(a - b).sum() / 4]))
        return jnp.stack(found)

    signal, noise = np.asarray(moments(model, rows), np.float64).T
    lengths = np.sqrt(np.maximum(np.maximum(signal, noise), 1e-300))
    weights = np.clip(lengths.max() / lengths, 1, MOST_RATIO)
    return weights / weights.mean()


MOST_RATIO = 1000.0  # of two terms' weights; assumed
