"""Check of a loss's gradient against differences of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope.check.precision import cast, wide
from downslope.check.problem import Problem, prepare, spread_sample
from downslope.errors import DataError, UsageError
from downslope.noise.statistics.ranges import Floats, count
from downslope.objective import Loss, Model

Verdict = Literal["right", "wrong", "kink", "unresolved"]

NUM_ROWS = 256  # of the sample
NUM_DIRECTIONS = 7  # random ones in each leaf; the median is judged, so that a few may meet kinks
MOVED = 0.1  # of every parameter, for the second point: zeros hide what lies behind them; assumed
# Median error of a right gradient, over a leaf's typical slope: above what was seen on smooth
# networks (3e-11 and 3e-5 in the median, 1.2e-10 and 1.1e-4 at most).
TOLERANCE = {"float64": 1e-8, "float32": 3e-4}
# A change of the loss, as a share of it, that the type resolves to 1 % and the next one not at all.
RESOLVED_CHANGE = {"float64": 2.0**-33, "float32": 2.0**-17}
MANY = 64  # times that change, which it is compared with
CLEARLY = 10.0  # times the differences' own error: then it is not theirs; assumed
# Halving the step halves the distance of both one-sided slopes where the loss is smooth, and
# leaves it where there is a kink at the point itself.
PERSISTS = 0.75
SHRINKS = (1.0, 0.1, 10.0, 0.01)  # factors on the step, until one resolves the gradient
ONE_FACTOR = 0.02  # of the slopes may be left over where one factor explains a leaf


@dataclass(frozen=True, kw_only=True)
class WrongLeaf:
    """A leaf of the parameters whose gradient is wrong.

    Attributes:
        path: where it is in the model: `['w']`.
        factor: the gradient given is this times the true one; None where no factor explains it.
        is_finite: whether the gradient is finite.
    """

    path: str
    factor: float | None = None
    is_finite: bool = True

    def __str__(self) -> str:
        if not self.is_finite:
            return f"{self.path} (it is not finite)"
        if self.factor is None:
            return f"{self.path} (in some of its numbers)"
        if self.factor == 0:
            return (
                f"{self.path} (it is 0 where the loss does change; is a stop_gradient or a cast "
                "in the way?)"
            )
        if abs(self.factor + 1) < ONE_FACTOR:
            return f"{self.path} (it has the wrong sign)"
        return f"{self.path} (it is {self.factor:.4g} times the true one)"


@dataclass(frozen=True, kw_only=True)
class GradientCheck:
    """Whether a gradient is right, and where not.

    Attributes:
        verdict: right; wrong; kink: right near the model, and at the model one of the slopes of a
            kink; unresolved: differences cannot tell.
        precision: float64, or float32 where the loss insists on it.
        tolerance: error up to which a gradient passes, over a leaf's typical slope.
        error: the largest error of a leaf that passed, on that scale; None where none did.
        wrong: the leaves that are wrong.
        kinks: paths of leaves at kinks.
        statement: all this in one sentence.
    """

    verdict: Verdict
    precision: str
    tolerance: float
    error: float | None
    wrong: tuple[WrongLeaf, ...] = ()
    kinks: tuple[str, ...] = ()

    @property
    def statement(self) -> str:
        if self.verdict == "wrong":
            return "the gradient is wrong in " + ", ".join(map(str, self.wrong))
        if self.verdict == "kink":
            return (
                f"the loss has a kink at the model, in {', '.join(self.kinks)}; near it the "
                "gradient is right"
            )
        if self.verdict == "unresolved":
            return f"differences cannot tell whether the gradient is right, in {self.precision}"
        return (
            f"the gradient is right: differences agree to {self.error:.1g} of a typical slope "
            f"in {self.precision}, {self.tolerance:.0e} is allowed"
        )

    def __str__(self) -> str:
        return self.statement


def gradient(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    num_rows: int = NUM_ROWS,
    seed: int = 0,
) -> GradientCheck:
    """Whether JAX's gradient of a loss is right, and in which leaf it is not.

    As `jax.test_util.check_grads`, leaf by leaf: central differences (f(x+hv) - f(x-hv)) / 2h along
    random unit vectors v inside a leaf are compared with g.v, over |g| / sqrt(dim) of the leaf;
    h = eps^(1/3) max(1, |x|). A leaf passes below 1e-8 in float64 and 3e-4 in float32, in the
    median over directions. The loss is computed in float64 for the check alone, and in float32
    where it insists. Its randomness is frozen: one key. It is checked at the model given and near
    it, since at zeros a wrong gradient may look right.

    Args:
        loss: `loss(model, batch, key)`: one loss per example, or a scalar.
        model: pytree of arrays.
        data: arrays or a source; a sample of its rows is used.
        penalty: `penalty(model)`, a scalar, or None.
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
    count("num_rows", num_rows)
    problem = prepare(loss, model, data, penalty=penalty)
    rows = spread_sample(problem.source, num_rows)
    draw = np.random.default_rng(seed)
    with wide():
        function = _traceable(problem, rows, seed)
        moved = function.start + MOVED * draw.standard_normal(function.start.size)
        points = [x for x in (function.start, moved) if np.isfinite(function.value(x))]
        if not points:
            raise DataError(
                "the loss is not finite, neither at the model nor near it",
                remedy="check the model's first values, and the data for what is not a number",
            )
        precision = _precision(function, points[-1], draw)
        here, near = (
            _judge_leaves(function, x, precision, draw) if np.isfinite(function.value(x)) else []
            for x in (function.start, moved)
        )
    return _conclude(here, near, precision)


