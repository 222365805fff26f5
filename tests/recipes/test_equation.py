"""Differential equations: points, derivatives, balance, least squares, and known solutions."""

from __future__ import annotations

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from downslope import DataError, UsageError
from downslope.recipes.equation import (
    Box,
    Disk,
    Equation,
    InTime,
    Polygon,
    adaptive_points,
    derivative,
    dirichlet,
    initial,
    interval,
    laplacian,
    neumann,
    periodic,
    unit_points,
)
from downslope.recipes.equation.least_squares import inverse_product, levenberg_marquardt
from downslope.recipes.equation.terms import balanced

DENT = ((0, 0), (2, 0), (2, 2), (1, 0.5), (0, 2))  # not convex


def even(dim, count=4096):
    return unit_points("sobol", count, dim, 0)


@pytest.mark.parametrize(
    ("geometry", "moment"),
    [  # the mean of the square of the first coordinate, by hand
        (interval(1, 3), 13 / 3),
        (Box((0, 1), (2, 5)), 4 / 3),
        (Disk((1, 0), 2), 2.0),
        (Polygon(((0, 0), (1, 0), (0, 1))), 1 / 6),
        (Polygon(((0, 0), (0, 1), (1, 0))), 1 / 6),  # with the clock
        (InTime(interval(1, 3), 0, 5), 13 / 3),
    ],
)
def test_points_are_evenly_spread_inside(geometry, moment):
    """Catches a disk crowded at its middle, triangles drawn alike whatever their area, and points
    outside.
    """
    points = geometry.inside(even(geometry.dim))
    low, high = geometry.bounds
    assert (points >= low - 1e-12).all() and (points <= high + 1e-12).all()
    assert np.square(points[:, 0]).mean() == pytest.approx(moment, rel=2e-3)


@pytest.mark.parametrize(
    "geometry", [Box((0, 1), (2, 5)), Box((0, 0, 0), (1, 2, 3)), Disk((1, 0), 2), Polygon(DENT)]
)
def test_the_divergence_theorem_holds(geometry):
    """Catches normals that point inward or are not of length 1, and sides drawn alike whatever
    their length: the flux of x through the boundary is d times the measure.
    """
    points, normals = geometry.boundary(even(geometry.dim, 1 << 14))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    lengths = {
        Box: lambda g: 2 * sum(g.measure / (b - a) for a, b in zip(g.low, g.high, strict=True)),
        Disk: lambda g: 2 * np.pi * g.radius,
        Polygon: lambda g: np.linalg.norm(
            np.diff([*g.corners, g.corners[0]], axis=0), axis=1
        ).sum(),
    }
    size = lengths[type(geometry)](geometry)
    flux = size * (points * normals).sum(1).mean()
    assert flux == pytest.approx(geometry.dim * geometry.measure, rel=5e-3)


def test_a_polygon_that_is_not_convex_is_filled_once():
    """Catches triangles outside of it."""
    points = Polygon(DENT).inside(even(2))
    above = points[:, 1] > np.where(
        points[:, 0] < 1, 2 - 1.5 * points[:, 0], 1.5 * points[:, 0] - 1
    )
    assert not above.any() and Polygon(DENT).measure == pytest.approx(2.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box((0, 1), (2, 1)), lambda: Disk((0, 0), 0), lambda: InTime(interval(0, 1), 2, 2),
        lambda: Polygon(((0, 0), (1, 1), (2, 2))), lambda: Box((0,), (1, 2)),
        lambda: Polygon(((0, 0), (1, 1), (1, 0), (0, 1.5))),
    ],
)  # fmt: skip
def test_a_geometry_without_measure_is_refused(make):
    with pytest.raises(UsageError):
        make()


def test_adaptive_points_keep_means_unbiased():
    """Catches points without their weights, 5 % off and more."""
    x = even(1)
    points, weights = adaptive_points(x, np.exp(5 * x[:, 0]), 40_000, 1)
    assert (weights * points[:, 0]).mean() == pytest.approx(0.5, abs=0.01)
    assert weights.mean() == pytest.approx(1, abs=0.01) and points.mean() > 0.6
    points, weights = adaptive_points(x, np.zeros(len(x)), 100, 1)
    np.testing.assert_allclose(weights, 1)


