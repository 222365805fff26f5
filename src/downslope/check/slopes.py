"""Slopes of a loss along random directions, by differences and by its gradient.

One compiled program serves all parameters, one leaf or one coordinate: a direction lies in a
range of the flat parameter vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.check.precision import cast, flatten, make_losses, narrowest
from downslope.errors import UsageError
from downslope.noise.statistics.ranges import Floats
from downslope.objective import Objective, Params

TAYLOR_STEPS = 12.0  # assumed: times the step of the differences, where curvature shows clearly


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """Slopes along K unit directions v inside a range of coordinates, each [K].

    Attributes:
        given: g.v, what the gradient says.
        central, central_half: (f(x+hv) - f(x-hv)) / 2h at h and at h/2.
        forward, forward_half: (f(x+hv) - f(x)) / h.
        backward, backward_half: (f(x) - f(x-hv)) / h.
        remainder, remainder_half: f(x+tv) - f(x) - t g.v at t = 12 h and at half of it.
        size: |g| over the range.
        dim: coordinates in the range.
        rounding: slope that rounding alone may feign.
    """

    given: Floats
    central: Floats
    central_half: Floats
    forward: Floats
    forward_half: Floats
    backward: Floats
    backward_half: Floats
    remainder: Floats
    remainder_half: Floats
    size: float
    dim: int
    rounding: float

    @property
    def scale(self) -> float:
        """Typical slope of a unit direction, |gradient| / sqrt(dim): of both, the larger."""
        seen = float(np.sqrt(np.mean(self.central**2)))
        return max(self.size / np.sqrt(self.dim), seen)


class Probe:
    """Takes slopes of a loss on fixed rows; used inside `wide`.

    Attributes:
        dtype: type that the loss is computed in.
        dim: number of trained parameters.
    """

    def __init__(
        self,
        objective: Objective,
        params: Params,
        rows: Any,
        seed: int,
        num_directions: int,
    ):
        self.num_directions, self._seed = num_directions, seed
        self._rows, self._key = rows, jax.random.key(seed)
        self.dtype, program = self._trace(objective, params, np.float64)
        if self.dtype != np.float64 or program is None:
            self.dtype, program = self._trace(objective, params, np.float32)
        if program is None or float(jnp.finfo(self.dtype).eps) > 1e-6:
            raise UsageError(
                f"the loss computes in {self.dtype}, too coarse for differences; "
                "check it in float32 or float64"
            )
        self.start, unravel = flatten(params, self.dtype)
        self.dim = self.start.size
        self._slopes = jax.jit(self._make(unravel))
        self._gradient = program

    def _trace(self, objective: Objective, params: Params, dtype: Any) -> tuple[Any, Any]:
        """Type that results have, and the compiled value and gradient; None where it fails."""
        flat, unravel = flatten(params, dtype)
        losses, penalty = make_losses(objective, dtype), objective.penalty

        def value(x: Any, rows: Any, key: Any) -> Any:
            params = unravel(x)
            found = losses(params, rows, key).astype(np.float64).mean()
            if penalty is not None:
                found = found + penalty(objective.model(params)).astype(np.float64)
            return found

        rows = cast(self._rows, dtype)
        self._value, self._cast_rows = value, rows
        both = jax.jit(jax.value_and_grad(value))
        try:
            traced = both.trace(flat, rows, self._key)
        except (TypeError, ValueError) as error:
            if dtype == np.float32:
                first = str(error).splitlines()[0]
                raise UsageError(f"loss must do with 64-bit numbers of JAX; got {first}") from error
            return np.dtype(np.float32), None  # made for 32 bits: tried again so
        return narrowest(traced.jaxpr), traced.lower().compile()

    def at(self, x: np.ndarray) -> tuple[float, Floats]:
        """Value and gradient."""
        value, gradient = self._gradient(x, self._cast_rows, self._key)
        return float(value), np.asarray(gradient, np.float64)

    def slopes(
        self,
        x: np.ndarray,
        value: float,
        gradient: Floats,
        ranges: list[tuple[int, int]],
        *,
        shrink: float = 1.0,
    ) -> list[Slopes]:
        """Slopes in each range of coordinates: K directions, or the one that a coordinate has.

        Args:
            x: [dim] of `dtype`, where.
            value, gradient: of the loss there.
            ranges: (start, stop) of coordinates.
            shrink: factor on the step eps^(1/3) max(1, |x|) of the range.
        """
        plan = [r for r in ranges for _ in range(self.num_directions if r[1] - r[0] > 1 else 1)]
        epsilon = float(jnp.finfo(self.dtype).eps)
        sizes = {r: max(1.0, float(np.linalg.norm(x[r[0] : r[1]]))) for r in set(plan)}
        steps = np.array([shrink * epsilon ** (1 / 3) * sizes[r] for r in plan])
        found = self._in_batches(x, gradient, np.array(plan), steps)
        slopes, place = [], 0
        for start, stop in ranges:
            count = self.num_directions if stop - start > 1 else 1
            part = found[:, place : place + count]
            rounding = epsilon * abs(value) / steps[place]
            slopes.append(_record(part, gradient[start:stop], value, steps[place], rounding))
            place += count
        return slopes

    def _in_batches(self, x: Any, gradient: Floats, plan: np.ndarray, steps: Floats) -> Floats:
        """Values [9, n] along every planned direction, as many at once as directions asked for."""
        size, parts = self.num_directions, []
        keys = np.arange(len(plan))
        for begin in range(0, len(plan), size):
            chosen = np.minimum(np.arange(begin, begin + size), len(plan) - 1)
            # deliberate host sync: a few numbers per direction
            out = self._slopes(x, gradient, plan[chosen], steps[chosen], keys[chosen],
                               self._cast_rows, self._key)  # fmt: skip
            parts.append(np.asarray(out).T[:, : len(plan) - begin])
        return np.concatenate(parts, axis=1)

    def _make(self, unravel: Any) -> Callable[..., Any]:
        value, dim, dtype = self._value, self.dim, self.dtype
        seed = jax.random.key(self._seed + 1)

        def along(x: Any, gradient: Any, span: Any, step: Any, number: Any, rows: Any, key: Any):
            place = jnp.arange(dim)
            inside = (place >= span[0]) & (place < span[1])
            draw = jax.random.normal(jax.random.fold_in(seed, number), (dim,), jnp.float64)
            draw = jnp.where(span[1] - span[0] == 1, 1.0, draw)  # along one coordinate, upward
            vector = jnp.where(inside, draw, 0.0)
            vector = vector / jnp.sqrt((vector**2).sum())
            times = step * jnp.array([1, -1, 0.5, -0.5, TAYLOR_STEPS, TAYLOR_STEPS / 2])

            def one(time: Any) -> Any:
                point = (x + time * vector).astype(dtype)
                # x + tv is rounded: the way really gone is what the gradient is asked about
                gone = jnp.dot(gradient, point.astype(jnp.float64) - x.astype(jnp.float64))
                return jnp.stack([value(point, rows, key), gone])

            values = jax.lax.map(one, times)
            slope = jnp.dot(gradient, vector)
            missing = slope * times - values[:, 1]
            return jnp.concatenate([values[:, 0] + missing, slope[None]])

        def all_of(x, gradient, spans, steps, numbers, rows, key):
            def one(each: Any) -> Any:
                span, step, number = each
                return along(x, gradient, span, step, number, rows, key)

            return jax.lax.map(one, (spans, steps, numbers))

        return all_of


def _record(values: Floats, gradient: Floats, value: float, step: float, rounding: float) -> Slopes:
    ahead, behind, ahead_half, behind_half, far, near, given = values
    time = TAYLOR_STEPS * step
    return Slopes(
        given=given,
        central=(ahead - behind) / (2 * step),
        central_half=(ahead_half - behind_half) / step,
        forward=(ahead - value) / step,
        forward_half=(ahead_half - value) / (step / 2),
        backward=(value - behind) / step,
        backward_half=(value - behind_half) / (step / 2),
        remainder=far - value - time * given,
        remainder_half=near - value - time / 2 * given,
        size=float(np.linalg.norm(gradient)),
        dim=len(gradient),
        rounding=rounding,
    )
