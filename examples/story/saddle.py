"""A saddle point: batch noise leaves it, plain descent stays; and one where both stay."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from trail import BLUE, GREEN, GREY, ORANGE, PICTURES, Trail, canvas, descend, plain_ticks, save

import downslope
from downslope.noise.escape import noise_free_steps, saddle_escape

CURVATURE, RATE, BATCH, FREE = 1.0, 0.01, 8, 0.3  # free: this far from the saddle


def ridge(model, batch, key):
    """Down on both sides of 0, and up again from 1 on; one walker per column."""
    y = model["w"]
    return 1 + jnp.sum(-CURVATURE * y**2 / 2 + y**4 / 4 + batch * y, axis=1)


def product(model, batch, key):
    """A model of two factors: at 0 every row's own gradient is 0, not only their mean."""
    x, y = batch
    return 1 + 0.5 * (model["w"][0] * model["w"][1] * x - y) ** 2


def walkers(size: float, num: int, steps: int, every: int) -> Trail:
    draws = downslope.Generator(
        lambda rng, n: size * rng.choice(np.float32([-1, 1]), size=(n, num))
    )
    return descend(ridge, np.zeros(num), draws, learning_rate=RATE, batch_size=BATCH,
                   steps=steps, keep_every=every)  # fmt: skip


def main(
    out: Path = PICTURES / "saddle.svg",
    num: int = 200,
    steps: int = 2000,
    noises: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01),
    every: int = 5,
) -> dict[str, float]:
    found: dict[str, float] = {}
    figure, (way, when) = canvas(2)

    seen, told = [], []
    for size in noises:
        trail = walkers(size, num, steps, every)
        away = np.abs(trail.places) > FREE
        assert away.any(axis=0).all(), "a walker that is still there would bias the mean"
        seen.append(float(trail.steps[away.argmax(axis=0)].mean()))
        escape = saddle_escape(
            -CURVATURE, size**2, learning_rate=RATE, batch_size=BATCH, distance=FREE
        )
        told.append(escape.steps.value)
        if size == noises[0]:
            for walker in range(4):
                label = "batches of 8, from 0" if walker == 0 else None
                distance = np.maximum(np.abs(trail.places[:, walker]), 1e-7)
                way.semilogy(trail.steps, distance, "-", color=ORANGE, lw=0.8, label=label)

    # Full descent: the same noise in its rows, which adds up to exactly 0 over all of them.
    rows = np.tile(np.float32([[1], [-1]]), (64, 1))
    for start, colour, dashes, label in (
        (0.0, BLUE, "--", "all rows, from 0"),
        (1e-6, GREEN, "-.", "all rows, from a millionth beside 0"),
    ):
        plain = descend(ridge, [start], rows, learning_rate=RATE, batch_size="full", steps=steps,
                        keep_every=every)  # fmt: skip
        distance = np.abs(plain.places[:, 0])
        way.semilogy(plain.steps, np.maximum(distance, 1e-7), dashes, color=colour, label=label)
        found[f"all rows, start {start:g}: largest distance"] = float(distance.max())
        if start:
            found["all rows, from beside: steps"] = float(plain.steps[(distance > FREE).argmax()])
            found["all rows, from beside: told"] = noise_free_steps(
                CURVATURE, start, FREE, learning_rate=RATE
            )
    draw = np.random.default_rng(5)
    x = draw.normal(size=256).astype("float32")
    stuck = descend(product, [0.0, 0.0], (x, 2 * x), learning_rate=0.1, batch_size=1, steps=steps)
    found["two factors, one row a step: largest distance"] = float(np.abs(stuck.places).max())
    way.axhline(FREE, color="k", lw=0.6)
    way.set(title="distance from the saddle", xlabel="step", ylabel="distance (floor: 1e-7)")
    way.set_ylim(5e-8, 300)
    way.legend(loc="upper left", ncols=1, fontsize=8)

    variances = np.square(noises) / BATCH
    when.semilogx(variances, seen, "o", color=ORANGE, label=f"mean of {num} walkers")
    when.semilogx(variances, told, "-", color=GREY, lw=1, label="told by saddle_escape")
    when.axhline(found["all rows, from beside: steps"], color=GREEN, ls="-.", lw=1,
                 label="without noise, from beside 0")  # fmt: skip
    when.set(title="steps until it has left", xlabel="variance of the batch's gradient",
             ylabel="steps", ylim=(0, None))  # fmt: skip
    when.legend(loc="lower left", fontsize=8)
    plain_ticks(way, "y")
    plain_ticks(when, "x")
    save(figure, out)
    found |= {
        "steps, most noise": seen[0],
        "told, most noise": told[0],
        "steps, least noise": seen[-1],
        "told, least noise": told[-1],
        "times less noise variance": (noises[0] / noises[-1]) ** 2,
        "times longer": seen[-1] / seen[0],
    }
    return found


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<48}{number:.4g}")
