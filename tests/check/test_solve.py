"""Solutions equal those of numpy.linalg in float64; what is no quadratic is not called solved."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from downslope import Arrays, Generator, losses
from downslope.check import solve_loss
from downslope.check.problem import prepare, wide
from downslope.check.row_sums import RowSums, buffers
from downslope.check.solver import solve
from downslope.errors import UsageError

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(3000, 6)) @ RNG.normal(size=(6, 6))).astype("float32")
Y = (X @ RNG.normal(size=6) + RNG.normal(size=3000) + 7).astype("float32")


def linear(m, batch, key):
    return losses.squared(batch[0] @ m["w"] + m["b"], batch[1])


def model(dim):
    return {"w": np.zeros(dim, "float32"), "b": np.zeros((), "float32")}


def least_squares(x, y, weight=None):
    """The least value's place in float64, columns scaled; and the mean loss as a function."""
    x = np.c_[x.astype(float), np.ones(len(x))]
    y, root = y.astype(float), np.sqrt(np.ones(len(x)) if weight is None else weight)
    sizes = np.linalg.norm(x, axis=0)
    best = np.linalg.lstsq(x / sizes * root[:, None], y * root, rcond=None)[0] / sizes

    def value(w):
        return 0.5 * np.mean(root**2 * (x @ w - y) ** 2)

    return best, value


def flat(m):
    return np.r_[m["w"], m["b"]].astype(float)


def solved(loss, model, data, part_rows=None, **options):
    """By the inner function, whose bound of rows a user does not see."""
    with wide():
        return solve(RowSums(prepare(loss, model, data), part_rows), **options)


def true_gap(m, x, y):
    best, value = least_squares(x, y)
    return value(flat(m)) - value(best)


def test_diabetes():
    data = pytest.importorskip("sklearn.datasets").load_diabetes(return_X_y=True)
    x, y = (a.astype("float32") for a in data)
    found, solution = solve_loss(linear, model(10), (x, y))
    best, value = least_squares(x, y)
    assert solution.is_solved and solution.method == "cholesky"
    assert true_gap(found, x, y) < 1e-9 * value(best)
    assert solution.gap < 1e-9 * value(best)
    assert solution.loss == pytest.approx(value(best), rel=1e-7)


@pytest.mark.parametrize("part_rows", [7, 128, 9999])
def test_any_size_of_parts_gives_the_same(part_rows):
    """A last part averaged as if full, or counted twice, would show at 7 and 128."""
    solution = solved(linear, model(6), (X, Y), part_rows)
    assert solution.is_solved
    np.testing.assert_allclose(flat(solution.params), least_squares(X, Y)[0], rtol=1e-4, atol=2e-5)


def test_several_buffers(monkeypatch):
    monkeypatch.setattr("downslope.check.row_sums.BUFFER_BYTES", 4000)
    solution = solved(linear, model(6), (X, Y), 64)
    np.testing.assert_allclose(flat(solution.params), least_squares(X, Y)[0], rtol=1e-4, atol=2e-5)


def test_rows_in_use_are_not_overwritten():
    """A part is still computed with while the next one is read."""
    seen = [rows for rows, _ in buffers(Arrays(X), 1000)]
    assert len(seen) == 3
    assert not any(np.shares_memory(a, b) for a, b in itertools.pairwise(seen))


def test_from_any_start():
    start = {"w": np.full(6, 100, "float32"), "b": np.float32(-50)}
    found, solution = solve_loss(linear, start, (X, Y))
    assert solution.is_solved
    np.testing.assert_allclose(flat(found), least_squares(X, Y)[0], rtol=1e-4, atol=2e-5)


def test_weights_in_the_loss():
    weight = RNG.integers(0, 4, 3000).astype("float32")

    def weighted(m, batch, key):
        return batch[2] * linear(m, batch, key)

    found, _ = solve_loss(weighted, model(6), (X, Y, weight))
    np.testing.assert_allclose(flat(found), least_squares(X, Y, weight)[0], rtol=1e-4, atol=2e-5)


