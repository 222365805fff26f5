"""The path of the parameters as a stochastic process, kept in bounded memory.

Each point is projected to a few hundred numbers that keep inner products, so distances between
points, autocorrelation and principal coordinates can be had without storing the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.errors import UsageError
from downslope.estimate import Estimate
from downslope.noise.statistics.ranges import Floats, count
from downslope.noise.trajectory.statistics import (
    PrincipalPath,
    autocorrelation_time,
    displacement_exponent,
    principal_path,
    square_displacement,
)

BLOCK = 2**16  # entries hashed at once: temporary arrays fit the second-level cache
VERSION = 1


class Trajectory:
    """A random projection of the path theta_k: at most `capacity` points of `size` numbers.

    Every entry of a vector goes to one of `size` buckets with a random sign (drawn again from
    `seed` and the block's number at each call, so nothing of length d is kept). For projected a, b:
    E[a.b] = x.y, with variance at most (|x|^2 |y|^2 + (x.y)^2) / size: squared lengths are right
    within sqrt(2/size) (one standard deviation), 9 % at 256. When the store is full every second
    point is dropped and from then on only every second one kept, and so on.

    Vectors that are not finite are counted and left out.

    Args:
        dim: length d of the vectors, 1 or more.
        size: numbers kept for each point, 1 or more.
        capacity: points kept at most, an even number from 4 on.
        seed: of the projection, 0 or more.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> rng, path, theta = np.random.default_rng(0), Trajectory(1000), np.zeros(1000)
        >>> for step in range(2000):  # a walk in a bowl: theta forgets 5 % a step
        ...     theta = 0.95 * theta + rng.normal(size=1000)
        ...     path.add(theta, step)
        >>> print(path.autocorrelation_time())  # truth: 1.95 / 0.05 = 39 steps
        37.4 (32.5 to 42.2) steps
        >>> len(path.points), path.stride
        (1000, 2)

    Source: Charikar, Chen and Farach-Colton 2002 (sign hash); Weinberger et al. 2009, lemma 2.
    """

    def __init__(self, dim: int, size: int = 256, *, capacity: int = 1024, seed: int = 0):
        self.dim, self.size = count("dim", dim), count("size", size)
        self.capacity = count("capacity", capacity, 4)
        if self.capacity % 2:
            raise UsageError(f"capacity must be even; got {capacity}")
        self.seed = count("seed", seed, 0)
        self.stride, self.count, self.num_bad = 1, 0, 0
        self._points = np.zeros((self.capacity, self.size))
        self._steps = np.zeros(self.capacity, dtype=np.int64)
        self._num = 0
        self._last_step: int | None = None
        self._mean, self._scatter = np.zeros(self.size), np.zeros(self.size)

    def add(self, vector: ArrayLike, step: int) -> None:
        """Takes in the parameters, flattened to [d], after step number `step`.

        Raises:
            UsageError: the vector is not [d], or the step does not come after the last one.
        """
        flat = np.asarray(vector)
        if flat.shape != (self.dim,):
            raise UsageError(f"vector must have shape [{self.dim}]; got {list(flat.shape)}")
        self._check_step(step)
        self.add_projected(self.project(flat), step)

    def add_projected(self, point: ArrayLike, step: int) -> None:
        """Takes in a point [size] that was projected elsewhere, always in the same way.

        Raises:
            UsageError: the point is not [size], or the step does not come after the last one.
        """
        point = np.asarray(point, np.float64)
        if point.shape != (self.size,):
            raise UsageError(f"point must have shape [{self.size}]; got {list(point.shape)}")
        self._check_step(step)
        self._last_step = int(step)
        if not np.isfinite(point).all():
            self.num_bad += 1
            return
        number = self.count
        self.count += 1
        gap = point - self._mean
        self._mean += gap / self.count
        self._scatter += gap * (point - self._mean)
        if number % self.stride:
            return
        if self._num == self.capacity:
            self._thin()  # capacity is even, so this point still falls on the new stride
        self._points[self._num], self._steps[self._num] = point, step
        self._num += 1

    def _check_step(self, step: int) -> None:
        if self._last_step is not None and step <= self._last_step:
            raise UsageError(f"step must come after step {self._last_step}; got {step}")

    def project(self, vector: ArrayLike) -> Floats:
        """The `size` numbers that stand for a vector [d]; linear in it."""
        flat = np.asarray(vector)
        total = np.zeros(self.size)
        with np.errstate(over="ignore", invalid="ignore"):
            for number, start in enumerate(range(0, self.dim, BLOCK)):
                part = flat[start : start + BLOCK].astype(np.float64)
                # raw bits, unlike drawn integers, are the same in every version of NumPy
                bits = np.random.Philox(key=[self.seed, number]).random_raw(len(part))
                part *= 1.0 - 2.0 * (bits & np.uint64(1))
                bucket = ((bits >> np.uint64(32)) * np.uint64(self.size)) >> np.uint64(32)
                total += np.bincount(bucket.astype(np.int64), part, minlength=self.size)
        return total

    @property
    def points(self) -> Floats:
        """The projected points that are kept [m, size], oldest first."""
        return self._points[: self._num].copy()

    @property
    def steps(self) -> NDArray[np.int64]:
        """Their step numbers [m]."""
        return self._steps[: self._num].copy()

    @property
    def mean(self) -> Floats:
        """Mean of all points seen [size], dropped ones too."""
        return self._mean.copy()

    @property
    def variance(self) -> Floats | None:
        """Variance of each projected number over all points [size]; None before two points."""
        return self._scatter / (self.count - 1) if self.count > 1 else None

    def autocorrelation_time(self) -> Estimate:
        """Steps between independent points; see `path_statistics.autocorrelation_time`."""
        return autocorrelation_time(self._points[: self._num], self.steps, self.stride)

    def square_displacement(self, lag: int) -> Estimate:
        """Mean of |theta_{k+lag} - theta_k|^2, lag in steps; see `path_statistics`."""
        return square_displacement(self._points[: self._num], self.steps, lag)

    def displacement_exponent(self, lag: int | None = None) -> Estimate:
        """How displacement grows with lag: 1 diffusive, 2 ballistic; see `path_statistics`."""
        return displacement_exponent(self._points[: self._num], self.steps, lag)

    def principal_path(self, num: int = 2) -> PrincipalPath:
        """Coordinates along the path's own principal directions, for a plot."""
        return principal_path(self._points[: self._num], self.steps, num)

    def state(self) -> dict[str, Any]:
        """Plain numbers and arrays that `from_state` needs; arrays may come back as lists."""
        return {
            "version": VERSION, "dim": self.dim, "size": self.size, "capacity": self.capacity,
            "seed": self.seed, "stride": self.stride, "count": self.count,
            "num_bad": self.num_bad, "last_step": self._last_step, "points": self.points,
            "steps": self.steps, "mean": self._mean.copy(), "scatter": self._scatter.copy(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Trajectory:
        """The path as it was when `state` was called.

        Raises:
            UsageError: the state is of another version.
        """
        if state["version"] != VERSION:
            raise UsageError(f"state must be of version {VERSION}; got {state['version']}")
        self = cls(state["dim"], state["size"], capacity=state["capacity"], seed=state["seed"])
        self.stride, self.count = int(state["stride"]), int(state["count"])
        self.num_bad, last = int(state["num_bad"]), state["last_step"]
        self._last_step = None if last is None else int(last)
        points = np.asarray(state["points"], dtype=np.float64).reshape(-1, self.size)
        self._num = len(points)
        self._points[: self._num] = points
        self._steps[: self._num] = np.asarray(state["steps"], dtype=np.int64)
        self._mean = np.array(state["mean"], dtype=np.float64)
        self._scatter = np.array(state["scatter"], dtype=np.float64)
        return self

    def _thin(self) -> None:
        half = self.capacity // 2
        self._points[:half], self._steps[:half] = self._points[::2].copy(), self._steps[::2].copy()
        self._num, self.stride = half, 2 * self.stride
