"""Scan of the loss along a line through a point, and the directions worth scanning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from downslope.estimate import Estimate
from downslope.noise.curvature import extreme_eigenvalues
from downslope.report.journal import Record
from downslope.table.evidence.intervals import ends

MAX_REACH, MIN_REACH = 1.0, 1e-3  # of the parameters' norm; assumed
UNKNOWN_REACH = 0.5
NEAR = 0.1  # of the reach, where the curvature is taken: the loss changes by about 1 %
STRAIGHT = "the loss is straight around the end point, without curvature in any direction"

# Compiling takes longer than the few runs: 0.4 s instead of 1.0 s for a product, whose run then
# takes 18 ms instead of 10 (measured, a small network).
QUICK_COMPILATION: dict[str, Any] = {"xla_backend_optimization_level": 0}


def compile_quickly(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Compile a program that runs only a few times, for arguments like these."""
    return jax.jit(function).lower(*arguments).compile(compiler_options=QUICK_COMPILATION)


def hessian_program(loss: Callable[[Any, Any], Any], point: Any, data: Any) -> Callable[[Any], Any]:
    """The product v -> H v with the Hessian of `loss(point, data)` at flat parameters [dim].

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    point = jax.numpy.asarray(point)

    def product(point: Any, data: Any, vector: Any) -> Any:
        return jax.jvp(lambda p: jax.grad(loss)(p, data), (point,), (vector,))[1]

    program = compile_quickly(product, point, data, point)
    return lambda vector: program(point, data, np.asarray(vector, point.dtype))


def sharpest_direction(
    product: Callable[[Any], Any], dim: int, *, num_products: int
) -> tuple[np.ndarray, float] | str:
    """The unit vector [dim] of the largest curvature and that curvature, or the reason for none.

    At most `num_products` products v -> H v are made.
    """
    found = extreme_eigenvalues(product, dim, num_products=min(num_products, dim), key=0)
    if not len(found.eigenvalues):
        return found.lambda_max.reason or "its curvature could not be determined"
    curvature, low = float(found.eigenvalues[0]), found.lambda_min.value or 0.0
    if curvature <= 0 and low < 0:
        return "the loss bends down in every direction that was tried"
    if curvature <= found.residuals[0] and abs(low) <= found.residuals[0]:
        return STRAIGHT
    direction = found.eigenvectors[0]
    return direction / np.linalg.norm(direction), curvature


def random_direction(dim: int, *, seed: int = 0) -> np.ndarray:
    """A unit vector [dim], uniform over all directions."""
    direction = np.random.default_rng(seed).normal(size=dim)
    return direction / np.linalg.norm(direction)


def scan_line(
    losses: Callable[[np.ndarray], np.ndarray],
    point: np.ndarray,
    direction: np.ndarray,
    *,
    estimate: Callable[[np.ndarray], Estimate],
    curvature: float | None = None,
    num_points: int = 21,
) -> Record:
    """The loss along a direction through a point, on both sides.

    The reach is where a parabola of that curvature has risen by the loss at the point, so that
    several directions can be compared; at most the parameters' norm.

    Args:
        losses: flat parameters [dim] -> loss of each row [n].
        point: flat parameters [dim].
        direction: unit vector [dim].
        estimate: values of rows [n] -> their mean with its interval.
        curvature: along the sharpest direction, or None where it is not known.
        num_points: positions, an odd number.

    Returns:
        `curvature`, the second difference of the loss per parameter squared; `positions` [m] from
        the point in norms of the parameters (in parameters where they are 0); the mean `losses`
        [m] there with the ends `lo` and `hi` of their intervals.
    """
    here = losses(point)
    norm = float(np.linalg.norm(point)) or 1.0
    reach = UNKNOWN_REACH * norm
    if curvature is not None and curvature > 0:
        reach = math.sqrt(2 * abs(float(estimate(here))) / curvature)
    reach = float(np.clip(reach, MIN_REACH * norm, MAX_REACH * norm))
    positions = np.linspace(-1, 1, num_points) * reach
    found = [estimate(losses(point + t * direction)) for t in positions]
    near = NEAR * reach
    bend = losses(point + near * direction) - 2 * here + losses(point - near * direction)
    return {
        "curvature": ends(estimate(bend / near**2)),
        "positions": (positions / norm).tolist(),
        "losses": [float(each) for each in found],
        "lo": [each.lo for each in found],
        "hi": [each.hi for each in found],
    }