class _Function(NamedTuple):
    """The mean loss of the sample, with penalty, of a flat vector of parameters."""

    start: Floats
    value: Callable[[Floats], float]
    gradient: Callable[[Floats], Floats]
    leaves: list[tuple[str, slice]]


def _traceable(problem: Problem, rows: Any, seed: int) -> _Function:
    """The function in float64, or in float32 where it cannot be traced otherwise."""
    for dtype in (np.float64, np.float32):
        found = _function(problem, rows, seed, dtype)
        try:
            found.gradient(found.start)
            return found
        except (TypeError, ValueError) as error:
            fault = error
    first = str(fault).splitlines()[0]
    raise UsageError(f"loss must do with 64-bit numbers of JAX; got {first}") from fault


def _function(problem: Problem, rows: Any, seed: int, dtype: Any) -> _Function:
    objective, key = problem.objective, jax.random.key(seed)
    flat, unravel = ravel_pytree(cast(jax.tree.map(np.asarray, problem.params), dtype))

    def value(x: Any, rows: Any) -> Any:
        model = objective.model(unravel(x.astype(dtype)))
        batch = cast(objective.unpack(rows), dtype)
        found = objective.loss(model, batch, key).astype(np.float64).mean()
        penalty = objective.penalty
        return found if penalty is None else found + penalty(model).astype(np.float64)

    values, gradients = jax.jit(value), jax.jit(jax.grad(value))
    leaves, place = [], 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(problem.params)[0]:
        name = jax.tree_util.keystr(path) or "the model"
        leaves.append((name, slice(place, place + np.size(leaf))))
        place += np.size(leaf)
    return _Function(
        start=np.asarray(flat, np.float64),
        value=lambda x: float(values(x, rows)),
        gradient=lambda x: np.asarray(gradients(x, rows), np.float64),
        leaves=leaves,
    )


def _precision(function: _Function, x: Floats, draw: np.random.Generator) -> str:
    """The type whose rounding the loss shows: a tiny step must change it as much as it should."""
    v = draw.standard_normal(x.size)
    value, h = function.value(x), 1e-3 * max(1.0, float(np.linalg.norm(x)))
    slope = (function.value(x + h * v) - function.value(x - h * v)) / (2 * h)
    if slope == 0:
        return "float64"
    for precision, change in RESOLVED_CHANGE.items():
        step = change * abs(value / slope)
        once, often = (function.value(x + k * step * v) - value for k in (1, MANY))
        if abs(MANY * once - often) < abs(often) / 8:
            return precision
    raise UsageError(
        "the loss is computed in less than float32, too coarse for differences; "
        "check it in float32 or float64"
    )


