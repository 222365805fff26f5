"""Every optimizer by name, step by step against optax and NumPy.

In float64, with learning rates that float32 holds exactly, so that what is left to differ is
the rounding of schedules, which travel as float32.
"""

from __future__ import annotations

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from numpy.testing import assert_allclose

import plain
from downslope.config import OptimizerName, Training
from downslope.data.stream import Position
from downslope.errors import UsageError
from downslope.step.optimizers import COOL_DOWN, COSINE_SHARE, RULES, make_optimizer, rate_factor
from downslope.train.assemble import assemble

ROWS, BATCH, STEPS = 100, 16, 50  # each seventh batch is short: 4 rows
RATE = 2.0**-5
pytestmark = pytest.mark.usefixtures("quick_compilation")


def loss(model, batch, key):
    x, y = batch
    return 0.5 * (jnp.tanh(x @ model["w"]) @ model["v"] - y) ** 2


@pytest.fixture(scope="module", autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, 4))
    return x, np.sin(x[:, 0]) + 0.1 * rng.normal(size=ROWS)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(4)
    return {"w": 0.5 * rng.normal(size=(4, 3)), "v": rng.normal(size=3)}


@pytest.fixture(scope="module")
def batches(data, model):
    """The batches of the run's first steps, as the stream orders them."""
    setup = assemble(loss, model, data, plain.training(batch_size=BATCH, steps=STEPS))
    found = []
    with setup.first_step.open_stream(Position()) as stream:
        for block in stream:
            for low, high in zip(block.windows.lows, block.windows.highs, strict=True):
                if high > low:
                    found.append(tuple(np.array(a[low:high]) for a in block.rows))
            stream.release(block)
            if len(found) >= STEPS:
                break
    assert [len(b[0]) for b in found[:8]] == [16] * 6 + [4, 16]
    return found[:STEPS]


@pytest.fixture(scope="module")
def gradient():
    """The sum of the rows' gradients by the batch size, also where the batch is short."""
    return jax.jit(jax.grad(lambda m, b: loss(m, b, None).sum() / BATCH))


def by_hand(model, batches, gradient, rule, *, l2=0.0, decay=0.0, rate=RATE):
    """Parameters after every step, with optax used in a plain loop."""

    @jax.jit
    def step(params, state, grads):
        grads = jax.tree.map(lambda g, p: g + l2 * p, grads, params)
        updates, state = rule.update(grads, state, params)
        updates = jax.tree.map(lambda u, p: u - rate * decay * p, updates, params)
        return optax.apply_updates(params, updates), state

    params, state, path = jax.tree.map(jnp.asarray, model), rule.init(model), []
    for batch in batches:
        params, state = step(params, state, gradient(params, batch))
        path.append(params)
    return path, state


def trained(model, data, **options):
    options = {"batch_size": BATCH, "steps": STEPS, "learning_rate": RATE} | options
    result = plain.fit(loss, model, data, **options)
    assert result.num_steps == options["steps"]
    return result.params


def assert_same(found, expected, model, rtol=1e-6):
    for name in model:
        assert found[name].dtype == np.float64
        assert np.abs(expected[name] - model[name]).max() > 1e-4  # the run has moved at all
        assert_allclose(found[name], expected[name], rtol=rtol, atol=rtol)


NAMED = {
    "sgd": optax.sgd(RATE),
    "momentum": optax.sgd(RATE, momentum=0.9),
    "nesterov": optax.sgd(RATE, momentum=0.9, nesterov=True),
    "adagrad": optax.adagrad(RATE),
    "rmsprop": optax.rmsprop(RATE),
    "adam": optax.adam(RATE),
    "nadam": optax.nadam(RATE, b2=0.99),
    "adamw": optax.adamw(RATE, weight_decay=1e-4),
    "schedule_free": optax.contrib.schedule_free_adamw(RATE),
    "prodigy": optax.contrib.prodigy(1.0),
}


def test_every_named_optimizer_is_compared_here():
    """Catches a rule that is added to the table and tested nowhere."""
    assert set(NAMED) == set(RULES) == set(get_args(OptimizerName))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_named_optimizers_equal_optax(name, model, data, batches, gradient):
    """Catches a short batch divided by its own rows, a lost state, y kept for schedule-free's x."""
    path, state = by_hand(model, batches, gradient, NAMED[name])
    expected = path[-1]
    if name == "schedule_free":
        expected = optax.contrib.schedule_free_eval_params(state, expected)
    options = {"learning_rate": 1.0} if name == "prodigy" else {}  # it finds its own
    assert_same(trained(model, data, optimizer=name, **options), expected, model)


