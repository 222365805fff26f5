"""Check of a loss's gradient against differences of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope.arguments import whole
from downslope.check.precision import cast, wide
from downslope.check.problem import Problem, prepare, spread_sample
from downslope.errors import DataError, UsageError
from downslope.noise.statistics.arrays import Floats
from downslope.objective import Loss, Model

Verdict = Literal["right", "wrong", "kink", "unresolved"]

NUM_ROWS = 256  # of the sample
NUM_DIRECTIONS = 7  # random ones in each leaf; the median is judged, so that a few may meet kinks
MOVED = 0.1  # of every parameter, for the second point: zeros hide what lies behind them; assumed
# Median error of a right gradient, over a leaf's typical slope: above what was seen on smooth
# networks (3e-11 and 3e-5 in the median, 1.2e-10 and 1.1e-4 at most).
TOLERANCE = {"float64": 1e-8, "float32": 3e-4}
# A change of the loss, as a share of it, that the type resolves to 1 % and the next one not at all,
# and how many times as much it is compared with.
RESOLVED_CHANGE = {"float64": 2.0**-33, "float32": 2.0**-17}
MANY = 64
CLEARLY = 10.0  # times the differences' own error: then it is not theirs; assumed
# Halving the step halves the distance of both one-sided slopes where the loss is smooth, and
# leaves it where there is a kink at the point itself.
PERSISTS = 0.75
SHRINKS = (1.0, 0.1, 10.0, 0.01)  # factors on the step, until one resolves the gradient
ONE_FACTOR = 0.02  # of the slopes may be left over where one factor explains a leaf


@dataclass(frozen=True, kw_only=True)
class LeafGradient:
    """Verdict on the gradient of one leaf of the parameters.

    Attributes:
        path: where the leaf is in the model: `['w']`.
        verdict: right, wrong, at a kink, or unresolved.
        error: median error over the typical slope; infinite where the gradient is not finite.
        factor: of a wrong one, it is this times the true one; None where no factor explains it.
    """

    path: str
    verdict: Verdict
    error: float = 0.0
    factor: float | None = None

    def __str__(self) -> str:
        if not np.isfinite(self.error):
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
        error: the largest error of a leaf that is right; None where none is.
        leaves: those that are wrong or at a kink.
        statement: all this in one sentence.
    """

    verdict: Verdict
    precision: str
    error: float | None
    leaves: tuple[LeafGradient, ...] = ()

    @property
    def statement(self) -> str:
        if self.verdict == "wrong":
            return "the gradient is wrong in " + ", ".join(map(str, self.leaves))
        if self.verdict == "kink":
            paths = ", ".join(leaf.path for leaf in self.leaves)
            return f"the loss has a kink at the model, in {paths}; near it the gradient is right"
        if self.verdict == "unresolved":
            return f"differences cannot tell whether the gradient is right, in {self.precision}"
        return (
            f"the gradient is right: differences agree to {self.error:.1g} of a typical slope "
            f"in {self.precision}, {TOLERANCE[self.precision]:.0e} is allowed"
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
    whole("num_rows", num_rows)
    problem = prepare(loss, model, data, penalty=penalty)
    rows, draw = spread_sample(problem.source, num_rows), np.random.default_rng(seed)
    with wide():
        function = _traced(problem, rows, seed)
        moved = function.start + MOVED * draw.standard_normal(function.start.size)
        finite = [np.isfinite(function.value(x)) for x in (function.start, moved)]
        if not any(finite):
            raise DataError(
                "the loss is not finite, neither at the model nor near it",
                remedy="check the model's first values, and the data for what is not a number",
            )
        precision = _precision(function, moved if finite[1] else function.start, draw)
        here, near = (
            _judge_leaves(function, x, precision, draw) if ok else []
            for x, ok in zip((function.start, moved), finite, strict=True)
        )
    wrong = [leaf for leaf in near or here if leaf.verdict == "wrong"]
    wrong = wrong or [leaf for leaf in here if leaf.verdict == "wrong"]
    kinks = [leaf for leaf in here if leaf.verdict == "kink"]
    right = [leaf.error for leaf in (*here, *near) if leaf.verdict == "right"]
    return GradientCheck(
        verdict="wrong" if wrong else "kink" if kinks else "right" if right else "unresolved",
        precision=precision, error=max(right, default=None), leaves=tuple(wrong or kinks),
    )  # fmt: skip


class _Function(NamedTuple):
    """The mean loss of the sample, with penalty, of a flat vector of parameters."""

    start: Floats
    value: Callable[[Floats], float]
    gradient: Callable[[Floats], Floats]
    leaves: list[tuple[str, int]]  # path and size


def _traced(problem: Problem, rows: Any, seed: int) -> _Function:
    """The function in float64, or in float32 where it cannot be traced otherwise."""
    fault: Exception | None = None
    for dtype in (np.float64, np.float32):
        try:
            function = _function(problem, rows, seed, dtype)
            function.gradient(function.start)
            return function
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
    return _Function(
        start=np.asarray(flat, np.float64),
        value=lambda x: float(values(x, rows)),
        gradient=lambda x: np.asarray(gradients(x, rows), np.float64),
        leaves=[
            (jax.tree_util.keystr(path) or "the model", np.size(leaf))
            for path, leaf in jax.tree_util.tree_flatten_with_path(problem.params)[0]
        ],
    )


def _precision(function: _Function, x: Floats, draw: np.random.Generator) -> str:
    """The type whose rounding the loss shows: a tiny step must change it as much as it should."""
    v, value = draw.standard_normal(x.size), function.value(x)
    h = 1e-3 * max(1.0, float(np.linalg.norm(x)))
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


def _judge_leaves(
    function: _Function, x: Floats, precision: str, draw: np.random.Generator
) -> list[LeafGradient]:
    gradient, found, start = function.gradient(x), [], 0
    for path, size in function.leaves:
        span = slice(start, start + size)
        start += size
        if not np.isfinite(gradient[span]).all():
            found.append(LeafGradient(path=path, verdict="wrong", error=np.inf))
        elif size:
            vectors = np.zeros((NUM_DIRECTIONS, x.size))
            vectors[:, span] = draw.standard_normal((NUM_DIRECTIONS, size))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            given = vectors[:, span] @ gradient[span]
            reach = max(1.0, float(np.linalg.norm(x[span])))
            typical = float(np.linalg.norm(gradient[span])) / np.sqrt(size)
            verdict, error, factor = _judge(function, x, vectors, given, precision, reach, typical)
            leaf = LeafGradient(path=path, verdict=verdict, error=error, factor=factor)
            found.append(leaf)
    return found


def _judge(
    function: _Function, x: Floats, vectors: Floats, given: Floats, precision: str, reach: float,
    typical: float,
) -> tuple[Verdict, float, float | None]:  # fmt: skip
    """Verdict, error and factor of the slopes `given`, by the first step that gives a verdict."""
    epsilon, tolerance = float(jnp.finfo(precision).eps), TOLERANCE[precision]
    value = function.value(x)
    for shrink in SHRINKS:
        step = shrink * epsilon ** (1 / 3) * reach
        ahead, behind, ahead_half, behind_half = (
            np.array([function.value(x + t * v) for v in vectors]) - value
            for t in (step, -step, step / 2, -step / 2)
        )
        slopes, halves = (ahead - behind) / (2 * step), (ahead_half - behind_half) / step
        scale = max(typical, float(np.sqrt(np.mean(slopes**2))))
        if scale == 0:
            return "right", 0.0, None
        errors = np.abs(slopes - given)
        doubts = np.abs(slopes - halves) + epsilon * abs(value) / step
        error = float(np.median(errors)) / scale
        if error <= tolerance:
            return "right", error, None
        gap, gap_half = (ahead + behind) / step, (ahead_half + behind_half) / (step / 2)
        kinked = np.abs(gap) > CLEARLY * (tolerance * scale + doubts)
        kinked &= np.abs(gap_half) > PERSISTS * np.abs(gap)
        if kinked[errors > tolerance * scale].mean() > 0.5:
            return "kink", error, None
        if error > CLEARLY * float(np.median(doubts)) / scale:
            return "wrong", error, _factor(given, slopes)
    return "unresolved", 0.0, None


def _factor(given: Floats, true: Floats) -> float | None:
    """The factor c with given = c * true along all directions, or None where none explains it."""
    squares = float(true @ true)
    if squares == 0:
        return None
    factor = float(given @ true) / squares
    left = float(np.linalg.norm(given - factor * true))
    return factor if left <= ONE_FACTOR * abs(1 - factor) * np.sqrt(squares) else None
