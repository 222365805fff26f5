"""Path of the parameters in bounded memory, as projections of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.noise.statistics.arrays import Floats

CAPACITY = 1024  # points; even, so that thinning keeps the first


class Trajectory:
    """Projected points of the path theta_k, each with its step, at most 1,024 of them.

    The projection is made elsewhere (`downslope.noise.online.probes.project`), always in the same
    way, and keeps inner products, so that distances, autocorrelation and principal coordinates can
    be had without storing the parameters. When the store is full every second point is dropped and
    from then on only every second one kept, and so on. Points that are not finite are left out.

    Args:
        size: numbers of each point, 1 or more.

    Example:
        >>> path, rng = Trajectory(3), np.random.default_rng(0)
        >>> for step, point in enumerate(rng.normal(size=(2000, 3)).cumsum(axis=0)):
        ...     path.add(point, step)
        >>> path.points.shape, path.stride, path.steps[:3].tolist()
        ((1000, 3), 2, [0, 2, 4])
    """

    def __init__(self, size: int):
        self.size = whole("size", size)
        self.stride = 1
        self._points = np.zeros((CAPACITY, self.size))
        self._steps = np.zeros(CAPACITY, dtype=np.int64)
        self._num, self._num_seen, self._last_step = 0, 0, -1

    def add(self, point: ArrayLike, step: int) -> None:
        """Take in a projected point [size] after step number `step`.

        A step that does not come after the last one is left out: a run was taken back.

        Raises:
            UsageError: the point is not [size].
        """
        point = np.asarray(point, np.float64)
        if point.shape != (self.size,):
            raise UsageError(f"point must have shape [{self.size}]; got {list(point.shape)}")
        if step <= self._last_step:
            return
        self._last_step = int(step)
        if not np.isfinite(point).all():
            return
        number = self._num_seen
        self._num_seen += 1
        if number % self.stride:
            return
        if self._num == CAPACITY:  # it is even, so this point still falls on the new stride
            self._num, self.stride = CAPACITY // 2, 2 * self.stride
            self._points[: self._num] = self._points[::2].copy()
            self._steps[: self._num] = self._steps[::2].copy()
        self._points[self._num], self._steps[self._num] = point, step
        self._num += 1

    @property
    def points(self) -> Floats:
        """The points that are kept [m, size], oldest first."""
        return self._points[: self._num].copy()

    @property
    def steps(self) -> NDArray[np.int64]:
        """Their step numbers [m]."""
        return self._steps[: self._num].copy()

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays that `restore` needs, for a checkpoint."""
        numbers = np.array([self.stride, self._num_seen, self._last_step], np.int64)
        return {"points": self.points, "steps": self.steps, "numbers": numbers}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Return to the path as it was when `arrays` was called."""
        self.stride, self._num_seen, self._last_step = map(int, arrays["numbers"])
        self._num = len(arrays["steps"])
        self._points[: self._num], self._steps[: self._num] = arrays["points"], arrays["steps"]
