"""Which leaf, and which of its coordinates, has the wrong gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from downslope.check.slopes import Probe, Slopes
from downslope.check.verdict import judge
from downslope.noise.statistics.ranges import Floats

MOST_COORDINATES = 5  # named; a leaf that is wrong throughout has too many
SMALL = 32  # coordinates that are tried one by one
FITS = 0.02  # of the slopes may be left over where one factor explains a leaf


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """A part of the parameters whose gradient is wrong.

    Attributes:
        path: the leaf in the model, with the coordinate where there is one: `['w'][3]`.
        given: what the gradient says there, for a coordinate; None where it is not finite.
        seen: what differences say, for a coordinate.
        factor: the given gradient is so many times the true one, for a whole leaf.
    """

    path: str
    given: float | None = None
    seen: float | None = None
    factor: float | None = None

    def __str__(self) -> str:
        if self.factor is not None:
            return f"{self.path} ({_told(self.factor)})"
        if self.seen is None:
            return f"{self.path} (it is not finite)"
        return f"{self.path} ({self.given:.6g} instead of {self.seen:.6g})"


def _told(factor: float) -> str:
    if factor == 0:
        return "it is 0 where the loss does change; is a stop_gradient or a cast in the way?"
    if abs(factor + 1) < FITS:
        return "it has the wrong sign"
    return f"it is {factor:.4g} times the true one"


def find_culprits(
    probe: Probe,
    x: np.ndarray,
    value: float,
    gradient: Floats,
    leaves: Sequence[tuple[str, tuple[int, ...]]],
    *,
    shrink: float = 1.0,
) -> tuple[list[Culprit], list[str]]:
    """The wrong leaves, as coordinates where a few are to blame, and the leaves at kinks.

    Args:
        probe: takes slopes.
        x: where, [dim].
        value, gradient: of the loss there.
        leaves: path and shape of every leaf, in the order of `x`.
        shrink: factor on the steps.
    """
    spans, place = [], 0
    for _, shape in leaves:
        spans.append((place, place + int(np.prod(shape))))
        place = spans[-1][1]
    finite = [bool(np.isfinite(gradient[a:b]).all()) for a, b in spans]
    found = [Culprit(path=p) for (p, _), good in zip(leaves, finite, strict=True) if not good]
    if found:
        return found, []
    kinks = []
    todo = [i for i, (a, b) in enumerate(spans) if b > a]
    slopes = probe.slopes(x, value, gradient, [spans[i] for i in todo], shrink=shrink)
    precision = str(probe.dtype)
    for i, part in zip(todo, slopes, strict=True):
        verdict = judge(part, precision).verdict
        path, shape = leaves[i]
        if verdict == "kink" and spans[i][1] - spans[i][0] > SMALL:
            kinks.append(path)
            continue
        if verdict not in ("wrong", "kink"):
            continue
        factor = None if verdict == "kink" else common_factor(part)
        if factor is not None and part.dim > 1:
            found.append(Culprit(path=path, factor=factor))
            continue
        bad = _coordinates(probe, x, value, gradient, spans[i], shrink)
        for number, seen in bad:
            name = path + index(number - spans[i][0], shape)
            found.append(Culprit(path=name, given=float(gradient[number]), seen=seen))
        if not bad:
            if verdict == "kink":
                kinks.append(path)
            else:
                found.append(Culprit(path=path))
    return found, kinks


def common_factor(slopes: Slopes) -> float | None:
    """The factor c with given = c * true along all directions, or None where none explains it."""
    given, true = slopes.given, slopes.central
    squares = float(true @ true)
    if squares == 0:
        return None
    factor = float(given @ true) / squares
    left = float(np.linalg.norm(given - factor * true))
    return factor if left <= FITS * abs(1 - factor) * np.sqrt(squares) else None


def _coordinates(
    probe: Probe, x: np.ndarray, value: float, gradient: Floats, span: tuple[int, int],
    shrink: float,
) -> list[tuple[int, float]]:  # fmt: skip
    """The first wrong coordinates of a range with their slopes, by halving it."""
    precision, found, open_spans = str(probe.dtype), [], [span]
    while open_spans and len(found) < MOST_COORDINATES:
        start, stop = open_spans.pop(0)
        if stop - start <= SMALL:
            ones = [(i, i + 1) for i in range(start, stop)]
            slopes = probe.slopes(x, value, gradient, ones, shrink=shrink)
            found += [
                (a, float(part.central[0]))
                for (a, _), part in zip(ones, slopes, strict=True)
                if judge(part, precision).verdict == "wrong"
            ]
            continue
        middle = (start + stop) // 2
        halves = [(start, middle), (middle, stop)]
        slopes = probe.slopes(x, value, gradient, halves, shrink=shrink)
        bad = [h for h, s in zip(halves, slopes, strict=True)
               if judge(s, precision).verdict == "wrong"]  # fmt: skip
        open_spans = bad + open_spans  # deep first: a name after few steps
    return found[:MOST_COORDINATES]


def index(number: int, shape: tuple[int, ...]) -> str:
    """Flat place as an index: `[2, 0]`; nothing for a scalar."""
    if not shape:
        return ""
    return str([int(i) for i in np.unravel_index(number, shape)])
