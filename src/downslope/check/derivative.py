"""Is the gradient of a loss the gradient of that loss? Differences tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.check.asked import prepare, sample
from downslope.check.culprits import Culprit, find_culprits
from downslope.check.precision import wide
from downslope.check.slopes import Probe
from downslope.check.verdict import TOLERANCE, Judgement, Verdict, judge
from downslope.errors import DataError, UsageError
from downslope.noise.statistics.ranges import Floats
from downslope.objective import Loss, Model

NUM_ROWS = 256  # rows of the sample
MOVED = 0.1  # of every parameter, for the second point: zeros hide what lies behind them; assumed
SHRINKS = (1.0, 0.1, 10.0, 0.01)  # factors on the step, until one resolves the gradient


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was found at one point.

    Attributes:
        name: "the model as given" or "nearby".
        finding: the judgement over all parameters; None where the loss is not finite.
        culprits: what is wrong, leaf by leaf or coordinate by coordinate.
        kinks: leaves at kinks.
    """

    name: str
    finding: Judgement | None
    culprits: tuple[Culprit, ...] = ()
    kinks: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Of everything found here."""
        if self.culprits:
            return "wrong"
        return "unresolved" if self.finding is None else self.finding.verdict


@dataclass(frozen=True, kw_only=True)
class GradientCheck:
    """Whether a gradient is right, and where not.

    Attributes:
        verdict: right; wrong; kink: right but for kinks at the model itself, where a
            subgradient stands in; unresolved: differences cannot tell.
        precision: float64, or float32 where the loss insists on it.
        tolerance: error up to which a gradient passes, over |g| / sqrt(dim).
        num_directions: random directions at each point.
        num_rows: rows of the sample.
        points: what was found at the model and near it.
        culprits: what is wrong.
        statement: all this in one sentence.
    """

    verdict: Verdict
    precision: str
    tolerance: float
    num_directions: int
    num_rows: int
    points: tuple[Point, ...]
    culprits: tuple[Culprit, ...]
    statement: str

    def __str__(self) -> str:
        return self.statement


def gradient(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    num_directions: int = 30,
    num_rows: int = NUM_ROWS,
    seed: int = 0,
) -> GradientCheck:
    """Whether JAX's gradient of a loss is right, and where it is not: leaf and coordinate.

    Central differences (f(x+hv) - f(x-hv)) / 2h along random unit vectors v are compared with
    g.v, over |g| / sqrt(dim); h = eps^(1/3) max(1, |x|). It passes below 1e-8 in float64 and 3e-4
    in float32, in the median over directions. The loss is computed in float64 for the check
    alone, and in float32 where it insists. Its randomness is frozen: one key. It is checked at
    the model given and near it, since at zeros a wrong gradient may look right.

    Args:
        loss: `loss(model, batch, key)`: one loss per example, or a scalar.
        model: pytree of arrays.
        data: arrays or a source; a sample of its rows is used.
        penalty: `penalty(model)`, a scalar, or None.
        num_directions: at each point, 2 or more.
        num_rows: rows of the sample.
        seed: of directions, and of the key that the loss gets.

    Raises:
        UsageError: an argument out of range, or a loss computed in less than float32.
        DataError: the loss is not finite, neither at the model nor near it.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> @jax.custom_vjp
        ... def square(r):
        ...     return r**2 / 2
        >>> square.defvjp(lambda r: (square(r), r), lambda r, t: (-r * t,))  # a minus too many
        >>> x = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
        >>> def loss(model, batch, key):
        ...     return square(batch @ model["w"] - 1)
        >>> print(gradient(loss, {"w": np.zeros(3, "float32")}, x))
        the gradient is wrong in ['w'] (it has the wrong sign)

    Source: for the step, Nocedal and Wright, Numerical Optimization, 8.1.
    """
    if num_directions < 2:
        raise UsageError(f"num_directions must be 2 or more; got {num_directions}")
    if num_rows < 1:
        raise UsageError(f"num_rows must be 1 or more; got {num_rows}")
    asked = prepare(loss, model, data, penalty=penalty)
    rows = sample(asked.source, num_rows)
    leaves = [
        (jax.tree_util.keystr(path) or "the model", np.shape(leaf))
        for path, leaf in jax.tree_util.tree_flatten_with_path(asked.params)[0]
    ]
    with wide():
        probe = Probe(asked.objective, asked.params, rows, seed, num_directions)
        draw = np.random.default_rng(seed)
        moved = probe.start + MOVED * draw.standard_normal(probe.dim)
        points = (
            _look(probe, "the model as given", probe.start, leaves),
            _look(probe, "nearby", moved.astype(probe.dtype), leaves),
        )
    if all(point.finding is None and not point.culprits for point in points):
        raise DataError(
            "the loss is not finite, neither at the model nor near it",
            remedy="check the model's first values, and the data for what is not a number",
        )
    return _conclude(points, probe, num_directions, len(jax.tree.leaves(rows)[0]))


def _look(
    probe: Probe, name: str, x: np.ndarray, leaves: list[tuple[str, tuple[int, ...]]]
) -> Point:
    value, given = probe.at(x)
    if not np.isfinite(value):
        return Point(name=name, finding=None)
    if not np.isfinite(given).all():
        culprits, _ = find_culprits(probe, x, value, given, leaves)
        return Point(name=name, finding=None, culprits=tuple(culprits))
    finding, shrink = _resolve(probe, x, value, given)
    coarse = probe.dtype != np.float64  # one bad coordinate may drown among all others
    if finding.verdict == "right" and not coarse:
        return Point(name=name, finding=finding)
    culprits, kinks = find_culprits(probe, x, value, given, leaves, shrink=shrink)
    if finding.verdict == "wrong" and not culprits:
        culprits = [Culprit(path=path) for path, _ in leaves]
    return Point(name=name, finding=finding, culprits=tuple(culprits), kinks=tuple(kinks))


def _resolve(probe: Probe, x: np.ndarray, value: float, given: Floats) -> tuple[Judgement, float]:
    """The judgement with the first step that gives one, or else the one that came closest."""
    found = []
    for shrink in SHRINKS:
        (slopes,) = probe.slopes(x, value, given, [(0, probe.dim)], shrink=shrink)
        found.append((judge(slopes, str(probe.dtype)), shrink))
        if found[-1][0].verdict != "unresolved":
            return found[-1]
    return min(found, key=lambda each: each[0].resolution)


def _conclude(
    points: tuple[Point, ...], probe: Probe, num_directions: int, num_rows: int
) -> GradientCheck:
    here, near = points
    kinked = here.finding is not None and here.finding.verdict == "kink"
    verdicts = {point.verdict for point in points}
    culprits = near.culprits or here.culprits
    if kinked and not near.culprits and near.verdict == "right":
        # a kink's slope has no one value; what is wrong there and right nearby is the kink's
        culprits = ()
        verdict: Verdict = "kink"
    elif "wrong" in verdicts:
        verdict = "wrong"
    elif here.verdict == "unresolved" and near.verdict == "unresolved":
        verdict = "unresolved"
    else:
        verdict = "kink" if kinked else "right"
    precision = str(probe.dtype)
    tolerance = TOLERANCE[precision]
    return GradientCheck(
        verdict=verdict,
        precision=precision,
        tolerance=tolerance,
        num_directions=num_directions,
        num_rows=num_rows,
        points=points,
        culprits=culprits,
        statement=_statement(verdict, points, culprits, precision, tolerance),
    )


def _statement(
    verdict: Verdict,
    points: tuple[Point, ...],
    culprits: tuple[Culprit, ...],
    precision: str,
    tolerance: float,
) -> str:
    findings = [point.finding for point in points if point.finding is not None]
    here = points[0].finding
    if verdict == "wrong":
        return "the gradient is wrong in " + ", ".join(map(str, culprits))
    if verdict == "kink" and here is not None:
        what = "a valid subgradient" if here.is_subgradient else "one of the slopes near it"
        return (
            f"the loss has a kink at the model; the gradient given there is {what}, "
            "along which the loss need not fall; near it the gradient is right"
        )
    if verdict == "unresolved":
        best = min(finding.resolution for finding in findings)
        return (
            f"differences cannot tell: in {precision} they are off by {best:.1g} of a typical "
            f"slope, and a check needs {tolerance:.0e}"
        )
    worst = max(f.error for f in findings if f.verdict == "right")
    return (
        f"the gradient is right: differences agree to {worst:.1g} of a typical slope "
        f"in {precision}, {tolerance:.0e} is allowed"
    )
