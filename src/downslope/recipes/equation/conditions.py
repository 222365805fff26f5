"""Conditions on the boundary and at the start of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from downslope import UsageError

Where = Literal["boundary", "initial"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Condition on the boundary, or at the start of time.

    Attributes:
        residual: `residual(u, x, normal)`, 0 where the condition holds; a number or [k]. `u` is a
            function of one point, `normal` points outward (0 at the start of time).
        at: "boundary" or "initial".
        where: of boundary points [n, d] those that it is for, bool [n]; None for all.
        name: in reports.
    """

    residual: Callable[[Any, Any, Any], Any]
    at: Where = "boundary"
    where: Callable[[Any], Any] | None = None
    name: str = ""

    def __post_init__(self):
        if self.at not in ("boundary", "initial"):
            raise UsageError(f"at must be boundary or initial; got {self.at!r}")
        if self.at == "initial" and self.where is not None:
            raise UsageError("where is for boundary points; a condition at the start has none")


def dirichlet(value: Any = 0.0, *, where: Callable[[Any], Any] | None = None) -> Condition:
    """Value of the solution on the boundary: a number, or a function of the point."""

    def residual(u: Any, x: Any, normal: Any) -> Any:
        return u(x) - _at(value, x)

    return Condition(residual=residual, where=where, name="value on the boundary")


def neumann(value: Any = 0.0, *, where: Callable[[Any], Any] | None = None) -> Condition:
    """Value of the derivative along the outward normal on the boundary."""

    def residual(u: Any, x: Any, normal: Any) -> Any:
        return jax.jvp(u, (x,), (normal,))[1] - _at(value, x)

    return Condition(residual=residual, where=where, name="slope on the boundary")


def periodic(axis: int, low: float, high: float) -> Condition:
    """Equality of the solution, and of its derivative along an axis, at both ends of it."""

    def residual(u: Any, x: Any, normal: Any) -> Any:
        unit = jnp.zeros_like(x).at[axis].set(1)
        ends = [jax.jvp(u, (x.at[axis].set(end),), (unit,)) for end in (low, high)]
        return jnp.concatenate([jnp.atleast_1d(a - b) for a, b in zip(*ends, strict=True)])

    return Condition(
        residual=residual,
        where=lambda points: points[:, axis] <= low,
        name=f"period of axis {axis}",
    )


def initial(value: Any, *, order: int = 0) -> Condition:
    """Value of the solution, or of its derivative of an order in time, at the start."""

    def residual(u: Any, x: Any, normal: Any) -> Any:
        for _ in range(order):
            u = _in_time(u)
        return u(x) - _at(value, x)

    return Condition(residual=residual, at="initial", name=f"start{', slope' * (order > 0)}")


def _in_time(u: Any) -> Any:
    return lambda x: jax.jvp(u, (x,), (jnp.zeros_like(x).at[-1].set(1),))[1]


def _at(value: Any, x: Any) -> Any:
    return value(x) if callable(value) else value
