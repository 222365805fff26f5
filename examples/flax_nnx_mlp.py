"""A Flax NNX network: an `nnx.Module` is a pytree, so it can be trained directly.

Dropout takes its keys in the loss: `net(images, rngs=nnx.Rngs(key))`. If a module holds
arrays that are not to be trained, such as the statistics of `nnx.BatchNorm`, take them out:
`graph, params, rest = nnx.split(net, nnx.Param, ...)`, train `params`, and let the loss begin
with `net = nnx.merge(graph, params, rest)`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
from flax import nnx
from sklearn.datasets import load_digits

import downslope
from downslope.losses import softmax


class Net(nnx.Module):
    """Two layers."""

    def __init__(self, rngs):
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.last = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


def loss(net, batch, key):
    """Negative log likelihood of each row in nats, shape [B]."""
    images, digits = batch
    return softmax(net(images), digits)


def main(run: str | Path, epochs: int = 20) -> downslope.Result:
    data = load_digits()
    images, digits = (data.data / 16).astype("float32"), data.target
    net = Net(nnx.Rngs(0))
    result = downslope.fit(
        loss, net, (images, digits), batch_size=64, epochs=epochs, validation=0.2, out=run
    )
    print("held-out loss", result.validation["loss"], "nats -", result.stop_reason)

    trained = downslope.load_model(run, net)
    guesses = trained(jnp.asarray(images)).argmax(1)
    print(f"accuracy on all rows {(guesses == digits).mean():.3f}")
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1] if len(sys.argv) > 1 else Path(scratch) / "run")