@pytest.mark.slow
@pytest.mark.parametrize("in_chain", [False, True])
def test_a_given_schedule_free_rule_keeps_its_average(in_chain, model, data, batches, gradient):
    """Catches the point of its gradients kept for what it trains."""
    free = optax.contrib.schedule_free_adamw(RATE)
    path, state = by_hand(model, batches, gradient, free)
    expected = optax.contrib.schedule_free_eval_params(state, path[-1])
    rule = optax.chain(optax.identity(), free) if in_chain else free
    found = trained(model, data, optimizer=rule, learning_rate="auto")
    assert_same(found, expected, model)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "beta"), [("momentum", 0.5), ("nesterov", 0.75)])
def test_momentum_is_the_heavy_ball(name, beta, model, data, batches, gradient):
    """Catches the exponential average v = bv + (1-b)g, whose step is 1/(1-b) times smaller."""
    params, velocity = model, {k: np.zeros_like(v) for k, v in model.items()}
    for batch in batches:
        g = jax.tree.map(np.asarray, gradient(params, batch))
        velocity = {k: beta * velocity[k] + g[k] for k in g}
        step = {k: g[k] + beta * velocity[k] for k in g} if name == "nesterov" else velocity
        params = {k: params[k] - RATE * step[k] for k in g}
    assert_same(trained(model, data, optimizer=name, momentum=beta), params, model)


WARM, HALF = 8, 20


def _cosine(t):
    return (1 + np.cos(np.pi * t / STEPS)) / 2


SCHEDULES = {
    "cosine": ({"schedule": "cosine"}, _cosine),
    "wsd": ({"schedule": "wsd"}, lambda t: min(1, (1 - t / STEPS) / COOL_DOWN)),
    "flat_cosine": (
        {"schedule": "flat_cosine"},
        lambda t: (1 - np.cos(np.pi * min(1, (1 - t / STEPS) / COSINE_SHARE))) / 2,
    ),
    "inverse_time": (
        {"schedule": "inverse_time", "decay_steps": HALF},
        lambda t: 1 / (1 + t / HALF),
    ),
    "automatic warm-up": (
        {"schedule": "wsd", "warmup_steps": "auto"},
        lambda t: min(1, (t + 1) / 20, (1 - t / STEPS) / (1 - 20 / STEPS) / COOL_DOWN),
    ),
    "warm-up": ({"warmup_steps": WARM}, lambda t: min(1, (t + 1) / WARM)),
    "warm-up, cosine": (
        {"schedule": "cosine", "warmup_steps": WARM},
        lambda t: (
            (t + 1) / WARM if t < WARM else (1 + np.cos(np.pi * (t - WARM) / (STEPS - WARM))) / 2
        ),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_follow_their_formula(name):
    """Catches a schedule a step early or late, or a decay that begins inside the warm-up."""
    options, formula = SCHEDULES[name]
    factor = jax.jit(jax.vmap(rate_factor(plain.training(steps=STEPS, **options)), (0, 0, None)))
    steps = jnp.arange(STEPS, dtype=jnp.int32)
    found = factor(steps, steps / STEPS, jnp.float32(1 / STEPS))
    assert_allclose(found, [formula(t) for t in range(STEPS)], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("steps", "warm"), [(20, 10), (100, 20), (200, 20), (1000, 100)])
def test_an_automatic_warm_up_lasts_at_least_twenty_updates_and_at_most_half(steps, warm):
    """Catches a tenth of a trial, too short for a high rate, and a run that only warms up."""
    factor = rate_factor(plain.training(steps=steps, warmup_steps="auto"))
    before, after = (float(factor(t, (t + 0.0) / steps, 1 / steps)) for t in (warm - 2, warm - 1))
    assert_allclose([before, after], [1 - 1 / warm, 1.0], rtol=1e-5)


@pytest.mark.parametrize("options", [
    {"warmup_steps": "auto"}, {"schedule": "wsd"}, {"schedule": "flat_cosine"},
])  # fmt: skip
def test_without_a_known_end_the_rate_is_held(options):
    """Catches a warm-up that never ends, and a cool-down that has begun."""
    factor = rate_factor(plain.training(**options))
    assert [float(factor(jnp.int32(t), 0.0, 0.0)) for t in (0, 10**6)] == [1.0, 1.0]


@pytest.mark.slow
def test_schedules_reach_the_update(model, data, batches, gradient):
    """Catches a factor that is computed and not used, or that counts windows instead of steps."""
    options, formula = SCHEDULES["warm-up, cosine"]
    table = jnp.asarray([RATE * formula(t) for t in range(STEPS)])
    rule = optax.adam(lambda count: table[count])
    expected = by_hand(model, batches, gradient, rule)[0][-1]
    assert_same(trained(model, data, optimizer="adam", **options), expected, model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_weight_decay_is_decoupled(name, model, data, batches, gradient):
    """Catches decay that is added to the gradient, which Adam would divide away."""
    expected = by_hand(model, batches, gradient, optax.adam(RATE), decay=0.125)[0][-1]
    assert_same(trained(model, data, optimizer=name, weight_decay=0.125), expected, model)


@pytest.mark.slow
def test_l2_is_part_of_the_gradient(model, data, batches, gradient):
    """Catches L2 as decoupled decay, and a penalty of |w|^2 without the half."""
    expected = by_hand(model, batches, gradient, optax.adam(RATE), l2=0.125)[0][-1]
    assert_same(trained(model, data, optimizer="adam", l2=0.125), expected, model)


@pytest.mark.slow
def test_clipping_shortens_the_global_norm(model, data, batches, gradient):
    """Catches clipping leaf by leaf, clipping of the update, and a norm that lengthens."""
    norms = [float(optax.tree.norm(gradient(model, b))) for b in batches]
    norm = 2.0 ** np.round(np.log2(np.median(norms)))
    assert min(norms) < norm < max(norms)
    rule = optax.chain(optax.clip_by_global_norm(norm), optax.sgd(RATE, momentum=0.9))
    expected = by_hand(model, batches, gradient, rule)[0][-1]
    assert_same(trained(model, data, optimizer="momentum", clip_norm=norm), expected, model)


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 20])
def test_polyak_is_the_mean_of_the_iterates(start, model, data, batches, gradient):
    """Catches an average that counts the starting point, or begins a step late."""
    path, _ = by_hand(model, batches, gradient, optax.sgd(RATE))
    expected = jax.tree.map(lambda *p: np.mean(p, axis=0), *path[start:])
    found = trained(model, data, optimizer="sgd", average="polyak", average_from_step=start)
    assert_same(found, expected, model)


@pytest.mark.slow
@pytest.mark.parametrize(("decay", "start", "steps"), [(0.75, 0, 50), (0.9999, 20, 23)])
def test_ema_is_corrected_for_its_start(decay, start, steps, model, data, batches, gradient):
    """Catches an average pulled towards the starting point, and 1 - d lost in float32."""
    path = by_hand(model, batches[:steps], gradient, optax.adam(RATE))[0][start:]
    weights = decay ** np.arange(len(path))[::-1]
    expected = jax.tree.map(lambda *p: np.average(p, axis=0, weights=weights), *path)
    found = trained(
        model, data, optimizer="adam", steps=steps,
        average="ema", ema_decay=decay, average_from_step=start,
    )  # fmt: skip
    assert_same(found, expected, model)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["transformation", "function"])
