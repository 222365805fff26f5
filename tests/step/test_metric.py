"""The noise scale in the optimizer's metric, where it is known: whole runs, and its intervals."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import downslope
import plain
from downslope.noise.online.probes import compare
from downslope.noise.scale import from_halves
from downslope.step.optimizers import RULES, make_optimizer

# One steep direction with little noise, and twenty flat ones with much.
MEAN = np.r_[3.0, np.full(20, 0.1)]
ROOT = np.r_[3.0, np.full(20, 1.0)]
CURVATURE = np.r_[10.0, np.full(20, 0.1)]
EUCLIDEAN = (ROOT**2).sum() / (MEAN**2).sum()  # 3.2
BATCH = 16


def squares_before(decay, num_steps, num_runs=4000):
    """Draws of v before update `num_steps`, [runs, coordinates], without bias correction."""
    draw, v = np.random.default_rng(11), 0.0
    for _ in range(num_steps):
        g = MEAN + ROOT / BATCH**0.5 * draw.normal(size=(num_runs, len(MEAN)))
        v = decay * v + (1 - decay) * g * g
    return v


def scale_in(weights):
    """B_P for weights that do not depend on the gradients measured."""
    return (weights * ROOT**2).sum() / (weights * MEAN**2).sum()


@functools.cache
def truth(name):
    """B_P at rest: independent of the time once the mean of squares has settled, but for AdaGrad,
    whose sums only grow, all coordinates alike.
    """
    if name == "rmsprop":  # remembers ten updates: its weights never settle
        return scale_in((1 / np.sqrt(squares_before(0.9, 100) + 1e-8)).mean(0))
    return scale_in(1 / np.sqrt(MEAN**2 + ROOT**2 / BATCH))


def bowl(model, batch, key):
    """Gradient at w = 0: the batch's draws of N(MEAN, ROOT^2)."""
    return 0.5 * (CURVATURE * model["w"] ** 2).sum() + batch @ model["w"]


def draws(rng, num):
    return MEAN + ROOT * rng.normal(size=(num, len(MEAN)))


def at_rest(name, **options):
    """Measurements of a run whose parameters do not move."""
    result = plain.fit(
        bowl, {"w": np.zeros(len(MEAN), "float32")}, downslope.Generator(draws), optimizer=name,
        batch_size=BATCH, learning_rate=1e-12, measure_every=1, steps=768, patience=None, **options,
    )  # fmt: skip
    assert np.abs(result.params["w"]).max() < 1e-6
    return result.measurements


@pytest.mark.parametrize(
    "name",
    [
        "adam", "rmsprop",
        *(pytest.param(n, marks=pytest.mark.slow)
          for n in ("adamw", "nadam", "adagrad", "schedule_free", "prodigy")),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("quick_compilation")
def test_both_scales_of_a_known_quadratic(name):
    """Catches 1/v for 1/sqrt(v) (a scale of 38), the square of a mean gradient for the signal
    (one of 10), the Euclidean scale shown twice, and moments that are not those of the rule.
    """
    found = at_rest(name)
    scale, euclidean = found["preconditioned_noise_scale"], found["noise_scale"]
    assert truth(name) > 4 * EUCLIDEAN
    for m, expected in ((scale, truth(name)), (euclidean, EUCLIDEAN)):
        assert m.lo < expected < m.hi, (str(m), expected)
        assert m.hi / m.lo < 1.5
        assert m.unit == "examples"


def test_an_optimizer_without_a_metric_of_its_own_has_one_scale():
    """Catches a second scale that repeats the first, and a guess about a user's own rule."""
    assert RULES["sgd"].metric is RULES["momentum"].metric is RULES["nesterov"].metric is None
    for optimizer in ("momentum", optax.adam, optax.adam(1e-3)):
        given = {"optimizer": optimizer, "learning_rate": "auto"}
        assert make_optimizer(plain.training(**given)).metric is None
    found = at_rest("sgd")
    assert "preconditioned_noise_scale" not in found
    assert found["noise_scale"].lo < EUCLIDEAN < found["noise_scale"].hi


@functools.partial(jax.jit, static_argnames=("name", "begin", "num"))
def measured(key, name, begin, num):
    """Products [num] of updates from `begin` on, in the metric before each update."""
    rule = RULES[name].optax_rule(0.0)

    def step(state, key):
        g = MEAN + ROOT / (BATCH / 2) ** 0.5 * jax.random.normal(key, (2, len(MEAN)))
        half = jnp.float32(BATCH / 2)
        sums = [{"w": half * each} for each in g]
        found = compare(*sums, half, half, None, RULES[name].metric(state))
        _, state = rule.update({"w": g.mean(0)}, state, {"w": jnp.zeros(len(MEAN))})
        return state, (found["preconditioned_dot"], found["preconditioned_square_distance"])

    state = rule.init({"w": jnp.zeros(len(MEAN))})
    _, found = jax.lax.scan(step, state, jax.random.split(key, begin + num))
    return jax.tree.map(lambda a: a[begin:], found)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_intervals_in_the_metric_cover(name):
    """Catches v after the update, which knows the gradients that are compared: for RMSProp that
    makes the scale 16 % too large. And errors of an interval that takes the weights for noise.
    """
    num_runs, begin, num = 1000, 200, 64
    keys = jax.random.split(jax.random.key(5), num_runs)
    dots, distances = jax.vmap(lambda key: measured(key, name, begin, num))(keys)
    found = [
        from_halves(*one, BATCH / 2, BATCH / 2, preconditioned=True).scale
        for one in zip(np.asarray(dots), np.asarray(distances), strict=True)
    ]
    expected = truth(name)
    assert all(m.is_measured for m in found)
    assert 0.93 <= np.mean([m.lo <= expected <= m.hi for m in found]) <= 0.97
    assert abs(np.mean([m.value for m in found]) / expected - 1) < 0.02


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.metric])
def test_a_coordinate_without_a_gradient_has_no_weight(name):
    """Catches 1/eps where v is 0: the first gradient there would outweigh all others."""
    optimizer, params = make_optimizer(plain.training(optimizer=name)), {"w": jnp.ones(3)}
    rule = optimizer.build(1e-3)
    state = rule.init(params)
    gradient = {"w": jnp.array([2.0, 0.5, 0.0])}
    first = optimizer.metric(state)["w"]
    for _ in range(5):
        _, state = rule.update(gradient, state, params)
    weights = np.asarray(optimizer.metric(state)["w"])
    if name == "adagrad":  # optax begins its sums at 0.1
        assert_allclose(first, 0.1**-0.5, rtol=1e-5)
        assert_allclose(weights, [20.1**-0.5, 1.35**-0.5, 0.1**-0.5], rtol=1e-5)
        return
    assert_allclose(first, 0)
    assert weights[2] == 0
    assert_allclose(weights[1] / weights[0], 4, rtol=1e-4)
