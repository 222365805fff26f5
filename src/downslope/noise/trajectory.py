"""Path of the parameters in bounded memory, and its memory, spreading, principal coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from downslope.arguments import whole
from downslope.errors import UsageError
from downslope.estimate import Estimate, not_estimable
from downslope.noise.statistics.arrays import Floats, centred
from downslope.noise.statistics.intervals import (
    jackknife_error,
    linear_interval,
    log_interval,
    measured,
)

__all__ = [
    "PrincipalPath",
    "Trajectory",
    "autocorrelation_time",
    "displacement_exponent",
    "principal_path",
]

CAPACITY = 1024  # points; even, so that thinning keeps the first
WINDOW = 5.0  # window of at least 5 autocorrelation times: Sokal 1997, section 3
MIN_POINTS = 20
MIN_TIMES = 20  # times the window sum must fit in the path; below, it is cut short. Measured here
MIN_STRIDES = 2.0  # an autocorrelation time below two strides is not resolved: sum off by 12 %
NUM_BLOCKS = 10
WALK_FLAG = "the first coordinates of a pure random walk are cosines that hold 60 %, 15 %, ..."


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


@dataclass(frozen=True, kw_only=True)
class PrincipalPath:
    """A path along its own principal directions.

    Attributes:
        steps: [m].
        coordinates: [m, k], centred.
        shares: [k], of the path's variance.
        flags: what else a reader must know.
    """

    steps: NDArray[np.int64]
    coordinates: Floats
    shares: Floats
    flags: tuple[str, ...]


def autocorrelation_time(points: Floats, steps: NDArray[np.int64], stride: int = 1) -> Estimate:
    """Integrated autocorrelation time: 1 + 2 sum of rho(t), times the spacing.

    rho(t) of the whole vector, sum of autocovariances over coordinates; the sum stops at the first
    window of 5 times its own value. Relative standard error sqrt(2(2W+1)/m)/sqrt(r), r the
    effective number of coordinates that vary.

    Args:
        points: [m, k], m >= 20.
        steps: [m].
        stride: points were thinned to every stride-th.

    Returns:
        Unit steps. Unresolved, with a lower bound, where the path is shorter than 20 such times
        (a drift counts as memory); with an upper bound where thinning hides shorter times.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(autocorrelation_time(rng.normal(size=(500, 40)), np.arange(500)))
        0.950 (0.888 to 1.011) steps

    Source: Sokal 1997, section 3; Madras and Sokal 1988, appendix C.
    """
    m = len(points)
    fields = {"unit": "steps", "num_steps": m, "method": "windowed sum of autocorrelations"}
    if m < MIN_POINTS:
        return not_estimable(f"needs at least {MIN_POINTS} points; got {m}", **fields)
    deviation = centred(points)
    if isinstance(deviation, str):
        return not_estimable("the path does not move, or is not finite", **fields)
    spacing, flags = _spacing(steps)
    deviation = deviation / np.abs(deviation).max()
    rho = _vector_autocorrelation(deviation)
    sums = 1 + 2 * np.cumsum(rho[1:])
    windows = np.arange(1, len(rho))
    inside = np.flatnonzero(windows >= WINDOW * np.maximum(sums, 1e-9))
    stop = int(inside[0]) if len(inside) else len(sums) - 1
    # centring on the path's own mean lowers every rho by about tau / m: put it back once
    window = int(windows[stop])
    tau = float(sums[stop]) * (1 + (2 * window + 1) / m)
    spread = math.sqrt(2 * (2 * window + 1) / m / _num_coordinates(deviation))
    if not len(inside) or m < MIN_TIMES * tau:
        reason = f"the path is shorter than {MIN_TIMES} autocorrelation times: still drifting?"
        if tau <= 0:
            return not_estimable(reason, **fields)
        lo = log_interval(tau * spacing, spread, math.inf)[0]
        return Estimate(value=None, lo=lo, reason=reason, flags=flags, **fields)
    if tau <= 0:
        return not_estimable("the sum of autocorrelations is not positive", **fields)
    lo, hi = linear_interval(tau * spacing, tau * spacing * spread, math.inf)
    if stride > 1 and tau < MIN_STRIDES:
        reason = f"shorter than two strides of {spacing:g} steps, to which the path was thinned"
        return Estimate(value=None, hi=max(hi, MIN_STRIDES * spacing), reason=reason, **fields)
    return measured(tau * spacing, (lo, hi), flags=flags, **fields)


def displacement_exponent(points: Floats, steps: NDArray[np.int64]) -> Estimate:
    """Local slope of log square displacement on log lag: ln(D(2 lag)/D(lag)) / ln 2.

    D is the mean of |theta_(k + lag) - theta_k|^2, the lag a twentieth of the path.
    2: ballistic (a steady drift); 1: diffusive (a random walk); near 0: bounded (stationary).

    Args:
        points: [m, k], m >= 20.
        steps: [m].

    Returns:
        Unit ""; interval by leaving out each of ten blocks of the path.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> walk, steps = rng.normal(size=(2000, 50)).cumsum(axis=0), np.arange(2000)
        >>> print(displacement_exponent(walk, steps))
        1.092 (0.999 to 1.184)
        >>> print(f"{displacement_exponent(steps[:, None] * np.ones(3), steps).value:.3f}")
        2.000
    """
    m = len(points)
    fields = {"unit": "", "num_steps": m, "method": "slope between lag and 2 lag; ten blocks"}
    if m < MIN_POINTS:
        return not_estimable(f"needs at least {MIN_POINTS} points; got {m}", **fields)
    if not np.isfinite(points).all():
        return not_estimable("a point is not finite", **fields)
    flags, gap = _spacing(steps)[1], m // (2 * NUM_BLOCKS)
    long = _squares(points, 2 * gap)
    short = _squares(points, gap)[: len(long)]  # from the same starting points: a paired ratio
    if not (short.mean() > 0 and long.mean() > 0):
        return not_estimable("the path does not move", **fields)
    value = math.log2(float(long.mean() / short.mean()))
    tops, bottoms = _without_blocks(long), _without_blocks(short)
    if not ((tops > 0).all() and (bottoms > 0).all()):
        return measured(value, flags=flags, **fields)
    error = jackknife_error(np.log2(tops / bottoms))
    return measured(value, linear_interval(value, error, NUM_BLOCKS - 1), flags=flags, **fields)


def principal_path(points: Floats, steps: NDArray[np.int64], num: int = 2) -> PrincipalPath:
    """Coordinates of a path along its principal directions, with their shares of the variance.

    Args:
        points: [m, k].
        steps: [m].
        num: coordinates wanted, 1 or more.

    Returns:
        A `PrincipalPath`, without coordinates where the path does not move.

    Raises:
        UsageError: num < 1.

    Example:
        >>> steps = np.arange(50)
        >>> line = np.outer(steps, [3.0, 4.0])
        >>> path = principal_path(line, steps, 1)
        >>> round(float(abs(path.coordinates[-1, 0] - path.coordinates[0, 0])), 6), path.shares
        (245.0, array([1.]))

    Source: flags: Antognini and Sohl-Dickstein 2018.
    """
    num = whole("num", num)
    deviation = centred(points)
    if isinstance(deviation, str):
        none = np.zeros((len(points), 0))
        return PrincipalPath(steps=steps, coordinates=none, shares=np.zeros(0), flags=(deviation,))
    left, values, _ = np.linalg.svd(deviation, full_matrices=False)
    num = min(num, len(values))
    signs = np.sign(left[-1, :num])
    signs[signs == 0] = 1.0  # the path ends on the positive side
    shares = values**2 / (values**2).sum()
    return PrincipalPath(
        steps=steps, coordinates=left[:, :num] * values[:num] * signs, shares=shares[:num],
        flags=(WALK_FLAG,),
    )  # fmt: skip


def _vector_autocorrelation(deviation: Floats) -> Floats:
    """Sum over coordinates of autocovariances, over that at lag 0, for lags up to m/2."""
    m = len(deviation)
    size = 2 ** math.ceil(math.log2(2 * m))
    power = np.zeros(size // 2 + 1)
    for column in deviation.T:  # one by one: the transform of all would need as much again
        power += np.abs(np.fft.rfft(column, size)) ** 2
    lags = np.fft.irfft(power, size)[: m // 2]
    # m - t products at lag t: their mean, not their sum over m, or long lags are damped
    return lags / lags[0] * (m / (m - np.arange(m // 2)))


def _num_coordinates(deviation: Floats) -> float:
    """Effective number of independent coordinates, (sum of variances)^2 / sum of squares."""
    m, k = deviation.shape
    square = deviation @ deviation.T if m < k else deviation.T @ deviation
    r = float(np.trace(square)) ** 2 / float((square**2).sum())
    # of m points at most m directions are seen; what the sample adds is taken off
    return max(1.0, 1 / max(1 / r - 1 / m, 1e-9)) if r < m else 1.0


def _squares(points: Floats, gap: int) -> Floats:
    move = points[gap:] - points[:-gap]
    return np.einsum("ij,ij->i", move, move)


def _without_blocks(values: Floats) -> Floats:
    """Means with each of ten consecutive blocks left out."""
    blocks = np.array_split(values, NUM_BLOCKS)
    total, n = float(values.sum()), len(values)
    return np.array([(total - float(b.sum())) / (n - len(b)) for b in blocks])


def _spacing(steps: NDArray[np.int64]) -> tuple[float, tuple[str, ...]]:
    gaps = np.diff(steps)
    if len(gaps) and (gaps <= 0).any():
        raise UsageError("steps must rise; got one that does not")
    middle = float(np.median(gaps)) if len(gaps) else 1.0
    if len(gaps) and gaps.min() != gaps.max():
        return middle, (f"steps are not evenly spaced: {middle:g} is taken, their median",)
    return middle, ()
