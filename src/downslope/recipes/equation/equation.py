"""Differential equations, solved by a net on points drawn from their geometry."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

import downslope
from downslope import StopReason, UsageError
from downslope.arguments import number, one_of, whole
from downslope.recipes.equation.conditions import Condition
from downslope.recipes.equation.geometry import Floats, Geometry
from downslope.recipes.equation.inverse import constrained, estimated
from downslope.recipes.equation.least_squares import levenberg_marquardt
from downslope.recipes.equation.net import Net
from downslope.recipes.equation.points import (
    CANDIDATES,
    SAMPLINGS,
    Sampling,
    adaptive_points,
    boundary_points,
    resolved_frequency,
    unit_points,
)
from downslope.recipes.equation.solution import Solution, term_errors
from downslope.recipes.equation.terms import Row, Term, Terms, balanced

POOL = 16_384  # rows of the descent, drawn once and visited in random order
BALANCED_ROWS = 1024  # by which the terms are balanced
FIRST_ORDER_SHARE = 0.2  # of the time; assumed
LEAST_POINTS, MOST_POINTS = 512, 4096  # of the equation, for a step of least squares
PER_PARAMETER = 1.5  # such points for each parameter, within these ends; assumed
CONDITION_SHARE = 0.25  # of the equation's points, for each condition; assumed


class Equation:
    """A differential equation with its conditions.

    Args:
        residual: `residual(u, x)`, 0 for a solution at the point x [d]; a number or [k]. `u` is a
            function of one point, a number or [num_outputs]; see `derivative` and `laplacian`. With
            coefficients `residual(u, x, c)`, where `c` holds them by name.
        geometry: where it holds: `interval`, `Box`, `Disk`, `Polygon`, each also `InTime`.
        conditions: such as `dirichlet(0.0)`, `neumann`, `periodic`, `initial`, or a `Condition`.
        coefficients: starting values of unknown coefficients by name, for inverse problems; not 0,
            since they are trained in units of these.
        data: measured points [n, d] and values, [n] or [n, num_outputs]; NaN where a component was
            not measured.
        num_outputs: components of the solution.
        ansatz: `ansatz(u, x)`, used as the solution in place of the net `u`, so that it satisfies
            conditions exactly, such as `lambda u, x: x[0] * (1 - x[0]) * u(x)`.

    Raises:
        UsageError: neither conditions nor an ansatz nor data; conditions at the start of a geometry
            without time; coefficients without data, or of 0.

    Example:
        >>> from downslope.recipes.equation import derivative, dirichlet, interval
        >>> def residual(u, x):
        ...     return derivative(u, x, 0, 0) + jnp.pi**2 * jnp.sin(jnp.pi * x[0])
        >>> equation = Equation(residual, interval(0, 1), [dirichlet(0.0)])
        >>> found = equation.solve(seconds=30, hidden=(16,), tolerance=1e-7, first_order_share=0)
        >>> error = found(np.array([[0.5]]))[0] - 1  # the solution is sin(pi x)
        >>> bool(abs(error) < 1e-4)
        True

    Source: Raissi, Perdikaris and Karniadakis (2019), Physics-informed neural networks.
    """

    def __init__(
        self,
        residual: Callable[..., Any],
        geometry: Geometry,
        conditions: Sequence[Condition] = (),
        *,
        coefficients: Mapping[str, float] | None = None,
        data: tuple[Any, Any] | None = None,
        num_outputs: int = 1,
        ansatz: Callable[[Any, Any], Any] | None = None,
    ):
        if isinstance(conditions, Condition):
            raise UsageError("conditions must be a list, such as [dirichlet(0.0)]")
        if not conditions and ansatz is None and data is None:
            raise UsageError(
                "conditions are needed: an equation alone has many solutions; give conditions, an "
                "ansatz that satisfies them, or data"
            )
        if any(c.at == "initial" for c in conditions) and not hasattr(geometry, "initial"):
            raise UsageError(
                "initial conditions need a geometry in time: InTime(geometry, start, end)"
            )
        self.residual, self.geometry, self.conditions = residual, geometry, tuple(conditions)
        self.ansatz, self.num_outputs = ansatz, whole("num_outputs", num_outputs)
        self.coefficients = {
            name: number(f"coefficients[{name!r}]", value)
            for name, value in (coefficients or {}).items()
        }
        if not all(self.coefficients.values()):
            raise UsageError("coefficients must not begin at 0: they are trained in units of that")
        if self.coefficients and data is None:
            raise UsageError("coefficients need data: give measured points and values")
        self.data = None if data is None else self._checked(*data)

    def _checked(self, points: Any, values: Any) -> tuple[Floats, Floats]:
        x, y = np.asarray(points, np.float64), np.asarray(values, np.float64)
        y = y[:, None] if y.ndim == 1 else y
        if x.ndim != 2 or x.shape[1] != self.geometry.dim or y.shape != (len(x), self.num_outputs):
            raise UsageError(
                f"data must be points [n, {self.geometry.dim}] and values [n, {self.num_outputs}]; "
                f"got {list(x.shape)} and {list(y.shape)}"
            )
        if not np.isfinite(x).all() or not np.isfinite(y).any():
            raise UsageError("data must have finite points, and a value that is not NaN")
        return x, y

    def solve(
        self,
        *,
        hidden: tuple[int, ...] = (32, 32),
        num_features: int = 0,
        frequency: float = 1.0,
        sampling: Sampling = "sobol",
        adaptive: bool = True,
        balances: bool = True,
        seconds: float = 30.0,
        first_order_share: float = FIRST_ORDER_SHARE,
        tolerance: float = 0.0,
        seed: int = 0,
    ) -> Solution:
        """Train a net to satisfy the equation and its conditions.

        First by `downslope.fit`, which chooses batch size and rate from the noise of the points;
        then by damped Gauss-Newton steps in double precision, on points drawn anew.

        Args:
            hidden: widths of the layers.
            num_features: random Fourier features of the point, for solutions of high frequency.
            frequency: standard deviation of theirs, in cycles over the geometry.
            sampling: "sobol", "latin_hypercube" or "uniform".
            adaptive: draw more points where the residual is large, with weights that keep the loss
                unbiased.
            balances: weigh the terms so that their gradients are equally long.
            seconds: of all training.
            first_order_share: part of them for the first of the two.
            tolerance: half the mean square of all residuals, weighted, at which to stop.
            seed: of points and parameters.

        Raises:
            UsageError: an argument out of range, or a condition for no point of the boundary.
        """
        one_of("sampling", sampling, SAMPLINGS)
        number("seconds", seconds, above=0)
        number("first_order_share", first_order_share, least=0, most=1)
        number("frequency", frequency, above=0)
        whole("num_features", num_features, least=0)
        whole("seed", seed, least=0)
        if not isinstance(hidden, tuple) or not hidden:
            raise UsageError(f"hidden must be widths of layers, such as (32, 32); got {hidden!r}")
        for width in hidden:
            whole("hidden", width)
        low, high = self.geometry.bounds
        net = Net(
            low=tuple(low.tolist()), high=tuple(high.tolist()), num_outputs=self.num_outputs,
            hidden=tuple(hidden), num_features=num_features, frequency=frequency, seed=seed,
        )  # fmt: skip
        terms = self._terms(net)
        draws = _Draws(self, sampling, seed)
        model = {"net": net.init(), "coefficients": {k: np.float32(1) for k in self.coefficients}}
        if num_features:
            _check_frequency(net, self.geometry, num_points(model))
        _check_finite(terms, model, draws.rows(LEAST_POINTS, 0))
        weights = np.ones(len(terms.terms))
        if balances:
            weights = balanced(terms, model, draws.rows(BALANCED_ROWS, 0, whole=True))
        if first_order_share:
            model = self._descend(terms, model, draws, weights, first_order_share * seconds, seed)
        return self._refine(
            terms, model, draws, weights, (1 - first_order_share) * seconds, adaptive, tolerance
        )

    def _terms(self, net: Net) -> Terms:
        def equation(u: Any, row: Row, c: Any) -> Any:
            return self.residual(u, row[0], c) if self.coefficients else self.residual(u, row[0])

        def of(number: int, condition: Condition) -> Term:
            name = condition.name or "condition"
            if len(self.conditions) > 1:  # several may have one name
                name = f"{number}. {name}"
            return Term(name, lambda u, row, c: condition.residual(u, row[0], row[1]))

        conditions = itertools.starmap(of, enumerate(self.conditions, start=1))
        terms = [Term("equation", equation), *conditions]
        if self.data is not None:
            terms.append(Term("data", _misfit))
        return Terms(tuple(terms), net, self.ansatz, tuple(self.coefficients.items()))

    def _descend(
        self, terms: Terms, model: Any, draws: _Draws, weights: Floats, seconds: float, seed: int
    ) -> Any:
        """The model after mini-batch gradient descent on points drawn once."""
        rows = draws.rows(POOL, 1, whole=True)
        data = {"rows": rows, "weights": np.broadcast_to(np.float32(weights), (POOL, len(weights)))}
        data = jax.tree.map(lambda a: np.ascontiguousarray(a, np.float32), data)
        found = downslope.fit(terms, model, data, seconds=seconds, seed=seed)
        if found.stop_reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt
        return found.params

    def _refine(
        self,
        terms: Terms,
        model: Any,
        draws: _Draws,
        weights: Floats,
        seconds: float,
        adaptive: bool,
        tolerance: float,
    ) -> Solution:
        """The model after steps of least squares, in double precision."""
        with jax.enable_x64(True):
            model = jax.tree.map(lambda a: np.asarray(a, np.float64), model)
            theta, unravel = jax.flatten_util.ravel_pytree(model)
            problem = _Problem(terms, unravel, draws, adaptive, num_points(model))
            theta, losses, coefficients = np.asarray(theta), (), {}
            if self.coefficients:
                theta, weights, flags = constrained(theta, problem, weights, self, seconds=seconds)
                coefficients = estimated(theta, problem, weights, self, flags)
            else:
                found = levenberg_marquardt(
                    theta, problem.with_weights(weights), seconds=seconds, tolerance=tolerance
                )
                theta, losses = found.theta, found.losses
            model = jax.tree.map(np.asarray, unravel(jnp.asarray(theta)))
            errors = term_errors(terms, model, draws.rows(MOST_POINTS, 2))
        return Solution(
            terms=terms, model=model, errors=errors, coefficients=coefficients,
            losses=losses,
        )  # fmt: skip


def _misfit(u: Any, row: Row, c: Any) -> Any:
    """Solution minus measured values; 0 where nothing was measured."""
    known = jnp.isfinite(row[1])
    return jnp.where(known, jnp.atleast_1d(u(row[0])) - jnp.where(known, row[1], 0), 0)


def num_points(model: Any) -> int:
    """Points of the equation in a step of least squares."""
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(model))
    return int(min(max(PER_PARAMETER * size, LEAST_POINTS), MOST_POINTS))


def _check_finite(terms: Terms, model: Any, rows: tuple[Row, ...]) -> None:
    for place, (term, each) in enumerate(zip(terms.terms, rows, strict=True)):
        found = np.isfinite(np.asarray(terms.residuals(model, place, each))).all(axis=1)
        if not found.all():
            point = np.asarray(each[0])[int(np.argmin(found))].tolist()
            raise UsageError(f"the residual of {term.name!r} is not finite at the point {point}")


def _check_frequency(net: Net, geometry: Geometry, count: int) -> None:
    highest = float(np.abs(net.features).max())
    resolved = resolved_frequency(geometry, count)
    if highest > resolved:
        warnings.warn(
            f"features of up to {highest:.3g} cycles over the geometry are finer than the points "
            f"of a step resolve ({resolved:.3g}): a residual between points is not seen; take a "
            "lower frequency",
            stacklevel=3,
        )


class _Draws:
    """Rows of all terms of an equation, by the number of a draw."""

    def __init__(self, equation: Equation, sampling: Sampling, seed: int):
        self._equation, self._seed = equation, seed
        self._sampling: Sampling = sampling
        self.data = equation.data

    def inside(self, count: int, draw: int) -> Floats:
        """Points of the equation, evenly spread."""
        geometry = self._equation.geometry
        seed = self.seed_of(draw, 0)
        return geometry.inside(unit_points(self._sampling, count, geometry.dim, seed))

    def rows(self, count: int, draw: int, *, whole: bool = False) -> tuple[Row, ...]:
        """Rows of every term: points, and normals or measured values.

        With `whole` every term has `count` rows, else conditions have a part of them, and data
        those that there are.
        """
        equation = self._equation
        few = count if whole else max(1, round(CONDITION_SHARE * count))
        found: list[Row] = [(self.inside(count, draw),)]
        for place, condition in enumerate(equation.conditions, start=1):
            seed = self.seed_of(draw, place)
            if condition.at == "initial":
                geometry: Any = equation.geometry
                unit = unit_points(self._sampling, few, geometry.dim, seed)
                found.append(geometry.initial(unit))
            else:
                found.append(
                    boundary_points(equation.geometry, self._sampling, few, seed, condition.where)
                )
        if equation.data is not None:
            x, y = equation.data
            if whole:
                rng = np.random.Generator(np.random.Philox(self.seed_of(draw, -1)))
                order = np.concatenate(
                    [rng.permutation(len(x)) for _ in range(-(-count // len(x)))]
                )
                x, y = x[order[:count]], y[order[:count]]
            found.append((x, y))
        return tuple(found)

    def seed_of(self, draw: int, place: int) -> int:
        sequence = np.random.SeedSequence(self._seed, spawn_key=(draw, place + 2))
        return int(sequence.generate_state(1)[0])


class _Problem:
    """Least-squares problems of an equation, by draw; their functions are compiled once."""

    def __init__(self, terms: Terms, unravel: Any, draws: _Draws, adaptive: bool, count: int):
        self._draws, self._adaptive = draws, adaptive
        self._count = count
        self._num_terms = len(terms.terms)

        def residuals(theta: Any, place: int, rows: Row) -> Any:
            return terms.residuals(unravel(theta), place, rows)

        def jacobian(theta: Any, place: int, rows: Row) -> Any:
            one = jax.jacrev(lambda t, row: terms.residual(unravel(t), place, row))
            return jax.vmap(one, (None, 0))(theta, rows)

        self._residuals = jax.jit(residuals, static_argnums=1)
        self._jacobian = jax.jit(jacobian, static_argnums=1)

    def with_weights(self, weights: Any) -> Callable[[int, Floats], Any]:
        """Problems of `levenberg_marquardt`, for weights of the terms' mean squares."""

        def problem(draw: int, theta: Floats) -> Any:
            rows, each = self.rows(draw, theta)
            scales = [
                np.sqrt(weight * share / len(share))
                for weight, share in zip(weights, each, strict=True)
            ]

            def residuals(theta: Floats) -> Floats:
                return np.concatenate(
                    [self._part(theta, place, part, scale)
                     for place, (part, scale) in enumerate(zip(rows, scales, strict=True))]
                )  # fmt: skip

            def jacobian(theta: Floats) -> tuple[Floats, Floats]:
                parts = [
                    scale[:, None, None] * np.asarray(self._jacobian(theta, place, part))
                    for place, (part, scale) in enumerate(zip(rows, scales, strict=True))
                ]
                stacked = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
                return residuals(theta), stacked

            return residuals, jacobian

        return problem

    def rows(self, draw: int, theta: Floats) -> tuple[tuple[Row, ...], list[Floats]]:
        """Rows of all terms, and the weight of each of them."""
        rows = self._draws.rows(self._count, 10 + draw)
        weights = [np.ones(len(each[0])) for each in rows]
        if self._adaptive and draw:
            candidates = self._draws.inside(CANDIDATES * self._count, 10 + draw)
            found = np.asarray(self._residuals(theta, 0, (candidates,)))
            size = np.linalg.norm(found, axis=1)
            seed = self._draws.seed_of(draw, -2)
            points, weights[0] = adaptive_points(candidates, size, self._count, seed)
            rows = ((points,), *rows[1:])
        return rows, weights

    def data_residuals(self, theta: Floats) -> Floats:
        """Solution minus measured values, of all data."""
        return np.asarray(self._residuals(theta, self._num_terms - 1, self._draws.data))

    def _part(self, theta: Floats, place: int, rows: Row, scale: Floats) -> Floats:
        return (scale[:, None] * np.asarray(self._residuals(theta, place, rows))).ravel()
