"""How much a gradient bends: differences of it on lines, from one compiled program."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from downslope.check.precision import cast, flatten, make_losses, narrowest
from downslope.estimate import Estimate
from downslope.noise.curvature.spectrum import extreme_eigenvalues
from downslope.noise.statistics.ranges import Floats
from downslope.objective import Objective, Params

# Of the size of the parameters. The middle one first: it rejects most losses at the first look.
SCALES = (1.0, 1e2, 1e-2)
TRIALS = 3  # random points at each scale
TOLERANCE = {"float64": 1e-8, "float32": 1e-3}
ROUNDINGS = 32.0  # units in the last place that a sum of gradients may be off by; assumed
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
EXACT_DIM = 64  # parameters up to which the spectrum of the sample's Hessian is found exactly


@dataclass(frozen=True)
class _Trial:
    kappa: float
    is_curved: bool
    cosine: float  # of the way gone and the gradient's change: below 0 where it curves downward


def make_program(
    objective: Objective, params: Params, rows: Any, regularizer: Any
) -> Program | None:
    """The program in float64, else in float32; None where neither can be traced."""
    for dtype in (np.float64, np.float32):
        with contextlib.suppress(TypeError, ValueError):
            program = Program(objective, params, rows, regularizer, dtype)
            if program.compiled is not None:
                return program
    return None


class Program:
    """One compiled gradient, and what calls of it tell. Use inside the context it was made in."""

    def __init__(
        self, objective: Objective, params: Params, rows: Any, regularizer: Any, dtype: Any
    ):
        self.flat, self._unravel = flatten(params, dtype)
        self._rows = cast(rows, dtype)
        self._separable, self._regularizer = objective.separable, regularizer
        self._losses, self._dtype = make_losses(objective, dtype), dtype
        self._count = jax.tree.leaves(rows)[0].shape[0]
        self._everything = np.ones(self._count, bool)
        self.compiled = None
        traced = jax.jit(self._gradient).trace(
            self.flat, self._rows, self._everything, np.uint32(0)
        )
        if narrowest(traced.jaxpr) == np.dtype(dtype) or dtype == np.float32:
            # it runs for less time than thorough optimizing takes
            self.compiled = traced.lower().compile(compiler_options=QUICKLY)

    def _gradient(self, x: Any, rows: Any, counted: Any, number: Any) -> Any:
        def total(x: Any) -> Any:
            values = self._losses(self._unravel(x), rows, jax.random.key(number))
            if not self._separable:
                return values
            return jnp.where(counted, values, 0.0).sum() / self._count

        found = jax.grad(total)(x)
        if self._regularizer is not None:
            extra = self._regularizer(self._unravel(x))
            if extra is not None:
                found = found + ravel_pytree(extra)[0].astype(found.dtype)
        return found

    def _at(self, x: Floats, rows: Any = None, counted: Any = None, number: int = 0) -> Floats:
        """The gradient as float64 on the host, a deliberate sync."""
        assert self.compiled is not None
        rows = self._rows if rows is None else rows
        counted = self._everything if counted is None else counted
        found = self.compiled(x.astype(self._dtype), rows, counted, np.uint32(number))
        return np.asarray(found, np.float64)

    def run(self, seed: int) -> dict[str, Any]:
        """Everything but the statement and the spectrum."""
        draw, seen = np.random.default_rng(seed), []
        precision = str(np.dtype(self._dtype))
        tolerance = TOLERANCE[precision]
        start = self.flat.astype(np.float64)
        typical = float(np.sqrt((start**2).mean())) or 1.0
        common = dict(
            precision=precision, is_random=False, interacts=not self._separable, is_flat=False,
            has_negative_curvature=False,
        )  # fmt: skip
        for scale in SCALES:
            for _ in range(TRIALS):
                x = start + scale * typical * draw.standard_normal(start.size)
                trial = self._trial(x, scale * typical * draw.standard_normal(start.size))
                if trial is None:
                    return common | dict(is_quadratic=False, kappa=None, scale=scale)
                seen.append((scale, trial))
                if trial.kappa > tolerance:
                    return common | dict(is_quadratic=False, kappa=trial.kappa, scale=scale)
        worst_scale, worst = max(seen, key=lambda each: each[1].kappa)
        trials = [trial for _, trial in seen]
        by_key, by_rows = self._depends(start + typical * draw.standard_normal(start.size))
        return common | dict(
            is_quadratic=True,
            kappa=worst.kappa,
            scale=worst_scale,
            is_random=by_key > 10 * tolerance,
            interacts=not self._separable or by_rows > 10 * tolerance,
            is_flat=not any(trial.is_curved for trial in trials),
            has_negative_curvature=any(t.is_curved and t.cosine < -tolerance for t in trials),
        )

    def _trial(self, x: Floats, v: Floats) -> _Trial | None:
        """Three gradients on a line, or None where one is not finite."""
        points = [p.astype(self._dtype).astype(np.float64) for p in (x - v, x, x + v)]
        below, here, above = (self._at(p) for p in points)
        size = float(np.linalg.norm(np.abs(below) + np.abs(here) + np.abs(above)))
        if not np.isfinite(size):
            return None
        norm = np.linalg.norm
        rounding = ROUNDINGS * float(jnp.finfo(self._dtype).eps) * size
        bend = max(float(norm(above + below - 2 * here)) - rounding, 0.0)
        turn = float(norm(above - here) + norm(below - here))
        is_curved = turn > rounding
        along = float((above - below) @ (points[2] - points[0]))
        span = float(norm(above - below) * norm(points[2] - points[0]))
        return _Trial(
            kappa=bend / turn if is_curved else 0.0,
            is_curved=is_curved,
            cosine=along / span if span > 0 else 0.0,
        )

    def _depends(self, x: Floats) -> tuple[float, float]:
        """How much the gradient changes with the key, and with the rest of the batch."""
        here, other = self._at(x), self._at(x, number=1)
        order = np.arange(self._count)
        first = order < (self._count + 1) // 2
        mixed = np.where(first, order, self._count - 1 - order)
        alone = self._at(x, counted=first)
        beside = self._at(x, jax.tree.map(lambda a: a[mixed], self._rows), first)
        return _difference(here, other), _difference(alone, beside)

    def ends(self, seed: int) -> tuple[Estimate, Estimate]:
        """Least and largest curvature of the sample's mean loss."""
        everything = self._everything

        @jax.jit
        def product(x: Any, vector: Any, rows: Any) -> Any:
            gradient = lambda y: self._gradient(y, rows, everything, np.uint32(0))  # noqa: E731
            return jax.jvp(gradient, (x,), (vector,))[1]

        dim = self.flat.size
        found = extreme_eigenvalues(
            lambda v: product(self.flat, np.asarray(v, self._dtype), self._rows),
            dim,
            num_products=dim if dim <= EXACT_DIM else None,
            key=seed,
        )
        return found.lambda_min, found.lambda_max


def _difference(one: Floats, other: Floats) -> float:
    size = float(np.linalg.norm(one) + np.linalg.norm(other))
    return float(np.linalg.norm(one - other)) / size if size > 0 else 0.0