def test_derivatives_are_those_of_calculus():
    """Catches axes exchanged, and a Laplacian that takes time for space."""

    def u(x):
        return jnp.sin(x[0]) * x[1] ** 3

    x = jnp.array([0.3, 2.0])
    assert float(derivative(u, x, 0, 1)) == pytest.approx(np.cos(0.3) * 12, rel=1e-5)
    assert float(laplacian(u, x)) == pytest.approx(-np.sin(0.3) * 8 + np.sin(0.3) * 12, rel=1e-5)
    assert float(laplacian(u, x, (0,))) == pytest.approx(-np.sin(0.3) * 8, rel=1e-5)


def test_conditions_are_zero_where_they_hold():
    """Catches a slope against the normal, and a period that compares values alone."""

    def u(x):
        return jnp.sin(2 * jnp.pi * x[0]) * jnp.exp(-x[1])

    x, normal = jnp.array([0.0, 0.3]), jnp.array([-1.0, 0.0])
    slope = -2 * jnp.pi * jnp.exp(-0.3)
    assert float(neumann(slope).residual(u, x, normal)) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(periodic(0, 0.0, 1.0).residual(u, x, normal), 0, atol=1e-5)
    broken = periodic(0, 0.0, 0.5).residual(u, x, normal)
    assert abs(float(broken[0])) < 1e-5 < abs(float(broken[1]))
    start = jnp.array([0.25, 0.0])
    assert float(initial(1.0).residual(u, start, 0 * normal)) == pytest.approx(0, abs=1e-6)
    assert float(initial(-1.0, order=1).residual(u, start, 0 * normal)) == pytest.approx(
        0, abs=1e-6
    )


def poisson(u, x):
    return derivative(u, x, 0, 0) + jnp.pi**2 * jnp.sin(jnp.pi * x[0])


def test_balanced_terms_have_gradients_of_one_length():
    """Catches weights of losses in place of gradients, and their inverse."""
    equation = Equation(lambda u, x: 3 * poisson(u, x), interval(0, 1), [dirichlet(0.0)])
    from downslope.recipes.equation.equation import _Draws
    from downslope.recipes.equation.net import Net

    terms = equation._terms(Net(low=(0.0,), high=(1.0,), hidden=(8,)))
    model = {"net": terms.net.init(), "coefficients": {}}
    rows = _Draws(equation, "sobol", 0).rows(512, 0, whole=True)
    weights = balanced(terms, model, rows)
    lengths = []
    for place, each in enumerate(rows):

        def loss(model, place=place, each=each):
            return jnp.square(terms.residuals(model, place, each)).sum(-1).mean() / 2

        flat = jax.flatten_util.ravel_pytree(jax.grad(loss)(model))[0]
        lengths.append(weights[place] * float(jnp.linalg.norm(flat)))
    assert weights.mean() == pytest.approx(1) and max(lengths) < 2 * min(lengths)


def test_least_squares_reach_the_bottom_of_a_bent_valley():
    """Catches a damping that only grows, and a step against the gradient."""

    def problem(draw, theta):
        def residuals(t):
            return np.array([10 * (t[1] - t[0] ** 2), 1 - t[0]])

        def jacobian(t):
            return residuals(t), np.array([[-20 * t[0], 10.0], [-1.0, 0.0]])

        return residuals, jacobian

    found = levenberg_marquardt(np.array([-1.2, 1.0]), problem, seconds=10)
    np.testing.assert_allclose(found.theta, 1, atol=1e-4)
    assert len(found.losses) < 100 and (np.diff(found.losses) <= 0).all()


