"""Digits from two scanners: normalise each scanner by itself, freeze exact statistics, predict.

The digits are real (1,797, from scikit-learn); one half is made brighter and of less contrast, as
another scanner would, so that what the normalisation should undo is known.
"""

from __future__ import annotations

import jax
import numpy as np
from sklearn.datasets import load_digits

import downslope
from downslope.losses import softmax
from downslope.recipes import batch_norm


def net(model, x, norm):
    """Two layers with ten outputs; `norm` selects the statistics that normalise their inputs."""
    x = norm("pixels", x)
    hidden = jax.nn.relu(norm("hidden", x @ model["into"], model["norm"]))
    return hidden @ model["out"] + model["shift"]


def loss(model, batch, key):
    """Mean negative log likelihood in nats of a mini-batch from one scanner."""
    (pixels, digits), _ = batch
    return softmax(net(model, pixels, batch_norm.by_batch()), digits).mean()


class Draw(batch_norm.OneLab):
    """Mini-batches of one scanner: pixels and digits."""

    def __call__(self, rng, num_rows):
        places, scanner = super().__call__(rng, num_rows)
        return (PIXELS[places], DIGITS[places]), scanner


PIXELS, DIGITS = load_digits(return_X_y=True)
SCANNER = np.array(["new", "old"])[np.random.default_rng(0).integers(0, 2, len(DIGITS))]
PIXELS = np.where(SCANNER[:, None] == "old", 0.4 * PIXELS + 30, PIXELS).astype("float32")


def main(steps: int = 800) -> downslope.Result:
    for found in batch_norm.findings(
        lambda model, x, norm: norm("pixels", x), {}, PIXELS, lab=SCANNER, batch_size=64
    ):
        print(found)

    train = np.random.default_rng(1).random(len(DIGITS)) < 0.7
    rng = np.random.default_rng(2)
    model = {
        "into": rng.normal(0, 1 / 8, (64, 64)).astype("float32"),
        "norm": batch_norm.init(64),
        "out": rng.normal(0, 1 / 8, (64, 10)).astype("float32"),
        "shift": np.zeros(10, "float32"),
    }
    result = downslope.fit(
        loss,
        model,
        downslope.Generator(Draw(np.flatnonzero(train), SCANNER[train])),
        batch_size=64,
        learning_rate=3e-3,
        steps=steps,
    )

    for scanner in (SCANNER, None):
        lab = None if scanner is None else scanner[train]
        population = batch_norm.population_statistics(net, result.params, PIXELS[train], lab=lab)
        predict = batch_norm.Predictor(net=net, model=result.params, population=population)
        lab = None if scanner is None else scanner[~train]
        right = predict(PIXELS[~train], lab).argmax(1) == DIGITS[~train]
        whose = "of all rows together" if scanner is None else "of each scanner"
        print(f"frozen statistics {whose}: {right.mean():.3f} of the held-out digits are right")
        if scanner is not None:
            print(batch_norm.conditioning(net, result.params, PIXELS[train], population,
                                          lab=scanner[train]))  # fmt: skip
    return result


if __name__ == "__main__":
    main()
