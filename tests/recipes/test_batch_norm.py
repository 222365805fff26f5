"""Normalising layers: by mini-batch, ghost batch, laboratory, frozen statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from downslope import UsageError
from downslope.recipes import batch_norm as bn

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
H = RNG.normal(2.0, 3.0, (24, 5)).astype("f4")
LAB = np.array([0] * 12 + [1] * 9 + [2] * 3)


def standardised(h, epsilon=1e-5):
    """In float64, by NumPy's own mean and variance."""
    h = np.asarray(h, np.float64)
    return (h - h.mean(0)) / np.sqrt(h.var(0) + epsilon)


def test_a_mini_batch_is_standardised():
    np.testing.assert_allclose(bn.by_batch()("h", H), standardised(H), atol=2e-6)


def test_scale_and_shift_are_learned_or_left_out():
    layer = bn.init(5)
    assert set(layer) == {"scale", "shift"} and bn.init(5, scale=False).keys() == {"shift"}
    layer = {"scale": 2 * layer["scale"], "shift": layer["shift"] + 7}
    np.testing.assert_allclose(bn.by_batch()("h", H, layer), 2 * standardised(H) + 7, atol=1e-5)
    with pytest.raises(UsageError, match="scale and shift"):
        bn.by_batch()("h", H, {"gamma": 1.0})


@pytest.mark.parametrize("norm", [bn.by_batch(), bn.by_lab(np.zeros(24, int), 1)])
def test_a_mean_far_from_zero_costs_no_digits(norm):
    """Catches E[x^2] - E[x]^2, which is 0 or negative here, and a constant's rounding blown up."""
    far = (1e4 + RNG.normal(0, 1, (24, 2))).astype("f4")
    far = np.column_stack([far, np.full(24, 1.1e4, "f4")])
    found = norm("h", far)
    np.testing.assert_allclose(found[:, :2], standardised(far)[:, :2], atol=1e-4)
    assert (np.asarray(found[:, 2]) == 0).all()


@pytest.mark.slow
def test_the_jacobian_is_the_closed_one():
    """(1/s)(I - 11'/n - zz'/n), of rank n - 2: catches a mean or a spread held constant."""
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(1, 2, 9))
        norm = bn.by_batch(epsilon=1e-300)
        slope = jax.jacrev(lambda x: norm("h", x[:, None])[:, 0])(x)
        s, n = np.std(x), len(x)
        z = (np.asarray(x) - np.mean(x)) / s
        truth = (np.eye(n) - 1 / n - np.outer(z, z) / n) / s
        np.testing.assert_allclose(slope, truth, atol=1e-15)
        assert np.linalg.matrix_rank(slope) == n - 2
        for other in (
            bn.by_ghost(9, epsilon=1e-300),
            bn.by_lab(jnp.zeros(9, int), 1, epsilon=1e-300),
        ):
            again = jax.jacrev(lambda x, f=other: f("h", x[:, None])[:, 0])(x)
            np.testing.assert_allclose(again, truth, atol=1e-14)


def test_constant_features_have_a_finite_gradient():
    same = jnp.ones((6, 2))
    grad = jax.grad(lambda x: (bn.by_batch()("h", x) * x).sum())(same)
    assert np.isfinite(grad).all()


def test_ghost_batches_are_of_a_fixed_size():
    """Catches a rest of another size: 24 rows by 10 end with the last 10, of which 4 are new."""
    found = bn.by_ghost(10)("h", H)
    parts = [standardised(H[:10]), standardised(H[10:20]), standardised(H[14:])[6:]]
    np.testing.assert_allclose(found, np.concatenate(parts), atol=2e-6)
    np.testing.assert_allclose(bn.by_ghost(64)("h", H), standardised(H), atol=2e-6)


@pytest.mark.slow
def test_each_laboratory_by_its_own_rows():
    norm = bn.by_lab(jnp.asarray(LAB), 3, fewest=4)
    mixed = RNG.permutation(24)
    found = np.asarray(bn.by_lab(jnp.asarray(LAB[mixed]), 3, fewest=4)("h", H[mixed]))
    for lab in (0, 1):
        np.testing.assert_allclose(
            found[LAB[mixed] == lab], standardised(H[mixed][LAB[mixed] == lab]), atol=2e-6
        )
    assert (found[LAB[mixed] == 2] == 0).all()  # 3 rows, fewer than 4
    counted = bn.enough_rows(LAB, 3, fewest=4)
    np.testing.assert_array_equal(counted, LAB < 2)
    losses = jnp.arange(24.0)
    assert float(bn.counted_mean(losses, counted)) == pytest.approx(10.0)

    def loss(h):
        return bn.counted_mean((norm("h", h) ** 3).sum(1), counted)

    grad = np.asarray(jax.grad(loss)(jnp.asarray(H)))
    assert np.abs(grad[:21]).max() > 1e-3 and (grad[21:] == 0).all()
    assert float(bn.counted_mean(losses, jnp.zeros(24, bool))) == 0


def test_a_far_laboratory_does_not_blur_another():
    """Catches a common mean: laboratories 1e4 sd apart, each to its own digits."""
    far = H + np.float32(1e4) * LAB[:, None].astype("f4")
    found = np.asarray(bn.by_lab(LAB, 3, fewest=3)("h", jnp.asarray(far)))
    for lab in range(3):
        np.testing.assert_allclose(found[lab == LAB], standardised(far[lab == LAB]), atol=2e-4)


