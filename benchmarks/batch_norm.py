"""Batch normalisation compared with Flax and PyTorch: time of a step, and final statistics.

python -m benchmarks.batch_norm [speed] [statistics]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from downslope.losses import softmax
from downslope.recipes import batch_norm

CALLS = 20
PAIRS = 9
MOMENTUM = 0.99  # of running averages: Flax's default; PyTorch's is 0.9 in the same terms


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    for _ in range(CALLS):
        found = call()
    jax.block_until_ready(found)
    return (time.perf_counter() - begin) / CALLS


def ours(norm: batch_norm.Norm, h: Any) -> Callable[[], Any]:
    layer = jax.tree.map(jnp.asarray, batch_norm.init(h.shape[1]))
    grad = jax.jit(jax.value_and_grad(lambda p: (norm("h", p[0], p[1]) ** 3).sum()))
    return lambda: grad((h, layer))


def in_flax(h: Any, fast: bool) -> Callable[[], Any]:
    """With the variance as E[x^2] - E[x]^2 (fast, Flax's default) or from deviations, as ours."""
    from flax import linen

    module = linen.BatchNorm(use_running_average=False, use_fast_variance=fast)
    variables = module.init(jax.random.key(0), h)

    def loss(p: Any, stats: Any) -> Any:
        given = {"params": p[1], "batch_stats": stats}
        found, moved = module.apply(given, p[0], mutable=["batch_stats"])
        return (found**3).sum(), moved

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return lambda: grad((h, variables["params"]), variables["batch_stats"])


def speed() -> None:
    """Value and gradient of one layer, interleaved; compiled on both sides, PyTorch eager."""
    print("rows x features | us | times that: Flax, of deviations | PyTorch | ghost of 32 | by lab")
    for rows, width in ((64, 128), (256, 512)):
        h = jnp.asarray(np.random.default_rng(0).normal(size=(rows, width)), jnp.float32)
        calls = {
            "ours": ours(batch_norm.by_batch(), h),
            "flax": in_flax(h, True),
            "slow": in_flax(h, False),
            "ghost": ours(batch_norm.by_ghost(32), h),
            "lab": ours(batch_norm.by_lab(jnp.arange(rows) % 4, 4), h),
        }
        torch = in_torch(rows, width)
        if torch is not None:
            calls["torch"] = torch
        for call in calls.values():
            jax.block_until_ready(call())
        times = {name: [] for name in calls}
        for _ in range(PAIRS):
            for name, call in calls.items():
                times[name].append(seconds(call))
        ratio = {
            name: float(np.median(np.divide(values, times["ours"])))
            for name, values in times.items()
        }
        with_torch = f"{ratio['torch']:.2f}" if "torch" in ratio else "not installed"
        print(
            f"{rows} x {width} | {1e6 * np.median(times['ours']):.0f} | {ratio['flax']:.2f}, "
            f"{ratio['slow']:.2f} | "
            f"{with_torch} | {ratio['ghost']:.2f} | {ratio['lab']:.2f}",
            flush=True,
        )


def in_torch(rows: int, width: int) -> Callable[[], Any] | None:
    try:
        import torch
    except ImportError:
        return None
    layer = torch.nn.BatchNorm1d(width)
    h = torch.randn(rows, width, requires_grad=True)

    def call() -> float:
        h.grad = None
        value = (layer(h) ** 3).sum()
        value.backward()
        return value.item()

    return call


def net(model: Any, x: Any, norm: batch_norm.Norm) -> Any:
    hidden = jax.nn.relu(norm("first", x @ model["a"], model["first"]))
    hidden = jax.nn.relu(norm("second", hidden @ model["b"], model["second"]))
    return hidden @ model["out"]


def loss(model: Any, batch: Any, key: Any) -> Any:
    x, y = batch
    return softmax(net(model, x, batch_norm.by_batch()), y).mean()


class Running:
    """Mean and variance of the mini-batches, averaged while training, as libraries keep them."""

    def __init__(self) -> None:
        self.layers: dict[str, Any] = {}

    def see(self, model: Any, x: Any, momentum: float) -> None:
        for name, h in jax.device_get(given(model, x)).items():
            new = np.mean(h, 0, np.float64), np.var(h, 0, np.float64, ddof=1)
            old = self.layers.get(name, (np.zeros(h.shape[1]), np.ones(h.shape[1])))
            self.layers[name] = tuple(
                momentum * a + (1 - momentum) * b for a, b in zip(old, new, strict=True)
            )


@jax.jit
def given(model: Any, x: Any) -> dict[str, Any]:
    """Inputs of the layers, each normalised by the mini-batch."""
    found, norm = {}, batch_norm.by_batch()

    def keep(name: str, h: Any, layer: Any = None) -> Any:
        found[name] = h
        return norm(name, h, layer)

    net(model, x, keep)
    return found


def statistics() -> None:
    """Error of running averages against the statistics of all rows, and the cost of the latter."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    train = np.random.default_rng(0).random(len(x)) < 0.7
    print("momentum, batch | error of the mean, sd | of the variance | nats: running, exact")
    for momentum in (0.9, MOMENTUM):
        for size in (16, 128):
            rng = np.random.default_rng(0)
            wide = lambda a, b, r=rng: r.normal(0, (2 / a) ** 0.5, (a, b)).astype("f4")  # noqa: E731
            model = {
                "a": wide(64, 64), "first": batch_norm.init(64), "b": wide(64, 64),
                "second": batch_norm.init(64), "out": wide(64, 10),
            }  # fmt: skip
            running = Running()
            rule = optax.adam(3e-3)
            state = rule.init(model)

            @jax.jit
            def step(model: Any, state: Any, batch: Any, rule: Any = rule) -> Any:
                change, state = rule.update(jax.grad(loss)(model, batch, None), state)
                return optax.apply_updates(model, change), state

            for _ in range(300):
                at = rng.choice(np.flatnonzero(train), size)
                running.see(model, x[at], momentum)
                model, state = step(model, state, (x[at], y[at]))
            exact = batch_norm.population_statistics(net, model, x[train])
            errors = [
                (
                    np.sqrt(np.mean((running.layers[n][0] - s.mean) ** 2 / s.variance)),
                    np.sqrt(np.mean((running.layers[n][1] / s.variance - 1) ** 2)),
                )
                for n, s in exact.layers.items()
            ]
            nats = []
            # frozen at each of them, on held-out rows
            for layers in (
                {n: batch_norm.Statistics(*v, 1) for n, v in running.layers.items()},
                exact.layers,
            ):
                outputs = net(model, x[~train], batch_norm.frozen(layers))
                nats.append(float(softmax(outputs, y[~train]).mean()))
            mean, variance = np.max(errors, axis=0)
            print(
                f"{momentum}, {size} | {mean:.3f} | {100 * variance:.1f} % | "
                f"{nats[0]:.4f}, {nats[1]:.4f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["speed", "statistics"])
    for name in parser.parse_args().names:
        {"speed": speed, "statistics": statistics}[name]()


if __name__ == "__main__":
    main()
