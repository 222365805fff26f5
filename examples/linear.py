"""A linear model in three lines, trained on arrays in memory with a loss of your own."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

import downslope


def loss(model, batch, key):
    """Half the squared error of each row, shape [B]."""
    x, y = batch
    return 0.5 * (x @ model["weights"] + model["bias"] - y) ** 2


def main(epochs: int = 200) -> downslope.Result:
    data = load_diabetes()
    x = ((data.data - data.data.mean(0)) / data.data.std(0)).astype("float32")
    y = ((data.target - data.target.mean()) / data.target.std()).astype("float32")
    model = {"weights": np.zeros(x.shape[1], "float32"), "bias": np.zeros((), "float32")}
    result = downslope.fit(
        loss, model, (x, y), optimizer="sgd", batch_size=32, epochs=epochs, validation=0.2
    )
    print("held-out loss", result.validation["loss"], "-", result.stop_reason)
    return result


if __name__ == "__main__":
    main()