def test_ridge_in_closed_form():
    """Penalties belong to the mean loss: (X'X/N + l2 I) w = X'y/N."""
    only_w = {"w": np.zeros(6, "float32")}
    loss = lambda m, b, k: losses.squared(b[0] @ m["w"], b[1])  # noqa: E731
    x, y = X.astype(float), Y.astype(float)
    best = np.linalg.solve(x.T @ x / 3000 + 0.5 * np.eye(6), x.T @ y / 3000)
    for options in (
        {"l2": 0.5},
        {"penalty": lambda m: 0.25 * (m["w"] ** 2).sum()},
        {"l2": 0.2, "penalty": lambda m: 0.15 * (m["w"] ** 2).sum()},
    ):
        found, solution = solve_loss(loss, only_w, (X, Y), **options)
        np.testing.assert_allclose(found["w"], best, rtol=1e-4, atol=2e-5)
        assert solution.is_solved
    unpenalized, _ = solve_loss(
        linear, model(6), (X, Y), l2=0.5, penalize=lambda m: {"w": True, "b": False}
    )
    x = np.c_[x, np.ones(3000)]
    ridge = np.diag([0.5] * 6 + [0.0])
    best = np.linalg.solve(x.T @ x / 3000 + ridge, x.T @ y / 3000)
    np.testing.assert_allclose(flat(unpenalized), best, rtol=1e-4, atol=2e-5)


def test_columns_on_very_different_scales():
    x = (X * 10.0 ** np.linspace(-3, 3, 6)).astype("float32")
    found, solution = solve_loss(linear, model(6), (x, Y))
    best, value = least_squares(x, Y)
    assert solution.is_solved
    assert true_gap(found, x, Y) < 1e-9 * value(best)


def test_columns_that_nearly_depend_on_each_other():
    """Condition 1e6 of the inputs, 1e12 of the Hessian: float32 alone has no digit of it."""
    u = np.linalg.qr(RNG.normal(size=(2000, 12)))[0]
    v = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    x = (50 * (u * np.logspace(0, -6, 12)) @ v.T).astype("float32")
    y = (x @ RNG.normal(size=12) + 0.1 * RNG.normal(size=2000)).astype("float32")
    found, solution = solve_loss(linear, model(12), (x, y))
    best, value = least_squares(x, y)
    assert solution.precision == ("float64", "float64")
    assert solution.is_solved and solution.gap < 1e-6 * value(best)
    assert true_gap(found, x, y) <= 2 * solution.gap + 1e-12 * value(best)


def test_the_certificate_bounds_the_true_gap():
    """In float32 parameters far from 0, rounding them is what is left, and it is told."""
    x = (X + 300).astype("float32")
    found, solution = solve_loss(linear, model(6), (x, Y))
    gap = true_gap(found, x, Y)
    assert 0 < gap <= 1.01 * solution.gap < 100 * gap
    distance = np.linalg.norm(flat(found) - least_squares(x, Y)[0])
    assert distance == pytest.approx(solution.distance, rel=0.01)


def test_the_curvatures_are_those_of_the_hessian():
    _, solution = solve_loss(linear, model(6), (X, Y))
    x = np.c_[X.astype(float), np.ones(3000)]
    values = np.linalg.eigvalsh(x.T @ x / 3000)
    assert solution.lambda_min == pytest.approx(values[0], rel=1e-4)
    assert solution.lambda_max == pytest.approx(values[-1], rel=1e-5)


def test_singular_ones_get_the_shortest_solution():
    x = np.c_[X, X[:, :2]]
    only_w = {"w": np.zeros(8, "float32")}
    loss = lambda m, b, k: losses.squared(b[0] @ m["w"], b[1])  # noqa: E731
    solution = solved(loss, only_w, (x, Y), tolerance=1e-10)
    best = np.linalg.pinv(x.astype(float)) @ Y
    np.testing.assert_allclose(solution.params["w"], best, atol=3e-6)
    assert solution.num_flat == 2 and solution.lambda_min > 1e-3


def _least_loss(x):
    basis = np.linalg.qr(x.astype(float) / np.linalg.norm(x, axis=0))[0]
    return np.square(Y - basis @ (basis.T @ Y)).mean() / 2