def test_any_optax_rule_can_be_given(given, model, data, batches, gradient):
    """Catches a rule of the user's that is wrapped in a second learning rate."""
    expected = by_hand(model, batches, gradient, optax.lion(RATE))[0][-1]
    options = {"optimizer": optax.lion(RATE), "learning_rate": "auto"}
    if given == "function":
        options = {"optimizer": optax.lion}
    assert_same(trained(model, data, **options), expected, model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": optax.adam(1e-3), "learning_rate": 0.1}, "learning_rate cannot change"),
        ({"optimizer": optax.adam(1e-3), "schedule": "cosine"}, "schedule cannot change"),
        ({"optimizer": optax.adam(1e-3), "warmup_steps": 5}, "warmup_steps cannot change"),
        ({"optimizer": optax.adam(1e-3), "weight_decay": 0.1}, "weight_decay"),
        ({"optimizer": optax.adam, "learning_rate": 0.1, "weight_decay": 0.1}, "weight_decay"),
        ({"optimizer": optax.lion}, "learning_rate is needed"),
        ({"optimizer": 3}, "a name or an optax transformation; got 3"),
        ({"optimizer": "adamax"}, "optimizer must be one of sgd, .*; got 'adamax'"),
        ({"optimizer": "prodigy", "l1": 0.1}, "no proximal step for optimizer prodigy"),
        ({"optimizer": optax.sgd(0.1), "l1": 0.1}, "no proximal step for optimizer optax"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(options, words):
    """Catches a knob that is silently ignored, such as a schedule beside a finished rule."""
    with pytest.raises(UsageError, match=words):
        make_optimizer(Training(steps=5, **options))