@pytest.mark.slow
def test_places_of_an_image_count_as_rows():
    image = RNG.normal(size=(6, 4, 3, 2)).astype("f4")
    flat = image.reshape(-1, 2)
    truth = standardised(flat).reshape(image.shape)
    np.testing.assert_allclose(bn.by_batch()("h", image), truth, atol=2e-6)
    np.testing.assert_allclose(bn.by_ghost(6)("h", image), truth, atol=2e-6)
    np.testing.assert_allclose(
        bn.by_lab(np.zeros(6, int), 1, fewest=2)("h", image), truth, atol=2e-6
    )
    known = {"h": bn.Statistics(flat.mean(0), flat.var(0), 1)}
    np.testing.assert_allclose(bn.frozen(known)("h", image), truth, atol=2e-6)
    known = {"h": bn.Statistics(flat.mean(0)[None], flat.var(0)[None], 1)}
    np.testing.assert_allclose(bn.frozen(known, np.zeros(6, int))("h", image), truth, atol=2e-6)


def test_frozen_statistics_of_an_unknown_laboratory():
    """Catches the clamped and the wrapped place, which give another laboratory's numbers."""
    known = {"h": bn.Statistics(np.zeros((2, 5)), np.ones((2, 5)), np.ones(2))}
    for wrong in (2, -1):
        lab = np.full(24, wrong)
        with pytest.raises(UsageError, match="from 0 to 1"):
            bn.frozen(known, lab)("h", H)
        inside = jax.jit(lambda h, lab: bn.frozen(known, lab)("h", h))(H, lab)
        assert np.isnan(inside).all()
    with pytest.raises(UsageError, match="lab must be given"):
        bn.frozen(known)("h", H)
    with pytest.raises(UsageError, match="statistics of h"):
        bn.frozen(known)("other", H)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bn.init(0),
        lambda: bn.init(2.5),
        lambda: bn.by_batch(epsilon=0),
        lambda: bn.by_batch(epsilon="a"),
        lambda: bn.by_ghost(1),
        lambda: bn.by_lab(LAB, 0),
        lambda: bn.by_lab(LAB, 3, fewest=1),
        lambda: bn.by_lab(LAB, 3, fewest="a"),
        lambda: bn.by_lab(LAB, True),
        lambda: bn.by_batch()("h", H[0]),
        lambda: bn.by_batch()("h", LAB[:, None]),
        lambda: bn.enough_rows(LAB, 3, fewest=0),
    ],
)
def test_wrong_usage_is_told(wrong):
    with pytest.raises(UsageError):
        wrong()


def net(model, x, norm):
    return norm("h", jnp.tanh(x @ model["w"])) @ model["v"]


def gradient(model, x, y, norm):
    def loss(model):
        return ((net(model, x, norm) - y) ** 2).mean()

    return ravel_pytree(jax.grad(loss)(model))[0]


def mean_and_error(one, draws=10_000):
    """Mean of `one(key)` over many keys, and its Monte-Carlo error, as norms' worth of vectors."""
    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), draws))
    found = np.asarray(found, np.float64)
    return found.mean(0), np.sqrt(found.var(0).sum() / draws)


def halves_less_whole(problem, norm, size):
    """Mean gradient of two mini-batches less that of one with the rows of both.

    Its mean is the bias at `size` less the bias at twice that; the rows' own noise cancels.
    """
    x, y, model = problem

    def one(key):
        at = jax.random.randint(key, (2 * size,), 0, len(x))
        halves = [gradient(model, x[part], y[part], norm) for part in (at[:size], at[size:])]
        return (halves[0] + halves[1]) / 2 - gradient(model, x[at], y[at], norm)

    return mean_and_error(one)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(256, 4)).astype("f4")
    model = {"w": rng.normal(size=(4, 3)).astype("f4"), "v": rng.normal(size=3).astype("f4")}
    return jnp.asarray(x), jnp.asarray(np.sin(x[:, 0]) + 2.0), model


@pytest.mark.slow
def test_mini_batches_of_it_are_biased_as_one_over_b(problem):
    """The mean mini-batch gradient is not the full one: a bias of about c / B."""
    x, y, model = problem
    full = np.linalg.norm(gradient(model, x, y, bn.by_batch()))
    found = {size: halves_less_whole(problem, bn.by_batch(), size) for size in (8, 32)}
    bias = {size: 2 * np.linalg.norm(mean) / full for size, (mean, _) in found.items()}
    for size, (_, error) in found.items():
        assert bias[size] > 5 * 2 * error / full
    assert 3 < bias[8] / bias[32] < 9 and 0.01 < bias[8] < 0.1  # 16 if as 1/B^2


@pytest.mark.slow
def test_frozen_and_ghost_mini_batches_are_not_biased(problem):
    """Catches statistics of the whole mini-batch: to rounding, halves are as good as the whole."""
    x, _, model = problem
    h = np.tanh(np.asarray(x @ model["w"], np.float64))
    known = bn.frozen({"h": bn.Statistics(h.mean(0), h.var(0), len(h))})
    for norm in (known, bn.by_ghost(8)):
        mean, _ = halves_less_whole(problem, norm, 16)
        assert np.abs(mean).max() < 1e-5


@pytest.mark.slow
def test_ghost_batches_with_a_rest_estimate_the_same_loss(problem):
    """Catches a last group of another size: 12 rows by 8 give on average what 8 rows do."""
    x, y, model = problem

    def one(key):
        at = jax.random.randint(key, (12,), 0, len(x))
        return gradient(model, x[at], y[at], bn.by_ghost(8)) - gradient(
            model, x[at[:8]], y[at[:8]], bn.by_batch()
        )

    mean, error = mean_and_error(one)
    assert np.linalg.norm(mean) < 2 * error
