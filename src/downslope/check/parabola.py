"""Is a loss an exact quadratic of its parameters? Then it can be solved instead of searched."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.check.asked import prepare, sample
from downslope.check.bends import TOLERANCE, Program, make_program
from downslope.check.precision import wide
from downslope.estimate import Estimate
from downslope.objective import Loss, Model, Objective, Params

NUM_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """Whether a loss is an exact quadratic.

    Attributes:
        is_quadratic: its gradient is linear in the parameters, at every scale looked at.
        kappa: |g(x+v) + g(x-v) - 2 g(x)| over |g(x+v) - g(x)| + |g(x-v) - g(x)|, the largest
            seen, without what rounding explains; None where a gradient was not finite.
        scale: the scale at which that was, times the size of the parameters.
        is_random: the gradient depends on the key.
        interacts: the loss of a row depends on the other rows of its batch.
        is_flat: no curvature was seen: a linear loss, without a least value.
        has_negative_curvature: along some direction, so that there is no least value.
        needs_32_bits: the loss cannot be traced where JAX has 64-bit numbers.
        precision: float64, or float32 where the loss insists on it.
        lambda_min, lambda_max: least and largest curvature of the sample's mean loss; None where
            they were not asked for.
        statement: all this in one sentence.
    """

    is_quadratic: bool
    kappa: float | None
    scale: float
    is_random: bool
    interacts: bool
    is_flat: bool
    has_negative_curvature: bool
    precision: str
    needs_32_bits: bool = False
    lambda_min: Estimate | None = None
    lambda_max: Estimate | None = None
    statement: str = ""

    @property
    def is_solvable(self) -> bool:
        """Nothing seen speaks against solving it over all rows."""
        return (
            self.is_quadratic
            and not (self.is_random or self.interacts or self.needs_32_bits)
            and not (self.is_flat or self.has_negative_curvature)
        )

    def __str__(self) -> str:
        return self.statement


def quadratic(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    penalty: Callable[[Model], Any] | None = None,
    l2: float = 0.0,
    penalize: Callable[[Model], Any] | None = None,
) -> Quadratic:
    """Whether a loss is an exact quadratic of the trained parameters, and convex.

    At three scales, from random points x along random v, g(x+v) + g(x-v) - 2 g(x) must be 0 but
    for rounding. One scale is not enough: a small quartic looks like a quadratic on a small one.
    Rows are fixed, 256 of them: a sum of quadratics over rows is a quadratic on any sample, and
    what a rare row does otherwise shows when `solve` looks at the gradient over all rows.

    Args:
        loss, model, data, penalty: as for `downslope.fit`.
        l2, penalize: adds l2/2 |w|^2 over the leaves that `penalize(model)` marks.

    Raises:
        UsageError: an argument out of range, or a loss of a wrong shape.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 3)).astype("float32")
        >>> def loss(model, batch, key):
        ...     return 0.5 * (batch @ model["w"] - 1) ** 2
        >>> found = quadratic(loss, {"w": np.zeros(3, "float32")}, x)
        >>> found.is_quadratic, found.is_solvable
        (True, True)
    """
    asked = prepare(loss, model, data, penalty=penalty, l2=l2, penalize=penalize)
    rows = sample(asked.source, NUM_ROWS)
    return look(asked.objective, asked.params, rows, asked.regularizer, spectrum=True)


def look(
    objective: Objective,
    params: Params,
    rows: Any,
    regularizer: Callable[[Params], Any] | None = None,
    *,
    spectrum: bool = False,
    seed: int = 0,
) -> Quadratic:
    """The same for an objective and a sample of stored rows; one compiled call.

    Args:
        objective: what is minimised.
        params: the trained leaves.
        rows: of the source, before unpacking; at most 256 are enough.
        regularizer: gradient of what is added to the mean loss, or None.
        spectrum: also find the ends of the sample's spectrum (some more products, and their
            compilation).
        seed: of the random points.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(wide())
        found: dict[str, Any] = {}
        program = make_program(objective, params, rows, regularizer)
        if program is None:  # made for a JAX without 64-bit numbers
            stack.enter_context(jax.enable_x64(False))
            program = Program(objective, params, rows, regularizer, np.float32)
            found = program.run(seed) | {"needs_32_bits": True}
        else:
            found = program.run(seed)
        ends = program.ends(seed) if spectrum and found["is_quadratic"] else None
    if ends is not None:
        least, most = (end.value for end in ends)
        found |= {"lambda_min": ends[0], "lambda_max": ends[1]}
        if least is not None and most is not None:
            bent = least < -TOLERANCE[found["precision"]] * max(most, 0.0)
            found["has_negative_curvature"] |= bent
    result = Quadratic(**found)
    return dataclasses.replace(result, statement=_statement(result))


def _statement(found: Quadratic) -> str:
    if found.kappa is None:
        return f"not a quadratic: at {found.scale:g} times the parameters it is not finite"
    if not found.is_quadratic:
        return (
            f"not a quadratic: at {found.scale:g} times the parameters its gradient bends by "
            f"{found.kappa:.2g} of its change"
        )
    if found.is_random:
        return "a quadratic for each key, but it depends on the key: it can only be searched"
    if found.interacts:
        return "a quadratic of each batch whose examples interact: there is none of all rows"
    if found.needs_32_bits:
        return "a quadratic, but its code cannot do with 64-bit numbers: it can only be searched"
    if found.is_flat:
        return "linear: it has no curvature, and no least value"
    if found.has_negative_curvature:
        return "a quadratic that curves downward along some direction: it has no least value"
    if found.lambda_min is None:
        return "an exact quadratic, nothing seen against convexity: it can be solved"
    return (
        "an exact convex quadratic: it can be solved; curvature of the sample "
        f"{found.lambda_min.value or 0:.3g} to {found.lambda_max and found.lambda_max.value:.3g}"
    )
