"""The noise scale in training loops of others: an optax chain, and halves of batches.

Each test's comment names the wrong implementation that it catches.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from downslope.errors import UsageError
from downslope.noise.adapters import HalfBatches, measure_noise, read_noise
from downslope.noise.scale import from_halves, from_terms


def draws(steps, count, size=1, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": (0.3 + rng.standard_normal((steps, count, 4, 5)) / size**0.5).astype("float32"),
        "b": (0.1 + rng.standard_normal((steps, count, 3)) / size**0.5).astype("float32"),
    }


def flat(grads):
    return np.concatenate([g.reshape(*g.shape[:2], -1) for g in grads.values()], axis=-1)


def u_statistics(g, size):
    """Mean product of two different microbatches, and trace of their covariance, of each step."""
    count = g.shape[1]
    pairs = np.einsum("kid,kjd->kij", g, g)[:, ~np.eye(count, dtype=bool)].mean(-1)
    return pairs, size * g.var(axis=1, ddof=1).sum(-1)


PARAMS = {"w": jnp.zeros((4, 5)), "b": jnp.zeros(3)}


# catches: sums of one leaf alone; the microbatch size left out; the mean not passed on
@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_the_link_measures_what_the_norms_tell(size):
    grads = draws(20, 6, size)
    optimizer = optax.chain(measure_noise(size), optax.adam(0.1))
    plain = optax.adam(0.1)
    state, other = optimizer.init(PARAMS), plain.init(PARAMS)
    for k in range(20):
        now = {name: jnp.asarray(g[k]) for name, g in grads.items()}
        updates, state = optimizer.update(now, state, PARAMS)
        mean = jax.tree.map(lambda g: g.mean(0), now)
        truth, other = plain.update(mean, other, PARAMS)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, truth)
    signal, trace = u_statistics(flat(grads).astype(float), size)
    found, expected = read_noise(state), from_terms(signal, trace)
    assert found.scale.value == pytest.approx(expected.scale.value, rel=1e-4)
    assert found.trace.value == pytest.approx(trace.mean(), rel=1e-4)
    assert found.signal.value == pytest.approx(signal.mean(), rel=1e-4)
    assert found.scale.lo == pytest.approx(expected.scale.lo, rel=1e-3)
    assert found.scale.num_examples == 20 * 6 * size and found.scale.num_steps == 20


# catches: a state whose shape or type changes after the first step; a window that never forgets
def test_under_scan_and_jit_the_window_moves_on():
    grads = draws(12, 4)
    grads = {name: np.where(np.arange(12).reshape(-1, *[1] * (g.ndim - 1)) < 7, 9 * g, g)
             for name, g in grads.items()}  # fmt: skip
    optimizer = optax.chain(optax.identity(), measure_noise(window=5), optax.sgd(0.1))
    start = optimizer.init(PARAMS)

    @jax.jit
    def run(state):
        def body(state, now):
            updates, state = optimizer.update(now, state, PARAMS)
            return state, updates

        return jax.lax.scan(body, state, jax.tree.map(jnp.asarray, grads))

    end, updates = run(start)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), start, end)
    assert all(jax.tree.leaves(same))
    assert updates["w"].shape == (12, 4, 5)
    trace = u_statistics(flat(grads)[7:].astype(float), 1)[1]
    assert read_noise(end).trace.value == pytest.approx(trace.mean(), rel=1e-4)
    assert read_noise(end).trace.num_steps == 5


def test_half_precision_is_summed_in_float32():
    grads = {"w": jnp.asarray(draws(1, 64)["w"][0], jnp.bfloat16)}
    link = measure_noise()
    updates, state = link.update(grads, link.init(PARAMS))
    assert updates["w"].dtype == jnp.bfloat16
    truth = np.asarray(grads["w"], np.float64).reshape(64, -1).var(axis=0, ddof=1).sum()
    assert float(state.trace[0]) == pytest.approx(truth, rel=1e-5)


def test_wrong_usage_of_the_link():
    link = measure_noise()
    for bad in (
        {"w": jnp.ones((1, 3))},
        {"w": jnp.ones((2, 3)), "b": jnp.ones((3, 3))},
        jnp.ones(()),
    ):
        with pytest.raises(UsageError, match="updates"):
            link.update(bad, link.init(PARAMS))
    with pytest.raises(UsageError, match="opt_state"):
        read_noise(optax.adam(0.1).init(PARAMS))
    with pytest.raises(UsageError, match="microbatch_size"):
        measure_noise(0)
    with pytest.raises(UsageError, match="window"):
        measure_noise(window=1)
    assert not read_noise(link.init(PARAMS)).scale.is_measured


class Tensor:
    """What a PyTorch tensor looks like from outside."""

    def __init__(self, values):
        self.values = values

    def detach(self):
        return self

    def cpu(self):
        return self

    def double(self):
        return self

    def numpy(self):
        return np.asarray(self.values, np.float64)


# catches: order of a dictionary; sizes swapped; iterators used up by the first pass
@pytest.mark.parametrize("kind", ["dict", "list", "iterator", "tensor"])
def test_halves_of_any_kind(kind):
    grads = draws(10, 2, size=16, seed=3)
    halves = HalfBatches()
    for k in range(10):
        one, two = ({name: g[k, i] for name, g in grads.items()} for i in (0, 1))
        if kind == "dict":
            two = dict(reversed(two.items()))
        elif kind == "list":
            one, two = [*one.values(), None], [*two.values(), None]
        elif kind == "iterator":
            one, two = iter(one.values()), iter(two.values())
        else:
            one, two = ([Tensor(g) for g in half.values()] for half in (one, two))
        halves.add(one, two, 8 + k, 16)
    a, b = np.moveaxis(flat(grads).astype(float), 1, 0)
    sizes = 8.0 + np.arange(10)
    expected = from_halves((a * b).sum(1), ((a - b) ** 2).sum(1), sizes, 16)
    assert halves.noise().scale.value == pytest.approx(expected.scale.value, rel=1e-6)
    assert halves.noise().trace.num_steps == 10
    assert halves.noise(last=4).trace.num_steps == 4


def test_wrong_usage_of_halves():
    halves = HalfBatches(interacting=True)
    assert not halves.noise().scale.is_measured
    one = np.ones(3)
    for first, second, words in (
        ({"a": one}, {"b": one}, "same arrays"),
        ([one, None], [one, one], "same arrays"),
        (one, np.ones(4), "shapes"),
        ([], [], "at least one"),
        ("abc", "abc", "got str"),
    ):
        with pytest.raises(UsageError, match=words):
            halves.add(first, second, 4, 4)
    with pytest.raises(UsageError, match="size_second"):
        halves.add(one, one, 4, 0)
    with pytest.raises(UsageError, match="last"):
        halves.noise(last=0)
    assert halves.noise().trace.num_steps == 0
    for k in range(3):
        halves.add(one * np.nan if k else one, one, 4, 4)
    assert not halves.noise().scale.is_measured
