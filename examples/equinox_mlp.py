"""An Equinox network, with dropout, trained and read back from its run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import downslope
from downslope.losses import softmax


class Net(eqx.Module):
    """Two layers with dropout between them."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.first = eqx.nn.Linear(64, 128, key=one)
        self.second = eqx.nn.Linear(128, 10, key=two)
        self.dropout = eqx.nn.Dropout(0.2)

    def __call__(self, x, key):
        return self.second(self.dropout(jax.nn.relu(self.first(x)), key=key))


def loss(net, batch, key):
    """Negative log likelihood of each row in nats, shape [B]; every row has its own key."""
    images, digits = batch
    keys = jax.random.split(key, len(digits))
    return softmax(jax.vmap(net)(images, keys), digits)


def held_out_loss(net, batch, key):
    """The same without dropout."""
    return loss(eqx.nn.inference_mode(net), batch, key)


def main(run: str | Path, epochs: int = 20) -> downslope.Result:
    data = load_digits()
    images, digits = (data.data / 16).astype("float32"), data.target
    net = Net(jax.random.key(0))
    result = downslope.fit(
        loss, net, (images, digits), batch_size=64, epochs=epochs, validation=0.2,
        validation_loss=held_out_loss, out=run,
    )  # fmt: skip
    print("held-out loss", result.validation["loss"], "nats -", result.stop_reason)

    trained = eqx.nn.inference_mode(downslope.load_model(run, net))
    guesses = jax.vmap(lambda x: trained(x, None).argmax())(jnp.asarray(images))
    print(f"accuracy on all rows {(guesses == digits).mean():.3f}")
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1] if len(sys.argv) > 1 else Path(scratch) / "run")