@pytest.mark.parametrize("shape", [(200, 5), (3, 7)])
def test_the_inverse_is_that_of_least_squares_where_there_is_one(shape):
    """Catches a matrix that is singular in double precision, at which Cholesky fails."""
    j, unit = np.random.default_rng(0).normal(size=shape), np.eye(shape[1])
    found = inverse_product(j, unit)
    if shape[0] > shape[1]:
        np.testing.assert_allclose(found, np.linalg.inv(j.T @ j), rtol=1e-6)
    else:  # what the rows do not tell has a large one
        assert np.diag(found).max() > 1e6
    assert np.isfinite(inverse_product(np.zeros((2, 2)), np.eye(2))).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "conditions are needed"),
        ({"conditions": [initial(0.0)]}, "need a geometry in time"),
        ({"conditions": [dirichlet()], "coefficients": {"k": 1.0}}, "coefficients need data"),
        ({"coefficients": {"k": 0.0}, "data": ([[0.5]], [1.0])}, "must not begin at 0"),
        ({"data": ([[0.5, 1.0]], [1.0])}, r"points \[n, 1\]"),
        ({"conditions": dirichlet()}, "must be a list"),
    ],
)
def test_what_has_no_solution_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Equation(poisson, interval(0, 1), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": 32}, "hidden must be widths"),
        ({"num_features": -1}, "num_features"),
        ({"frequency": 0.0}, "frequency"),
        ({"sampling": "halton"}, "sampling"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Equation(poisson, interval(0, 1), [dirichlet(0.0)]).solve(seconds=1, **options)


def test_a_residual_that_is_not_finite_is_told_with_its_point():
    """Catches seconds of training on NaN."""
    equation = Equation(lambda u, x: u(x) + jnp.log(x[0] - 0.5), interval(0, 1), [dirichlet()])
    with pytest.raises(UsageError, match="residual of 'equation' is not finite at the point"):
        equation.solve(seconds=1)


def test_features_finer_than_the_points_are_told():
    equation = Equation(poisson, interval(0, 1), [dirichlet()])
    with pytest.warns(UserWarning, match="finer than the points"):
        equation.solve(
            seconds=0.01, first_order_share=0, hidden=(4,), num_features=4, frequency=2000.0
        )


@pytest.mark.parametrize("sampling", ["uniform", "latin_hypercube"])
def test_heat_flows_out_of_one_side_alone(sampling):
    """Catches a start at another time, time among the axes of space, and a condition that is for
    all of the boundary. Truth: exp(-k pi^2 t / 4) sin(pi x / 2), insulated at x = 1.
    """

    def heat(u, x):
        return derivative(u, x, 1) - 0.3 * laplacian(u, x, (0,))

    conditions = [
        dirichlet(0.0, where=lambda x: x[:, 0] == 0),
        neumann(0.0, where=lambda x: x[:, 0] == 1),
        initial(lambda x: jnp.sin(jnp.pi * x[0] / 2)),
    ]
    equation = Equation(heat, InTime(interval(0, 1), 2, 3), conditions)
    found = equation.solve(
        seconds=60, tolerance=1e-8, hidden=(16,), first_order_share=0, sampling=sampling
    )
    x = InTime(interval(0, 1), 2, 3).inside(even(2, 512))
    truth = np.exp(-0.3 * np.pi**2 / 4 * (x[:, 1] - 2)) * np.sin(np.pi * x[:, 0] / 2)
    assert np.abs(found(x) - truth).max() < 2e-3
    assert [*found.errors] == [
        "equation", "1. value on the boundary", "2. slope on the boundary", "3. start"
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"points must be \[n, 2\]"):
        found([0.2, 0.7])


def test_a_free_first_value_costs_a_degree_of_freedom():
    """Catches a scatter by the coefficients alone, and values not measured that count. Truth: a
    line y = a + k t through 12 of 14 points, whose slope has a closed form.
    """
    rng = np.random.default_rng(3)
    t = np.linspace(0, 1, 14)
    y = 1 + 2 * t + 0.1 * rng.normal(size=14)
    y[[3, 9]] = np.nan
    equation = Equation(
        lambda u, x, c: derivative(u, x, 0) - c["k"], interval(0, 1), data=(t[:, None], y),
        coefficients={"k": 1.0},
    )  # fmt: skip
    estimate = equation.solve(seconds=60, hidden=(6,), first_order_share=0).coefficients["k"]
    known = np.isfinite(y)
    design = np.stack([np.ones(12), t[known]], axis=1)
    best, squares = np.linalg.lstsq(design, y[known])[:2]
    error = np.sqrt(squares[0] / 10 * np.linalg.inv(design.T @ design)[1, 1])
    assert estimate.value == pytest.approx(best[1], abs=0.05 * error)
    assert (estimate.hi - estimate.lo) / 2 == pytest.approx(2.228 * error, rel=0.05)
    assert estimate.num_examples == 12


def test_a_condition_for_no_point_is_refused():
    equation = Equation(poisson, interval(0, 1), [dirichlet(where=lambda x: x[:, 0] > 5)])
    with pytest.raises(UsageError, match="where must take some"):
        equation.solve(seconds=1)


@pytest.fixture(scope="module")
def solved():
    equation = Equation(poisson, interval(0, 1), [dirichlet(0.0)])
    return equation.solve(seconds=60, tolerance=1e-11, hidden=(16, 16), first_order_share=0.02)


def test_a_known_solution_is_found_saved_and_loaded(solved, tmp_path):
    """Catches single precision, which ends at 1e-4, and parameters of another net."""
    x = np.linspace(0, 1, 101)[:, None]
    truth = np.sin(np.pi * x[:, 0])
    assert np.linalg.norm(solved(x) - truth) < 1e-5 * np.linalg.norm(truth)
    assert solved.errors["equation"].hi < 1e-3
    np.testing.assert_allclose(solved.residual(x)[50], 0, atol=1e-2)
    solved.save(tmp_path / "s")
    other = Equation(poisson, interval(0, 1), [dirichlet(0.0)])
    with pytest.raises(DataError, match="another net"):
        other.solve(seconds=0.1, hidden=(4,), first_order_share=0).loaded(tmp_path / "s")
    with pytest.raises(DataError, match="another net"):  # of the same shapes
        seeded = other.solve(seconds=0.1, hidden=(16, 16), first_order_share=0, seed=1)
        seeded.loaded(tmp_path / "s")
    again = other.solve(seconds=0.1, hidden=(16, 16), first_order_share=0).loaded(tmp_path / "s")
    np.testing.assert_array_equal(again(x), solved(x))
    assert (again.errors, again.losses) == (solved.errors, solved.losses)
    assert solved.plot().lines


@pytest.mark.slow
def test_coefficients_and_their_intervals_are_those_of_least_squares():
    """Catches data that count twice for two outputs, an equation that is no constraint yet, and an
    interval of the data alone. Oracle: least squares on the solutions of a solver.
    """
    from scipy.integrate import solve_ivp
    from scipy.optimize import least_squares

    examples = str(Path(__file__).resolve().parents[2] / "examples" / "lynx.py")
    lynx = runpy.run_path(examples)
    years = np.arange(21.0)
    values = np.log(np.stack([lynx["HARES"], lynx["LYNXES"]], axis=1))

    def misfit(p):
        def slope(t, u):
            return [p[0] - p[1] * np.exp(u[1]), p[3] * np.exp(u[0]) - p[2]]

        found = solve_ivp(slope, (0, 20), p[4:], t_eval=years, rtol=1e-8)
        return (found.y.T - values).ravel()

    best = least_squares(misfit, [0.55, 0.028, 0.8, 0.024, 3.4, 1.6], x_scale="jac")
    scatter = (best.fun @ best.fun) / (values.size - 6)
    errors = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac) * scatter))
    equation = Equation(
        lynx["lotka_volterra"], interval(0, 20), data=(years[:, None], values), num_outputs=2,
        coefficients={"births": 0.5, "hunting": 0.02, "deaths": 0.5, "feeding": 0.02},
    )  # fmt: skip
    found = equation.solve(seconds=25, first_order_share=0, hidden=(24, 24))
    for name, truth, error in zip(equation.coefficients, best.x, errors, strict=False):
        estimate = found.coefficients[name]
        assert estimate.value == pytest.approx(truth, abs=0.5 * error)
        half = (estimate.hi - estimate.lo) / 2
        assert half == pytest.approx(2.03 * error, rel=0.05)
