"""Any optax optimizer: a finished chain of your own, or a function of the learning rate."""

from __future__ import annotations

import numpy as np
import optax
from sklearn.datasets import load_breast_cancer

import downslope
from downslope.losses import logistic


def loss(model, batch, key):
    """Negative log likelihood of each row in nats, shape [B]."""
    x, y = batch
    return logistic(x @ model["weights"] + model["bias"], y)


def chain(learning_rate):
    """Lion on centred gradients with weight decay, as an example of a chain."""
    return optax.chain(optax.centralize(), optax.lion(learning_rate, weight_decay=1e-3))


def main(epochs: int = 20) -> downslope.Result:
    data = load_breast_cancer()
    x = ((data.data - data.data.mean(0)) / data.data.std(0)).astype("float32")
    y = data.target.astype("float32")
    model = {"weights": np.zeros(x.shape[1], "float32"), "bias": np.zeros((), "float32")}

    def trained(**optimizer):
        return downslope.fit(
            loss, model, (x, y), batch_size=32, epochs=epochs, validation=0.2, **optimizer
        )

    # As a function of the learning rate, so that schedules and decisions can set it.
    result = trained(optimizer=chain, learning_rate=3e-3)
    print("a chain:        held-out loss", result.validation["loss"], "nats")
    # Finished, with a schedule inside: nothing is left to choose.
    schedule = optax.cosine_decay_schedule(0.05, decay_steps=15 * epochs)
    finished = trained(optimizer=optax.adabelief(schedule))
    print("a finished one: held-out loss", finished.validation["loss"], "nats")
    return result


if __name__ == "__main__":
    main()
