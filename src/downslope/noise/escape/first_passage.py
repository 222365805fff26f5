"""Mean first-passage times in one dimension, by the double integral in log space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from downslope.errors import UsageError
from downslope.noise.statistics.ranges import Floats, array, positive

FEWEST_CELLS, MOST_CELLS = 2000, 128_000
MOST_CHANGE = 0.05  # of the exponent within a cell; assumed: tests see errors below 1e-6 or 1e-4
GAUSS = 0.5 / math.sqrt(3)


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """Loss and diffusion along a line, interpolated.

    The loss by a cubic spline, the diffusion by a monotone one of its logarithm, so that it
    cannot become negative.

    Attributes:
        positions: [n], increasing, n >= 2.
        losses: [n].
        log_diffusion: [n].
    """

    positions: Floats
    losses: Floats
    log_diffusion: Floats

    def loss(self, x: Floats, derivative: int = 0) -> Floats:
        """The loss, or its derivative, at any positions."""
        if len(self.positions) == 2:
            slope = np.diff(self.losses) / np.diff(self.positions)
            line = self.losses[0] + slope * (x - self.positions[0])
            return line if derivative == 0 else slope + 0 * x if derivative == 1 else 0 * x
        from scipy import interpolate  # slow to import, rarely needed

        return interpolate.CubicSpline(self.positions, self.losses)(x, derivative)

    def diffusion(self, x: Floats) -> Floats:
        """The diffusion at any positions."""
        from scipy import interpolate  # slow to import, rarely needed

        return np.exp(interpolate.PchipInterpolator(self.positions, self.log_diffusion)(x))


def landscape(positions: ArrayLike, losses: ArrayLike, diffusion: ArrayLike) -> Landscape:
    """The landscape of a path, checked.

    Args:
        positions: distance along the path, [n >= 2], increasing.
        losses: [n].
        diffusion: D > 0, one number or [n], in parameter^2 / time.

    Raises:
        UsageError: shapes that differ, positions that do not increase, or values not finite.
    """
    x, v = array("positions", positions, 1), array("losses", losses, 1)
    d = np.asarray(diffusion, np.float64)
    d = np.full(x.shape, float(d)) if d.ndim == 0 else d
    if x.shape != v.shape or x.shape != d.shape:
        raise UsageError(
            f"positions, losses and diffusion must have one shape; got {x.shape}, {v.shape} and "
            f"{d.shape}"
        )
    if len(x) < 2 or not np.isfinite(x).all() or not (np.diff(x) > 0).all():
        raise UsageError("positions must be at least 2, finite and increasing; got others")
    if not np.isfinite(v).all():
        raise UsageError("losses must be finite; got one that is not")
    if not (np.isfinite(d).all() and (d > 0).all()):
        raise UsageError(
            "diffusion must be finite and above 0 on the path; got a value that is not"
        )
    return Landscape(positions=x, losses=v, log_diffusion=np.log(d))


def mean_first_passage(
    positions: ArrayLike,
    losses: ArrayLike,
    diffusion: ArrayLike,
    *,
    start: float | None = None,
    target: float | None = None,
) -> float:
    """Mean time until a walker that starts at `start` first reaches `target`.

    int_start^target exp(psi(y)) int_wall^y exp(-psi(z)) / D(z) dz dy with psi' = V'/D, for
    dx = -V' dt + sqrt(2 D(x)) dW in the sense of Ito, as the small-step limit of SGD is. The end of
    the path behind the start is a wall that reflects.

    Args:
        positions: distance along the path, [n >= 2], increasing.
        losses: V, [n].
        diffusion: D, one number or [n], in parameter^2 / time (eta c / 2 for SGD).
        start, target: positions on the path; by default its two ends. The target may lie on
            either side.

    Returns:
        The time; steps are time / learning_rate. Infinite beyond the range of doubles.

    Raises:
        UsageError: shapes or values that do not fit.

    Example:
        >>> x = np.linspace(-3, 3, 601)
        >>> time = mean_first_passage(x, x**4 / 4 - x**2 / 2, 0.07, start=-1, target=1)
        >>> round(time, 3)
        183.68

    Source: Gardiner, Handbook of Stochastic Methods.
    """
    path = landscape(positions, losses, diffusion)
    log_time = log_passage_time(path, *checked_ends(path, start, target))
    return math.exp(log_time) if log_time < 709 else math.inf


def checked_ends(path: Landscape, start: float | None, target: float | None) -> tuple[float, float]:
    """Start and target, by default the ends of the path."""
    first, last = float(path.positions[0]), float(path.positions[-1])
    ends = (first if start is None else float(start), last if target is None else float(target))
    for name, value in zip(("start", "target"), ends, strict=True):
        if not first <= value <= last:
            raise UsageError(f"{name} must lie on the path, {first:g} to {last:g}; got {value}")
    if ends[0] == ends[1]:
        raise UsageError(f"start and target must differ; got {ends[0]} twice")
    return ends


def log_passage_time(path: Landscape, start: float, target: float) -> float:
    """Logarithm of the mean first-passage time; it may exceed what a double's exponent holds."""
    if target < start:  # seen in a mirror
        path = Landscape(
            positions=-path.positions[::-1], losses=path.losses[::-1],
            log_diffusion=path.log_diffusion[::-1],
        )  # fmt: skip
        start, target = -start, -target
    wall, cells = float(path.positions[0]), FEWEST_CELLS
    while True:
        x = np.unique(np.concatenate([
            np.linspace(wall, start, cells // 2 + 1) if start > wall else [wall],
            np.linspace(start, target, cells // 2 + 1),
            path.positions[path.positions < target],
        ]))  # fmt: skip
        psi = _exponents(path, x)
        if np.abs(np.diff(psi)).max() <= MOST_CHANGE or cells >= MOST_CELLS:
            return _log_double_integral(path, x, psi, int(np.searchsorted(x, start)))
        cells *= 2


def _exponents(path: Landscape, x: Floats) -> Floats:
    """Integral of V'/D up to every node, by two-point Gauss in each cell."""
    width, centre = np.diff(x), (x[:-1] + x[1:]) / 2
    pair = [centre + sign * GAUSS * width for sign in (-1, 1)]
    force = sum(path.loss(p, 1) / path.diffusion(p) for p in pair)
    return np.concatenate([[0.0], np.cumsum(width / 2 * force)])


def _log_double_integral(path: Landscape, x: Floats, psi: Floats, start: int) -> float:
    """Exact integrals of a piecewise linear psi: right for cells of any steepness."""
    h, change = np.diff(x), np.diff(psi)
    spread = np.log(path.diffusion((x[:-1] + x[1:]) / 2))
    once = np.log(h) - spread - psi[:-1] + _log_mean_exp(-change)
    inner = np.concatenate([[-np.inf], np.logaddexp.accumulate(once)])[:-1]
    carried = np.log(h) + psi[:-1] + inner + _log_mean_exp(change)
    own = 2 * np.log(h) - spread + _log_second(change)
    return float(np.asarray(special.logsumexp(np.logaddexp(carried, own)[start:])))


def _log_mean_exp(t: Floats) -> Floats:
    """log of (e^t - 1)/t, for t of any size."""
    size = np.maximum(np.abs(t), 1e-300)
    large = np.log(-np.expm1(-size)) - np.log(size) + np.maximum(t, 0)
    return np.where(size < 1e-9, t / 2, large)


def _log_second(t: Floats) -> Floats:
    """log of ((e^t - 1)/t - 1)/t, for t of any size."""
    near = np.clip(t, -0.01, 0.01)
    series = np.log(0.5 + near / 6 + near**2 / 24 + near**3 / 120 + near**4 / 720)
    far = np.where(np.abs(t) < 0.01, 1.0, t)
    mean = _log_mean_exp(far)
    large = np.where(
        far > 0,
        mean + np.log(np.abs(-np.expm1(-np.maximum(mean, 1e-300)))),
        np.log(np.abs(np.expm1(np.minimum(mean, -1e-300)))),
    ) - np.log(np.abs(far))
    return np.where(np.abs(t) < 0.01, series, large)


def kramers_time(
    barrier: float, curvature_min: float, curvature_top: float, temperature: float
) -> float:
    """Mean time over a high barrier to the other well: 2 pi / sqrt(V''_min |V''_top|) exp(dV/T).

    For constant isotropic noise and barrier / temperature of at least 4; below, it is too short
    and `mean_first_passage` holds.

    Args:
        barrier: dV >= 0, in loss units.
        curvature_min, curvature_top: sizes of V'' at the minimum and at the top, above 0.
        temperature: T > 0, in loss units.

    Returns:
        The time; steps are time / learning_rate. Infinite beyond the range of doubles.

    Example:
        >>> round(kramers_time(0.25, 2.0, 1.0, 0.04))
        2301

    Source: Kramers 1940.
    """
    if not (math.isfinite(barrier) and barrier >= 0):
        raise UsageError(f"barrier must be finite and 0 or more; got {barrier}")
    product = positive("curvature_min", curvature_min) * positive("curvature_top", curvature_top)
    exponent = barrier / positive("temperature", temperature)
    scale = 2 * math.pi / math.sqrt(product)
    return scale * math.exp(exponent) if exponent < 700 else math.inf
