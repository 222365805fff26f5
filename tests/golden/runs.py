"""Small training runs on public names only, of which nothing depends on wall time.

Batch sizes are given and no run has a time budget: both would let the clock decide. Epochs have
at most 64 windows, so that a call to the device is an epoch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import downslope
from downslope import Result, losses

WIDTH = 6


def _rows(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and the probability of class 1, which a small net can learn."""
    x = np.random.default_rng(seed).normal(size=(num_rows, WIDTH)).astype("float32")
    score = 3 * np.tanh(x[:, 0] + x[:, 1]) - 2 * np.tanh(x[:, 2] - x[:, 3])
    return x, 1 / (1 + np.exp(-score))


def _classes(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, p = _rows(num_rows, seed)
    drawn = np.random.default_rng(seed + 1000).random(num_rows)
    return x, (drawn < p).astype("float32")


def _numbers(num_rows: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(num_rows, WIDTH)) * np.logspace(0, -1, WIDTH)).astype("float32")
    y = x @ np.linspace(-2, 3, WIDTH) + 0.5 + noise * rng.normal(size=num_rows)
    return x, y.astype("float32")


def _line() -> dict[str, np.ndarray]:
    return {"b": np.zeros((), "float32"), "w": np.zeros(WIDTH, "float32")}


def _net(width: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "a": rng.normal(size=(WIDTH, width)).astype("float32") / 3,
        "c": rng.normal(size=width).astype("float32") / 3,
    }


def _squared(model, batch, key):
    return 0.5 * (batch[0] @ model["w"] + model["b"] - batch[1]) ** 2


def _logistic(model, batch, key):
    score = batch[0] @ model["w"] + model["b"]
    return jnp.logaddexp(0.0, score) - batch[1] * score


def _tanh_net(model, batch, key):
    score = jnp.tanh(batch[0] @ model["a"]) @ model["c"]
    return jnp.logaddexp(0.0, score) - batch[1] * score


def _relu_net(model, batch, key):
    score = jax.nn.relu(batch[0] @ model["a"]) @ model["c"]
    return jnp.logaddexp(0.0, score) - batch[1] * score


def _noisy_net(model, batch, key):
    """Noise of the loss's own: a repeated or skipped key would show."""
    x = batch["x"] + 0.1 * jax.random.uniform(key, batch["x"].shape)
    return losses.huber(jnp.tanh(x @ model["a"]) @ model["c"], batch["y"])


def _batch_normalised(model, batch, key):
    hidden = batch[0] @ model["a"]
    hidden = (hidden - hidden.mean(0)) / jnp.sqrt(hidden.var(0) + 1e-3)
    score = jnp.tanh(hidden) @ model["c"]
    return (jnp.logaddexp(0.0, score) - batch[1] * score).mean()


def linear() -> list[Result]:
    """Least squares by momentum, its rate searched for from the curvature."""
    result = downslope.fit(
        _squared,
        _line(),
        _numbers(1500, 0),
        optimizer="momentum",
        batch_size=32,
        epochs=24,
        validation=_numbers(500, 1),
        measure_every=8,
        seed=1,
    )
    return [result]


def svm() -> list[Result]:
    """The hinge loss by plain descent, at a rate that is given."""
    from downslope.sklearn import LinearSVC

    x, y = _classes(1800, 2)
    machine = LinearSVC(
        loss="hinge", alpha=1e-3, optimizer="sgd", learning_rate=0.1, batch_size=32, max_iter=15,
        random_state=3,
    )  # fmt: skip
    return [machine.fit(x, y).result_]


def mlp() -> list[Result]:
    """All but the batch size left to choose: search, cooling, a new start, convergence."""
    result = downslope.fit(
        _tanh_net,
        _net(24),
        _classes(300, 4),
        batch_size=32,
        measure_every=16,
        validation=_classes(1200, 5),
    )
    return [result]


def own_loss() -> list[Result]:
    """A random loss of a dictionary, with penalties, a held-out share and every choice free."""
    x, _ = _rows(2000, 6)
    y = np.tanh(x[:, 0] - x[:, 1]) + 0.1 * np.random.default_rng(7).standard_t(3, size=len(x))
    result = downslope.fit(
        _noisy_net,
        _net(),
        {"x": x, "y": y.astype("float32")},
        batch_size=64,
        validation=0.2,
        l2=1e-3,
        penalty=lambda m: 1e-3 * jnp.abs(m["c"]).sum() ** 1.5,
        penalize=lambda m: {"a": True, "c": False},
        measure_every=8,
        seed=8,
    )
    return [result]


