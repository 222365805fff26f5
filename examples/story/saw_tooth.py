"""Why the loss goes down like a saw: steps that go uphill, and batches that disagree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trail import BLUE, GREEN, GREY, ORANGE, PICTURES, canvas, descend, plain_ticks, save

from downslope.noise.gradient import expected_angle, one_step_change
from downslope.noise.scale import from_examples


def loss(model, batch, key):
    x, y = batch
    return 0.5 * (x @ model["w"] - y) ** 2


def problem(rows: int, width: int):
    draw = np.random.default_rng(2)
    x = draw.normal(size=(rows, width)).astype("float32")
    y = (x @ draw.normal(size=width) / np.sqrt(width) + draw.normal(size=rows)).astype("float32")
    return x, y


def gradients_at(x, y, w):
    return ((x @ w - y)[:, None] * x).astype("float64")  # [n, d]: one per row


def batches(gradients, batch: int, num: int, seed: int):
    """Gradients of batches of rows drawn at random, with replacement."""
    rows = np.random.default_rng(seed).integers(len(gradients), size=(num, batch))
    return np.stack([gradients[each].mean(axis=0) for each in rows])


def angles(gradients, batch: int, pairs: int):
    """Degrees between the gradients of two batches, for many pairs."""
    a, b = (batches(gradients, batch, pairs, seed) for seed in (3, 4))
    cosine = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def main(
    out: Path = PICTURES / "saw-tooth.svg", rows: int = 4096, steps: int = 400, pairs: int = 1000
) -> dict[str, float]:
    x, y = problem(rows, 10)
    hessian = x.T @ x / rows
    found: dict[str, float] = {}
    figure, (saw, apart) = canvas(2)
    for batch, colour, dashes in ((8, ORANGE, "-"), (128, BLUE, "--")):
        trail = descend(
            loss, np.zeros(10), (x, y), learning_rate=0.1, batch_size=batch, steps=steps
        )
        full = np.mean((trail.places @ x.T - y) ** 2, axis=1) / 2
        found[f"rises at the floor, batch {batch}"] = float(np.mean(np.diff(full[50:]) > 0))
        found[f"mean loss at the floor, batch {batch}"] = float(full[50:].mean())
        if batch == 8:  # on the way down: the instrument's prediction, and a thousand steps tried
            place = trail.places[10]
            there, rate = gradients_at(x, y, place), 0.1
            told = one_step_change(
                there[:1000], lambda v: hessian @ v, learning_rate=rate, batch_size=8
            )
            tried = place - rate * batches(there, 8, pairs, seed=5)
            after = np.mean((tried @ x.T - y) ** 2, axis=1) / 2
            found["rises on the way, seen"] = float(np.mean(after > full[10]))
            found["rises on the way, told"] = told.probability_up.value or float("nan")
        saw.plot(trail.steps, full, dashes, color=colour, lw=1, label=f"{batch} rows a step")
    saw.set(title="loss over all rows, after each step", xlabel="step", ylabel="loss")
    saw.legend()

    sizes = np.array([1, 2, 4, 8, 16, 32, 64])
    for width, colour, marks in ((2, ORANGE, "o-"), (200, GREEN, "s--")):
        x, y = problem(rows, width)
        there = gradients_at(x, y, np.zeros(width))
        scale = from_examples(there).scale.value
        seen = [angles(there, int(b), pairs) for b in sizes]
        shares = [float(np.mean(each > 90)) for each in seen]
        apart.semilogx(sizes / scale, shares, marks, color=colour, ms=4, label=f"{width} weights")
        told = [expected_angle(there, int(b)).probability_obtuse.value for b in sizes]
        apart.semilogx(sizes / scale, told, ":", color=GREY, lw=1)
        found[f"noise scale, {width} weights"] = scale
        found[f"over 90 degrees at one row, {width} weights"] = shares[0]
        found[f"over 90 degrees at 64 rows, {width} weights"] = shares[-1]
        found[f"median of those angles, {width} weights"] = float(np.median(seen[0][seen[0] > 90]))
    apart.plot([], [], ":", color=GREY, label="told by the instrument")
    apart.set(title="pairs of batches over 90 degrees apart", xlabel="batch / noise scale",
              ylabel="share of pairs", ylim=(-0.02, 0.52))  # fmt: skip
    apart.legend()
    plain_ticks(apart, "x")
    save(figure, out)
    return found


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<44}{number:.4g}")
