"""Points drawn anew for every batch: a small network learns a function it can sample anywhere."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import downslope


def draw(rng: np.random.Generator, num_rows: int) -> np.ndarray:
    """Points between -1 and 1, shape [num_rows, 1]."""
    return rng.uniform(-1, 1, (num_rows, 1)).astype("float32")


def loss(model, x, key):
    """Half the squared distance to sin(3x) at each point, shape [B]."""
    hidden = jnp.tanh(x @ model["in"] + model["shift"])
    return 0.5 * ((hidden @ model["out"])[:, 0] - jnp.sin(3 * x[:, 0])) ** 2


def main(steps: int = 3000) -> downslope.Result:
    rng = np.random.default_rng(0)
    model = {
        "in": rng.normal(size=(1, 32)).astype("float32"),
        "shift": rng.normal(size=32).astype("float32"),
        "out": np.zeros((32, 1), "float32"),
    }
    result = downslope.fit(
        loss, model, downslope.Generator(draw), learning_rate=1e-2, steps=steps, average="ema"
    )
    print(f"loss {result.train_loss:.2g} after {result.num_steps:,} steps")
    return result


if __name__ == "__main__":
    main()
