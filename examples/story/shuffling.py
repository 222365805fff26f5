"""A file sorted by class, read from front to back, and the effect of a shuffle buffer."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from trail import BLUE, GREEN, PICTURES, RED, canvas, descend, plain_ticks, save

from downslope.losses import softmax
from downslope.noise.order import label_variance_ratio, order_after, shuffle_buffer_order

BATCH, RATE = 32, 0.1


def loss(model, batch, key):
    x, y = batch
    return softmax(x @ jnp.reshape(model["w"], (64, 10)), y)


def chances(x, w):
    scores = x @ w.reshape(64, 10)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def read_in_order(x, y, epochs: int, buffer: int, every: int):
    """Descent that reads the file in stored order, through a shuffle buffer of some rows."""
    w, places = np.zeros(640), []
    for epoch in range(epochs):
        order = shuffle_buffer_order(len(x), buffer, seed=epoch)
        for at in range(len(x) // BATCH):
            rows = order[at * BATCH : (at + 1) * BATCH]
            if at % every == 0:
                places.append(w.copy())
            error = chances(x[rows], w) - np.eye(10)[y[rows]]
            w = w - RATE * (x[rows].T @ error).ravel() / BATCH
    return np.array(places)


def main(
    out: Path = PICTURES / "shuffling.svg", epochs: int = 8, shares: int = 12
) -> dict[str, float]:
    digits = load_digits()
    by_class = np.argsort(digits.target, kind="stable")
    x = (digits.data[by_class] / 8 - 1).astype("float32")
    y = digits.target[by_class].astype("int32")
    n, every = len(x), 2
    ways = {
        "front to back": (read_in_order(x, y, epochs, 1, every), RED, ":"),
        "buffer of 5 %": (read_in_order(x, y, epochs, n // 20, every), BLUE, "--"),
        "downslope.fit": (
            descend(
                loss, np.zeros(640), (x, y), learning_rate=RATE, batch_size=BATCH,
                steps=epochs * (n // BATCH), keep_every=every,
            ).places, GREEN, "-",
        ),
    }  # fmt: skip
    found: dict[str, float] = {}
    figure, (price, mended) = canvas(2)
    for name, (places, colour, dashes) in ways.items():
        losses = [-np.mean(np.log(chances(x, w)[np.arange(n), y] + 1e-12)) for w in places]
        steps = np.arange(len(losses)) * every * BATCH / n
        price.semilogy(steps, losses, dashes, color=colour, label=name, lw=1.2)
        found[f"loss, {name}"] = float(np.mean(losses[-len(losses) // epochs :]))  # last epoch
    price.set(title="digits, sorted by class: loss", xlabel="epochs", ylabel="loss")
    price.legend(loc="upper right")

    labels = np.repeat(np.arange(10), 2000)
    sizes = np.unique(np.geomspace(1, len(labels), shares).astype(int))
    ratios = [
        order_after(labels, shuffle_buffer_order(len(labels), int(k)), 50, are_labels=True).value
        for k in sizes
    ]
    mended.semilogx(sizes / len(labels), ratios, "o-", color=BLUE, ms=3.5)
    mended.axhline(1, color="k", lw=0.6)
    mended.axvline(0.05, color=RED, ls=":", lw=1)
    mended.text(0.045, 6, "5 % of the rows", ha="right", color=RED)
    mended.set(title="ten sorted classes, batches of 50", xlabel="buffer, share of rows",
               ylabel="factor on the variance of a batch")  # fmt: skip
    plain_ticks(price, "y", within=(1, 2, 5))
    plain_ticks(mended, "x")
    save(figure, out)
    found["factor, sorted"] = float(label_variance_ratio(labels, 50).ratio.value)
    for share in (0.05, 0.25, 1.0):
        order = shuffle_buffer_order(len(labels), int(share * len(labels)))
        found[f"factor, buffer {share:.0%}"] = order_after(labels, order, 50, are_labels=True).value
    return found


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<28}{number:.4g}")
