"""A differential equation, solved by a net on points drawn anew for every batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import downslope
from benchmarks.models import mlp_model
from benchmarks.selftuning.workloads.workload import Workload

SIZES = (2, 64, 64, 64, 1)
HELD_OUT = 2000
BUMPS = ((0.3, 0.35, 60.0, 0.12), (0.7, 0.6, -90.0, 0.09), (0.45, 0.8, 40.0, 0.15))


def poisson() -> Workload:
    """Poisson's equation on the unit square, zero at its edge: -(u_xx + u_yy) = f."""
    return Workload(
        name="poisson",
        kind="equation",
        loss=residual,
        model=lambda seed: mlp_model(SIZES, seed=seed),
        train=downslope.Generator(points),
        validation=points(np.random.default_rng(1), HELD_OUT),
        test=points(np.random.default_rng(2), HELD_OUT),
        horizon_seconds=20,
    )


def points(rng: np.random.Generator, num_rows: int) -> np.ndarray:
    """Points of the unit square: [n, 2]."""
    return rng.random((num_rows, 2), np.float32)


def source(point: Any) -> Any:
    """Right-hand side: bumps of several widths and signs."""
    return sum(
        height * jnp.exp(-((point[0] - x) ** 2 + (point[1] - y) ** 2) / (2 * width**2))
        for x, y, height, width in BUMPS
    )


def solution(model: Any, point: Any) -> Any:
    """Net times a factor that is zero at the edge."""
    h = 2 * point - 1
    for weight, bias in model[:-1]:
        h = jnp.tanh(h @ weight + bias)
    weight, bias = model[-1]
    x, y = point
    return (h @ weight + bias)[0] * 16 * x * (1 - x) * y * (1 - y)


def residual(model: Any, batch: Any, key: Any) -> Any:
    """Half the squared residual at each point."""

    def at(point: Any) -> Any:
        gradient = jax.grad(lambda p: solution(model, p))
        laplacian = sum(
            jax.jvp(gradient, (point,), (direction,))[1] @ direction for direction in jnp.eye(2)
        )
        return 0.5 * (laplacian + source(point)) ** 2

    return jax.vmap(at)(batch)
