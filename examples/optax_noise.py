"""Gradient noise scale in your own optax loop: one more link in the chain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from downslope.noise.adapters import measure_noise, read_noise
from downslope.noise.scale import Noise


def loss(params, image, digit):
    """Negative log likelihood of one row in nats."""
    hidden = jax.nn.tanh(image @ params["first"])
    return -jax.nn.log_softmax(hidden @ params["last"])[digit]


def main(steps: int = 300, batch_size: int = 64) -> Noise:
    data = load_digits()
    images, digits = jnp.asarray(data.data / 16, "float32"), jnp.asarray(data.target)
    one, two = jax.random.split(jax.random.key(0))
    params = {
        "first": 0.1 * jax.random.normal(one, (64, 32)),
        "last": 0.1 * jax.random.normal(two, (32, 10)),
    }
    optimizer = optax.chain(measure_noise(window=50), optax.adam(1e-3))
    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))  # one per row, not averaged

    @jax.jit
    def step(params, opt_state, key):
        rows = jax.random.choice(key, len(images), (batch_size,), replace=False)
        updates, opt_state = optimizer.update(
            gradients(params, images[rows], digits[rows]), opt_state, params
        )
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for number in range(1, steps + 1):
        params, opt_state = step(params, opt_state, jax.random.key(number))
        if number % max(steps // 3, 1) == 0:
            print(f"step {number}: noise scale {read_noise(opt_state).scale}")
    noise = read_noise(opt_state)
    print("spent beyond the least:", noise.spent_beyond(batch_size))
    return noise


if __name__ == "__main__":
    main()
