"""A small network in a plain dict, on the columns of a data frame, which the loss reads by name."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from sklearn.datasets import load_wine

import downslope
from downslope.losses import softmax

NAMES = ("alcohol", "flavanoids", "color_intensity", "proline")


def loss(model, batch, key):
    """Negative log likelihood of each row in nats, shape [B]; `batch[name]` has shape [B]."""
    x = jnp.stack([batch[name] for name in NAMES], axis=1)
    hidden = jnp.tanh(x @ model["first"] + model["shift"])
    return softmax(hidden @ model["last"], batch["kind"])


def main(epochs: int = 60) -> downslope.Result:
    data = load_wine()
    scaled = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    frame = pa.table({**dict(zip(data.feature_names, scaled.T, strict=True)), "kind": data.target})
    # A pandas or polars data frame, or any other with the Arrow interface, works the same way.
    rng = np.random.default_rng(0)
    model = {
        "first": rng.normal(size=(len(NAMES), 16)).astype("float32"),
        "shift": np.zeros(16, "float32"),
        "last": np.zeros((16, 3), "float32"),
    }
    result = downslope.fit(loss, model, frame, batch_size=16, epochs=epochs, validation=0.2)
    print("held-out loss", result.validation["loss"], "nats -", result.stop_reason)
    return result


if __name__ == "__main__":
    main()