@pytest.mark.parametrize("apart", [0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_columns_a_little_apart(apart, size):
    """Catches a slope along them, all that is left of the gradient, taken for a fall for ever."""
    twins = X[:, :2] + apart * RNG.normal(size=(3000, 2))
    x = (size * np.c_[X, twins]).astype("float32")
    loss = lambda m, b, k: losses.squared(b[0] @ m["w"], b[1])  # noqa: E731
    solution = solved(loss, {"w": np.zeros(8, "float32")}, (x, Y))
    assert solution.is_solved
    best, least = (_least_loss(part) for part in (x[:, :6], x))
    assert solution.loss <= best * 1.000001
    if apart >= 1e-6:  # what the rounding of x itself leaves apart is not seen
        assert solution.loss - solution.gap <= least * 1.000001
    assert np.abs(solution.params["w"]).max() * size < 1e5


def test_more_columns_than_rows_and_types_kept():
    x, y = RNG.normal(size=(8, 20)).astype("float32"), RNG.normal(size=8).astype("float32")
    only_w = {"w": np.zeros(20, "float32"), "n": 3}
    loss = lambda m, b, k: losses.squared(b[0] @ m["w"], b[1])  # noqa: E731
    found, solution = solve_loss(loss, only_w, (x, y))
    np.testing.assert_allclose(found["w"], np.linalg.pinv(x.astype(float)) @ y, atol=1e-6)
    assert solution.is_solved and solution.num_flat == 12
    assert found["w"].dtype == np.float32 and found["n"] == 3


@pytest.mark.slow
def test_what_has_no_least_value():
    def bent_down(m, batch, key):
        return losses.squared(batch[0] @ m["w"], batch[1]) - 100 * m["b"] ** 2 + m["b"]

    def falling(m, batch, key):
        return losses.squared(batch[0] @ m["w"], batch[1]) + m["b"]

    for loss, reason in ((bent_down, "downward"), (falling, "for ever")):
        solution = solved(loss, model(6), (X, Y))
        assert not solution.is_solved and solution.gap is None
        assert reason in solution.reason


RARE = {
    "a curve": lambda m, b: 3000 * losses.logistic(10 * m["w"][0], 1.0),
    "a kink": lambda m, b: losses.absolute(b[0] @ m["w"], b[1]),
    "a kink far out": lambda m, b: losses.huber(b[0] @ m["w"], b[1], 50.0),
}


@pytest.mark.parametrize("kind", RARE)
def test_a_rare_row_that_is_no_quadratic(kind):
    """No sample of rows would show it; the gradients over all rows do."""
    rare = np.zeros(3000, "float32")
    rare[1234] = 1

    def loss(m, batch, key):
        return jnp.where(batch[2] > 0, RARE[kind](m, batch), linear(m, batch, key))

    solution = solved(loss, model(6), (X, Y, rare))
    assert not solution.is_solved and "no quadratic" in solution.reason


def test_other_losses_are_not_called_solved():
    def logistic(m, batch, key):
        return losses.logistic(batch[0] @ m["w"] + m["b"], batch[1])

    _, solution = solve_loss(logistic, model(6), (X, (Y > 7).astype("float32")))
    assert not solution.is_solved


def test_data_that_is_not_finite():
    x = X.copy()
    x[5, 2] = np.nan
    _, solution = solve_loss(linear, model(6), (x, Y))
    assert not solution.is_solved and "finite" in solution.reason
    np.testing.assert_array_equal(solution.params["w"], 0)


def test_wrong_usage():
    scalar = lambda m, b, k: linear(m, b, k).mean()  # noqa: E731
    with pytest.raises(UsageError, match="interact"):
        solve_loss(scalar, model(6), (X, Y))
    endless = Generator(lambda rng, n: (np.zeros((n, 6), "float32"), np.zeros(n, "float32")))
    with pytest.raises(UsageError, match="no end"):
        solve_loss(linear, model(6), endless)
    with pytest.raises(UsageError, match="l2 must be a finite number of at least 0; got -1"):
        solve_loss(linear, model(6), (X, Y), l2=-1)
    with pytest.raises(UsageError, match="up to 2,000 parameters; got 2,001"):
        solve_loss(linear, model(2000), (np.zeros((4, 2000), "float32"), Y[:4]))


@pytest.mark.slow
def test_a_hundred_thousand_rows():
    x = RNG.normal(size=(100_000, 64)).astype("float32")
    y = (x @ RNG.normal(size=64) + 3 * RNG.normal(size=100_000) + 50).astype("float32")
    found, solution = solve_loss(linear, model(64), (x, y))
    best, value = least_squares(x, y)
    assert solution.is_solved and solution.num_passes == 2
    assert true_gap(found, x, y) < 1e-9 * value(best)
