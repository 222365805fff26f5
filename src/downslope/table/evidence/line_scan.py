"""The loss along a line through a point: how sharp its valley is, in one direction or another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.noise.curvature import extreme_eigenvalues

POINTS = 21
LARGEST_REACH, SMALLEST_REACH = 1.0, 1e-3  # of the parameters' norm; assumed
UNKNOWN_REACH = 0.5
NEAR = 0.1  # of the reach, where the curvature is taken: the loss changes by about 1 %
STRAIGHT = "the loss is straight around the end point, and bends in no direction"

# Compiling takes longer than the few runs: 0.4 s instead of 1.0 s for a product, whose run then
# takes 18 ms instead of 10 (measured, a small network).
QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 0}

Estimate = dict[str, Any]  # value, lo, hi


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The loss along a line.

    Attributes:
        curvature: second difference of the loss per parameter squared, with its interval.
        positions: [m] from the point, in norms of the parameters (in parameters where they are 0).
        losses, lo, hi: [m] mean over the rows and the ends of its interval.
    """

    curvature: Estimate
    positions: list[float]
    losses: list[float]
    lo: list[float | None]
    hi: list[float | None]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dict(vars(self))


def compile_quickly(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """The function compiled for arguments like these, for programs that run only a few times."""
    return jax.jit(function).lower(*arguments).compile(compiler_options=QUICKLY)


def hessian_program(loss: Callable[[Any, Any], Any], point: Any, data: Any) -> Callable[[Any], Any]:
    """The product v -> H v with the Hessian of a scalar loss at a point, compiled quickly.

    Args:
        loss: `loss(point, data)`, a scalar.
        point: flat parameters [dim].
        data: any pytree of arrays.

    Example:
        >>> product = hessian_program(lambda p, x: (x * p**3).sum(), np.ones(2), np.array([1, 2.0]))
        >>> product(np.array([1.0, 1.0])).tolist()
        [6.0, 12.0]

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    point = jax.numpy.asarray(point)

    def product(point: Any, data: Any, vector: Any) -> Any:
        return jax.jvp(lambda p: jax.grad(loss)(p, data), (point,), (vector,))[1]

    program = compile_quickly(product, point, data, point)
    return lambda vector: program(point, data, np.asarray(vector, point.dtype))


def sharpest_direction(
    product: Callable[[Any], Any], dim: int, *, num_products: int, seed: int
) -> tuple[np.ndarray, float] | str:
    """The unit vector [dim] of the largest curvature and that curvature, or why there is none.

    Args:
        product: v -> H v, such as `hessian_program` makes.
        dim: number of parameters.
        num_products: products to spend, at most.
        seed: of the random start.

    Example:
        >>> direction, curvature = sharpest_direction(
        ...     lambda v: np.array([1.0, 9.0, 4.0]) * v, 3, num_products=3, seed=0)
        >>> abs(direction).round(6).tolist(), round(curvature, 6)
        ([0.0, 1.0, 0.0], 9.0)
    """
    found = extreme_eigenvalues(product, dim, num_products=min(num_products, dim), key=seed)
    if not len(found.eigenvalues):
        return found.lambda_max.reason or "its curvature cannot be told"
    curvature, low = float(found.eigenvalues[0]), found.lambda_min.value or 0.0
    if curvature <= 0 and low < 0:
        return "the loss bends down in every direction that was looked at"
    if curvature <= found.residuals[0] and abs(low) <= found.residuals[0]:
        return STRAIGHT
    direction = found.eigenvectors[0]
    return direction / np.linalg.norm(direction), curvature


def random_direction(dim: int, *, seed: int) -> np.ndarray:
    """A unit vector [dim], uniform over all directions."""
    direction = np.random.default_rng(seed).normal(size=dim)
    return direction / np.linalg.norm(direction)


def cut(
    losses: Callable[[np.ndarray], np.ndarray],
    point: np.ndarray,
    direction: np.ndarray,
    *,
    estimate: Callable[[np.ndarray], Estimate],
    curvature: float | None = None,
    num_points: int = POINTS,
) -> Slice:
    """The loss along a direction through a point, on both sides.

    The reach is where a parabola of that curvature has risen by the loss at the point, so that
    several directions can be compared; at most the parameters' norm.

    Args:
        losses: flat parameters [dim] -> loss of each row [n].
        point: flat parameters [dim].
        direction: unit vector [dim].
        estimate: values of rows [n] -> mean with its interval, as `value`, `lo`, `hi`.
        curvature: along the sharpest direction, or None where it is not known.
        num_points: positions, an odd number.

    Example:
        >>> x = np.array([1.0, 3.0])  # losses of two rows, x^2/2 + (theta_0 - x)^2
        >>> found = cut(lambda p: x**2 / 2 + (p[0] - x) ** 2, np.array([2.0, 0.0]),
        ...             np.array([1.0, 0.0]), estimate=lambda v: {"value": v.mean(), "lo": None,
        ...             "hi": None}, curvature=2.0, num_points=3)
        >>> [round(float(loss), 6) for loss in found.losses], found.positions
        ([7.0, 3.5, 7.0], [-0.935..., 0.0, 0.935...])
    """
    here = losses(point)
    loss = float(estimate(here)["value"])
    norm = float(np.linalg.norm(point)) or 1.0
    reach = UNKNOWN_REACH * norm
    if curvature is not None and curvature > 0:
        reach = math.sqrt(2 * abs(loss) / curvature)
    reach = float(np.clip(reach, SMALLEST_REACH * norm, LARGEST_REACH * norm))
    positions = np.linspace(-1, 1, num_points) * reach
    found = [estimate(losses(point + t * direction)) for t in positions]
    near = NEAR * reach
    bend = losses(point + near * direction) - 2 * here + losses(point - near * direction)
    return Slice(
        curvature=estimate(bend / near**2),
        positions=(positions / norm).tolist(),
        losses=[each["value"] for each in found],
        lo=[each["lo"] for each in found],
        hi=[each["hi"] for each in found],
    )