def generator() -> list[Result]:
    """Drawn batches: no epochs, and an end that is known."""

    def draw(rng, num_rows):
        x = rng.normal(size=(num_rows, WIDTH))
        return x, np.tanh(x[:, 0] + x[:, 1]) > rng.normal(size=num_rows)

    def loss(model, batch, key):
        return _tanh_net(model, (batch[0], batch[1].astype(jnp.float32)), key)

    result = downslope.fit(
        loss,
        _net(),
        downslope.Generator(draw),
        batch_size=32,
        steps=300,
        seed=9,
        measure_every=8,
    )
    return [result]


def accumulation() -> list[Result]:
    """Batches of three micro-batches, the last of them partial, with all kinds of decay."""
    result = downslope.fit(
        _tanh_net,
        _net(),
        _classes(500, 10),
        optimizer="adamw",
        learning_rate=0.01,
        weight_decay=0.01,
        l1=1e-4,
        batch_size=24,
        microbatch_size=10,
        epochs=12,
        warmup_steps=20,
        schedule="cosine",
        validation=0.2,
        patience=4,
        measure_every=4,
    )
    return [result]


def full_batch() -> list[Result]:
    """All rows in every update."""
    result = downslope.fit(
        _logistic,
        _line(),
        _classes(400, 11),
        optimizer="nesterov",
        batch_size="full",
        epochs=150,
        validation=_classes(300, 12),
        l2=1e-3,
        measure_every=4,
    )
    return [result]


def clipping() -> list[Result]:
    """Rows scaled by Cauchy numbers, which auto begins to clip; and a norm that was given."""
    x, y = _numbers(1000, 13)
    x = (x * np.abs(np.random.default_rng(14).standard_cauchy(len(x)))[:, None]).astype("float32")

    def loss(model, batch, key):
        return losses.huber(batch[0] @ model["w"] + model["b"], batch[1])

    given = {"optimizer": "sgd", "batch_size": 16, "measure_every": 2}
    found = downslope.fit(loss, _line(), (x, y), learning_rate=1e-3, epochs=8, **given)
    fixed = downslope.fit(
        loss, _line(), (x, y), learning_rate=0.02, schedule="inverse_time", decay_steps=50,
        epochs=4, clip_norm=2.0, **given,
    )  # fmt: skip
    return [found, fixed]


def averaging() -> list[Result]:
    """The plain mean of the parameters from a step on."""
    result = downslope.fit(
        _squared,
        _line(),
        _numbers(900, 15),
        optimizer="sgd",
        learning_rate=0.1,
        l2=0.01,
        batch_size=16,
        epochs=10,
        schedule="constant",
        average="polyak",
        average_from_step=101,
        validation=_numbers(300, 16),
        patience=None,
    )
    return [result]


def resume() -> list[Result]:
    """Two sessions, which end in the middle of epochs of 20 updates."""
    x, y = _classes(600, 17)
    found = []
    with tempfile.TemporaryDirectory() as parent:
        for steps in (53, 131):
            folder = {"resume" if found else "out": Path(parent) / "run"}
            found.append(
                downslope.fit(
                    _noisy_net,
                    _net(),
                    {"x": x, "y": y},
                    optimizer="adam",
                    learning_rate=0.01,
                    schedule="constant",
                    batch_size=24,
                    microbatch_size=10,
                    average="ema",
                    ema_decay=0.98,
                    clip_norm=0.5,
                    patience=1000,
                    validation=0.2,
                    steps=steps,
                    measure_every=4,
                    seed=18,
                    **folder,
                )
            )
    return found


def weights() -> list[Result]:
    """Weighted rows of three classes, by an optimizer that averages by itself."""
    from downslope.sklearn import LinearClassifier

    x, p = _rows(1700, 19)
    y = np.digitize(p, [0.3, 0.7])
    weight = np.random.default_rng(20).exponential(size=len(x))
    model = LinearClassifier(optimizer="schedule_free", batch_size=32, max_iter=12, random_state=21)
    return [model.fit(x, y, sample_weight=weight).result_]


def interacting() -> list[Result]:
    """A batch-normalised net: the batch, not the row, is the independent unit."""
    result = downslope.fit(
        _batch_normalised,
        _net(),
        _classes(1024, 22),
        batch_size=32,
        epochs=15,
        validation=_classes(512, 23),
        measure_every=8,
        seed=24,
    )
    return [result]


def recovery() -> list[Result]:
    """A rate a hundred times too high: back to the start, with a lower one."""
    result = downslope.fit(
        _relu_net,
        _net(16),
        _classes(1600, 25),
        optimizer="sgd",
        learning_rate=3000.0,
        batch_size=32,
        epochs=12,
        validation=_classes(400, 26),
    )
    return [result]


RUNS: dict[str, Callable[[], list[Result]]] = {
    run.__name__: run
    for run in (
        linear, svm, mlp, own_loss, generator, accumulation, full_batch, clipping, averaging,
        resume, weights, interacting, recovery,
    )
}  # fmt: skip
