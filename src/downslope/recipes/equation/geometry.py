"""Geometries: points inside and on the boundary from points of the unit cube.

Points spread evenly over the unit cube are spread evenly over the geometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downslope import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """Interval, rectangle or box with axes along the coordinates.

    Args:
        low, high: corners [d].

    Raises:
        UsageError: corners of different lengths, or a side without length.

    Example:
        >>> square = Box((0, 0), (2, 1))
        >>> square.measure, square.inside(np.array([[0.5, 0.5]])).tolist()
        (2.0, [[1.0, 0.5]])
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self):
        for name in ("low", "high"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if len(self.low) != len(self.high) or not self.low:
            raise UsageError(
                f"low and high must be corners of one box; got {self.low}, {self.high}"
            )
        if not all(
            math.isfinite(a) and a < b < math.inf for a, b in zip(self.low, self.high, strict=True)
        ):
            raise UsageError(
                f"each side of a box must have a length; got low {self.low} and high {self.high}"
            )

    @property
    def dim(self) -> int:
        """Coordinates of a point."""
        return len(self.low)

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Smallest and largest coordinates [d]."""
        return np.array(self.low, float), np.array(self.high, float)

    @property
    def _sides(self) -> Floats:
        return np.subtract(self.high, self.low)

    @property
    def measure(self) -> float:
        """Length, area or volume."""
        return float(np.prod(self._sides))

    def inside(self, unit: Floats) -> Floats:
        """Points [n, d] from points of the unit cube [n, d]."""
        return np.array(self.low) + unit * self._sides

    def boundary(self, unit: Floats) -> tuple[Floats, Floats]:
        """Points on the boundary and outward normals [n, d] from points of the unit cube [n, d]."""
        faces = np.repeat(self.measure / self._sides, 2)
        face, _ = _picked(unit[:, 0], faces)
        axis, is_high = face // 2, face % 2
        others = np.argsort(np.arange(self.dim) == axis[:, None], axis=1, kind="stable")
        cube = np.empty_like(unit)
        np.put_along_axis(cube, others[:, :-1], unit[:, 1:], axis=1)
        np.put_along_axis(cube, axis[:, None], is_high[:, None].astype(float), axis=1)
        normals = np.zeros_like(unit)
        np.put_along_axis(normals, axis[:, None], 2.0 * is_high[:, None] - 1, axis=1)
        return self.inside(cube), normals


def interval(low: float, high: float) -> Box:
    """Interval of a line."""
    return Box((low,), (high,))


@dataclass(frozen=True)
class Disk:
    """Disk in the plane.

    Args:
        center: its middle [2].
        radius: above 0.

    Raises:
        UsageError: a radius of 0 or less.
    """

    center: tuple[float, float] = (0.0, 0.0)
    radius: float = 1.0
    dim = 2

    def __post_init__(self):
        if not 0 < self.radius < math.inf:
            raise UsageError(f"radius must be above 0; got {self.radius}")

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Smallest and largest coordinates [2]."""
        middle = np.array(self.center, float)
        return middle - self.radius, middle + self.radius

    @property
    def measure(self) -> float:
        """Area."""
        return math.pi * self.radius**2

    def inside(self, unit: Floats) -> Floats:
        """Points [n, 2] from points of the unit square [n, 2]."""
        return np.array(self.center) + self.radius * np.sqrt(unit[:, :1]) * _turned(unit[:, 1])

    def boundary(self, unit: Floats) -> tuple[Floats, Floats]:
        """Points on the circle and outward normals [n, 2] from points of the unit square [n, 2]."""
        normals = _turned(unit[:, 0])
        return np.array(self.center) + self.radius * normals, normals


def _turned(unit: Floats) -> Floats:
    angle = 2 * np.pi * unit
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Polygon:
    """Polygon in the plane whose sides do not cross.

    Args:
        corners: in order, [m, 2], three or more.

    Raises:
        UsageError: fewer than three corners, or no area.

    Example:
        >>> Polygon(((0, 0), (2, 0), (0, 2))).measure
        2.0
    """

    corners: tuple[tuple[float, float], ...]
    dim = 2

    def __post_init__(self):
        low, high = self.bounds
        if (
            len(self.corners) < 3
            or self.measure < 1e-9 * float(np.prod(high - low))
            or (self.measure == 0)
        ):
            raise UsageError(f"corners must bound an area; got {self.corners}")
        areas = [abs(_turn(*triangle)) / 2 for triangle in _triangles(self._points)]
        if not math.isclose(sum(areas), self.measure, rel_tol=1e-9):
            raise UsageError("the sides of a polygon must not cross")

    @property
    def _signed_area(self) -> float:
        x, y = np.array(self.corners, float).T
        return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2

    @property
    def _points(self) -> Floats:
        """Corners against the clock."""
        points = np.array(self.corners, float)
        return points if self._signed_area > 0 else points[::-1]

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Smallest and largest coordinates [2]."""
        points = np.array(self.corners, float)
        return points.min(0), points.max(0)

    @property
    def measure(self) -> float:
        """Area."""
        return abs(self._signed_area)

    def inside(self, unit: Floats) -> Floats:
        """Points [n, 2] from points of the unit square [n, 2]."""
        triangles = np.array(_triangles(self._points))
        edges = triangles[:, 1:] - triangles[:, :1]
        areas = np.abs(np.linalg.det(edges)) / 2
        chosen, rest = _picked(unit[:, 0], areas)
        root, along = np.sqrt(rest), unit[:, 1]
        shares = np.stack([root * (1 - along), root * along], axis=1)
        return triangles[chosen, 0] + np.einsum("nk,nkd->nd", shares, edges[chosen])

    def boundary(self, unit: Floats) -> tuple[Floats, Floats]:
        """Points on the sides and outward normals [n, 2] from points of the unit square [n, 2]."""
        points = self._points
        sides = np.roll(points, -1, axis=0) - points
        lengths = np.linalg.norm(sides, axis=1)
        chosen, rest = _picked(unit[:, 0], lengths)
        outward = np.stack([sides[:, 1], -sides[:, 0]], axis=1) / lengths[:, None]
        return points[chosen] + rest[:, None] * sides[chosen], outward[chosen]


def _triangles(points: Floats) -> list[Floats]:
    """Triangles of a polygon given against the clock, by cutting off ears (Meisters 1975)."""
    left, found = [*points], []
    while len(left) > 3:
        for place in range(len(left)):
            a, b, c = left[place - 1], left[place], left[(place + 1) % len(left)]
            others = [p for p in left if not any(p is q for q in (a, b, c))]
            if _turn(a, b, c) > 0 and not any(_is_within(p, a, b, c) for p in others):
                found.append(np.array([a, b, c]))
                del left[place]
                break
        else:
            raise UsageError("the sides of a polygon must not cross")
    return [*found, np.array(left)]


def _turn(a: Floats, b: Floats, c: Floats) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _is_within(point: Floats, a: Floats, b: Floats, c: Floats) -> bool:
    return min(_turn(a, b, point), _turn(b, c, point), _turn(c, a, point)) >= 0


@dataclass(frozen=True)
class InTime:
    """A geometry over an interval of time, which is the last coordinate.

    The boundary is that of the geometry at all times; the first moment has `initial` points.

    Args:
        space: the geometry.
        start, end: of time.

    Raises:
        UsageError: an end before the start.
    """

    space: Any
    start: float
    end: float

    def __post_init__(self):
        if not -math.inf < self.start < self.end < math.inf:
            raise UsageError(f"time must end after its start; got {self.start} to {self.end}")

    @property
    def dim(self) -> int:
        """Coordinates of a point, with time."""
        return self.space.dim + 1

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Smallest and largest coordinates [d]."""
        low, high = self.space.bounds
        return np.append(low, self.start), np.append(high, self.end)

    @property
    def measure(self) -> float:
        """Measure of the space times the time."""
        return self.space.measure * (self.end - self.start)

    def inside(self, unit: Floats) -> Floats:
        """Points [n, d] from points of the unit cube [n, d]."""
        return self._at(self.space.inside(unit[:, :-1]), unit[:, -1])

    def boundary(self, unit: Floats) -> tuple[Floats, Floats]:
        """Points on the boundary of space and outward normals, whose last coordinate is 0."""
        points, normals = self.space.boundary(unit[:, :-1])
        return self._at(points, unit[:, -1]), np.append(normals, np.zeros((len(unit), 1)), axis=1)

    def initial(self, unit: Floats) -> tuple[Floats, Floats]:
        """Points at the start of time, and normals of 0."""
        points = self._at(self.space.inside(unit[:, :-1]), np.zeros(len(unit)))
        return points, np.zeros_like(points)

    def _at(self, points: Floats, unit: Floats) -> Floats:
        return np.column_stack([points, self.start + unit * (self.end - self.start)])


# Anything with their `dim`, `bounds`, `measure`, `inside` and `boundary` serves as well.
Geometry = Box | Disk | Polygon | InTime


def _picked(unit: Floats, sizes: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Parts chosen in proportion to their sizes, and what is left of the numbers, in [0, 1)."""
    ends = np.cumsum(sizes) / np.sum(sizes)
    chosen = np.minimum(np.searchsorted(ends, unit, side="right"), len(ends) - 1)
    begins = np.append(0.0, ends[:-1])
    return chosen, np.clip((unit - begins[chosen]) / (ends - begins)[chosen], 0.0, 1.0)
