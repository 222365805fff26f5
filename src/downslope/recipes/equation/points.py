"""Points at which the terms of an equation are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from downslope import UsageError
from downslope.recipes.equation.geometry import Floats, Geometry

Sampling = Literal["uniform", "latin_hypercube", "sobol"]
SAMPLINGS = ("uniform", "latin_hypercube", "sobol")
CANDIDATES = 4  # for each adaptive point; assumed
MAX_TRIES = 200  # draws of boundary points, of which a condition may take a small part


def unit_points(sampling: Sampling, count: int, dim: int, seed: int) -> Floats:
    """Points of the unit cube, [count, dim].

    Args:
        sampling: "uniform" (independent), "latin_hypercube", or "sobol" (scrambled).

    Source: Owen (1998), Scrambling Sobol' and Niederreiter-Xing points.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    if sampling == "uniform":
        return rng.random((count, dim))
    from scipy.stats import qmc  # takes a second to import

    if sampling == "latin_hypercube":
        return qmc.LatinHypercube(dim, rng=rng).random(count)
    power = max(0, (count - 1).bit_length())  # balanced at powers of two
    return qmc.Sobol(dim, rng=rng).random_base2(power)[:count]


def boundary_points(
    geometry: Geometry,
    sampling: Sampling,
    count: int,
    seed: int,
    counts_in: Callable[[Floats], np.ndarray] | None = None,
) -> tuple[Floats, Floats]:
    """Points on the boundary and outward normals, [count, d] each.

    Args:
        counts_in: of points [n, d] those that count, bool [n]; None for all.

    Raises:
        UsageError: it takes none of many points.
    """
    points, normals, number = [], [], 0
    for attempt in range(MAX_TRIES):
        drawn = np.random.SeedSequence(seed, spawn_key=(attempt,)).generate_state(1)[0]
        unit = unit_points(sampling, count, geometry.dim, int(drawn))
        at, outward = geometry.boundary(unit)
        if counts_in is None:
            return at, outward
        taken = np.asarray(counts_in(at), bool)
        points.append(at[taken])
        normals.append(outward[taken])
        number += int(taken.sum())
        if number >= count:
            return np.concatenate(points)[:count], np.concatenate(normals)[:count]
    raise UsageError(
        f"where must take some boundary points; it took {number} of {MAX_TRIES * count:,}"
    )


def adaptive_points(
    candidates: Floats, residuals: Floats, count: int, seed: int
) -> tuple[Floats, Floats]:
    """Points drawn where residuals are large, and weights that keep means unbiased.

    A candidate is drawn with probability proportional to |r| / mean |r| + 1; its weight is the
    inverse of that, relative to even draws.

    Args:
        candidates: evenly spread points [m, d].
        residuals: their size [m], 0 or more.
        count: points to draw.

    Returns:
        Points [count, d] and weights [count], of mean 1 in expectation.

    Example:
        >>> x = np.linspace(0, 1, 1000)[:, None]
        >>> points, weights = adaptive_points(x, x[:, 0] ** 8, 20_000, 0)
        >>> bool(points.mean() > 0.6), round(float((weights * points[:, 0]).mean()), 2)
        (True, 0.5)

    Source: Wu, Zhu, Tan, Kartha and Lu (2023), RAD with k = c = 1; the weights are importance
    sampling's.
    """
    size = np.abs(residuals)
    mean = size.mean()
    density = size / mean + 1 if mean > 0 and np.isfinite(mean) else np.ones(len(size))
    share = density / density.sum()
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = rng.choice(len(candidates), count, p=share)
    return candidates[drawn], 1 / (len(candidates) * share[drawn])


def resolved_frequency(geometry: Geometry, count: int) -> float:
    """Highest frequency that evenly spread points resolve: half of one over their spacing.

    In cycles over the geometry, each side of whose bounds is scaled to 1.

    Source: Nyquist (1928); Shannon (1949).
    """
    low, high = geometry.bounds
    filled = geometry.measure / float(np.prod(high - low))
    return 0.5 * (count / max(filled, 1e-12)) ** (1 / geometry.dim)