class _Judged(NamedTuple):
    """What was found in one leaf at one point."""

    path: str
    verdict: Verdict
    error: float = 0.0
    factor: float | None = None
    is_finite: bool = True


def _judge_leaves(
    function: _Function, x: Floats, precision: str, draw: np.random.Generator
) -> list[_Judged]:
    gradient, found = function.gradient(x), []
    for path, span in function.leaves:
        part = gradient[span]
        if not np.isfinite(part).all():
            found.append(_Judged(path, "wrong", is_finite=False))
        elif part.size:
            vectors = np.zeros((NUM_DIRECTIONS, x.size))
            inside = draw.standard_normal((NUM_DIRECTIONS, part.size))
            vectors[:, span] = inside / np.linalg.norm(inside, axis=1, keepdims=True)
            found.append(_judge(function, x, path, span, vectors, part, precision))
    return found


def _judge(
    function: _Function, x: Floats, path: str, span: slice, vectors: Floats, gradient: Floats,
    precision: str,
) -> _Judged:  # fmt: skip
    """The verdict on one leaf, with the first step that gives one."""
    epsilon, value = float(jnp.finfo(precision).eps), function.value(x)
    given, tolerance = vectors[:, span] @ gradient, TOLERANCE[precision]
    judged = _Judged(path, "unresolved")
    for shrink in SHRINKS:
        step = shrink * epsilon ** (1 / 3) * max(1.0, float(np.linalg.norm(x[span])))
        ahead, behind, ahead_half, behind_half = (
            np.array([function.value(x + t * v) for v in vectors]) - value
            for t in (step, -step, step / 2, -step / 2)
        )
        slopes, halves = (ahead - behind) / (2 * step), (ahead_half - behind_half) / step
        size = float(np.linalg.norm(gradient)) / np.sqrt(gradient.size)
        scale = max(size, float(np.sqrt(np.mean(slopes**2))))
        if scale == 0:
            return _Judged(path, "right")
        errors = np.abs(slopes - given)
        doubts = np.abs(slopes - halves) + epsilon * abs(value) / step
        error = float(np.median(errors)) / scale
        if error <= tolerance:
            return _Judged(path, "right", error)
        gap, gap_half = (ahead + behind) / step, (ahead_half + behind_half) / (step / 2)
        kinked = np.abs(gap) > CLEARLY * (tolerance * scale + doubts)
        kinked &= np.abs(gap_half) > PERSISTS * np.abs(gap)
        if kinked[errors > tolerance * scale].mean() > 0.5:
            return _Judged(path, "kink")
        if error > CLEARLY * float(np.median(doubts)) / scale:
            return _Judged(path, "wrong", factor=_factor(given, slopes))
    return judged


def _factor(given: Floats, true: Floats) -> float | None:
    """The factor c with given = c * true along all directions, or None where none explains it."""
    squares = float(true @ true)
    if squares == 0:
        return None
    factor = float(given @ true) / squares
    left = float(np.linalg.norm(given - factor * true))
    return factor if left <= ONE_FACTOR * abs(1 - factor) * np.sqrt(squares) else None


def _conclude(here: list[_Judged], near: list[_Judged], precision: str) -> GradientCheck:
    wrong = [each for each in near or here if each.verdict == "wrong"]
    wrong = wrong or [each for each in here if each.verdict == "wrong"]
    kinks = tuple(each.path for each in here if each.verdict == "kink")
    right = [each.error for each in (*here, *near) if each.verdict == "right"]
    verdict: Verdict = "kink" if kinks else "right" if right else "unresolved"
    return GradientCheck(
        verdict="wrong" if wrong else verdict, precision=precision,
        tolerance=TOLERANCE[precision], error=max(right, default=None),
        wrong=tuple(WrongLeaf(path=e.path, factor=e.factor, is_finite=e.is_finite) for e in wrong),
        kinks=kinks,
    )  # fmt: skip
