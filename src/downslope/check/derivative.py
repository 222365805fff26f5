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
from downslope.check.problem import Problem, cast, in_widest_type, prepare, spread_sample, wide
from downslope.errors import DataError, UsageError
from downslope.noise.statistics.arrays import Floats
from downslope.objective import Loss, Model

NUM_ROWS = 256  # of the sample
NUM_DIRECTIONS = 7  # random ones in each leaf; the median is judged, so that a few may meet kinks
# By how much every parameter is moved for the second point: zeros hide what lies behind them, and
# are where kinks lie. Assumed.
PERTURBATION = 0.1
# Median error of a right gradient, over a leaf's typical slope: above what was seen on smooth
# networks (3e-11 and 3e-5 in the median, 1.2e-10 and 1.1e-4 at most).
ERROR_TOLERANCE = {"float64": 1e-8, "float32": 3e-4}
# A change of the loss, as a share of it, that the type resolves to 1 % and the next one not at all,
# and how many times as much it is compared with.
RESOLVED_CHANGE = {"float64": 2.0**-33, "float32": 2.0**-17}
COMPARED_MULTIPLE = 64
CLEAR_FACTOR = 10.0  # times the differences' own error: then it is not theirs; assumed
STEP_FACTORS = (1.0, 0.1, 10.0, 0.01)  # factors on the step, until one resolves the gradient
FACTOR_TOLERANCE = 0.02  # of the slopes may be left over where one factor explains a leaf


@dataclass(frozen=True, kw_only=True)
class GradientCheck:
    """Verdict on a gradient, with the leaves where it is not right.

    Attributes:
        verdict: right; wrong; kink: right near the model, and at the model another slope than on
            both sides; unresolved: differences cannot tell.
        precision: float64, or float32 where the loss insists on it.
        error: the largest error of a leaf that is right, over its typical slope; None where none
            is.
        leaves: paths of those that are wrong or at a kink, such as `['w']`.
        statement: all this in one sentence, with what is wrong.
    """

    verdict: Literal["right", "wrong", "kink", "unresolved"]
    precision: str
    error: float | None
    leaves: tuple[str, ...]
    statement: str

    def __str__(self) -> str:
        return self.statement


class _Leaf(NamedTuple):
    """Verdict on one leaf: right, wrong or unresolved; its error, and what is wrong."""

    path: str
    verdict: str
    error: float = 0.0
    fault: str = ""


def gradient(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    num_rows: int = NUM_ROWS,
    seed: int = 0,
) -> GradientCheck:
    """Check JAX's gradient of a loss against differences of the loss, leaf by leaf.

    As in `jax.test_util.check_grads`, central differences (f(x+hv) - f(x-hv)) / 2h along
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
        function = in_widest_type(lambda dtype: _function(problem, rows, seed, dtype))
        moved = function.start + PERTURBATION * draw.standard_normal(function.start.size)
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
    return _conclude(here, near, precision)


def _conclude(here: list[_Leaf], near: list[_Leaf], precision: str) -> GradientCheck:
    right_near = {leaf.path for leaf in near if leaf.verdict == "right"}
    at_model = {leaf.path: leaf for leaf in here if leaf.verdict == "wrong"}
    wrong = {p: leaf for p, leaf in at_model.items() if p not in right_near or leaf.error == np.inf}
    wrong |= {leaf.path: leaf for leaf in near if leaf.verdict == "wrong"}
    error = max((e.error for e in (*here, *near) if e.verdict == "right"), default=None)
    if wrong:
        faults = ", ".join(f"{path} ({leaf.fault})" for path, leaf in wrong.items())
        verdict, statement = "wrong", f"the gradient is wrong in {faults}"
    elif at_model:
        verdict, paths = "kink", ", ".join(at_model)
        statement = f"the loss has a kink at the model, in {paths}; near it the gradient is right"
    elif error is None:
        verdict = "unresolved"
        statement = f"differences cannot tell whether the gradient is right, in {precision}"
    else:
        verdict = "right"
        statement = (
            f"the gradient is right: differences agree to {error:.1g} of a typical slope in "
            f"{precision}, {ERROR_TOLERANCE[precision]:.0e} is allowed"
        )
    return GradientCheck(
        verdict=verdict, precision=precision, error=error, leaves=tuple(wrong or at_model),
        statement=statement,
    )  # fmt: skip


class _Function(NamedTuple):
    """The mean loss of the sample, with penalty, of a flat vector of parameters."""

    start: Floats
    value: Callable[[Floats], float]
    gradient: Callable[[Floats], Floats]
    leaves: list[tuple[str, int]]  # path and size


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
    gradients(flat, rows)  # raises where the loss cannot do with this type
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
        once, often = (function.value(x + k * step * v) - value for k in (1, COMPARED_MULTIPLE))
        if abs(COMPARED_MULTIPLE * once - often) < abs(often) / 8:
            return precision
    raise UsageError(
        "the loss is computed in less than float32, too coarse for differences; "
        "check it in float32 or float64"
    )


def _judge_leaves(
    function: _Function, x: Floats, precision: str, draw: np.random.Generator
) -> list[_Leaf]:
    gradient, found, start = function.gradient(x), [], 0
    for path, size in function.leaves:
        part, start = slice(start, start + size), start + size
        if not np.isfinite(gradient[part]).all():
            found.append(_Leaf(path, "wrong", np.inf, "it is not finite"))
        elif size:
            vectors = np.zeros((NUM_DIRECTIONS, x.size))
            vectors[:, part] = draw.standard_normal((NUM_DIRECTIONS, size))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            found.append(_Leaf(path, *_judge(function, x, vectors, gradient, part, precision)))
    return found


def _judge(
    function: _Function, x: Floats, vectors: Floats, gradient: Floats, part: slice, precision: str
) -> tuple[str, float, str]:
    """Verdict, error and fault along vectors inside a leaf, by the first step that decides."""
    epsilon, given = float(jnp.finfo(precision).eps), vectors[:, part] @ gradient[part]
    size = float(np.linalg.norm(gradient[part])) / np.sqrt(len(gradient[part]))
    for shrink in STEP_FACTORS:
        step = shrink * epsilon ** (1 / 3) * max(1.0, float(np.linalg.norm(x[part])))
        slopes, halves = (
            np.array([function.value(x + t * v) - function.value(x - t * v) for v in vectors])
            / (2 * t)
            for t in (step, step / 2)
        )
        scale = max(size, float(np.sqrt(np.mean(slopes**2))))
        if scale == 0:
            return "right", 0.0, ""
        error = float(np.median(np.abs(slopes - given))) / scale
        if error <= ERROR_TOLERANCE[precision]:
            return "right", error, ""
        rounding = epsilon * abs(function.value(x)) / step
        doubt = float(np.median(np.abs(slopes - halves))) + rounding
        if error > CLEAR_FACTOR * doubt / scale:
            return "wrong", error, _fault(given, slopes)
    return "unresolved", 0.0, ""


def _fault(given: Floats, true: Floats) -> str:
    """The fault of the slopes that a gradient gives, in words."""
    squares = float(true @ true)
    factor = float(given @ true) / squares if squares else 1.0
    left = float(np.linalg.norm(given - factor * true))
    if left > FACTOR_TOLERANCE * abs(1 - factor) * np.sqrt(squares):
        return "in some of its numbers"
    if factor == 0:
        return "it is 0 where the loss does change; is a stop_gradient or a cast in the way?"
    if abs(factor + 1) < FACTOR_TOLERANCE:
        return "it has the wrong sign"
    return f"it is {factor:.4g} times the true one"
