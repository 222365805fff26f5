"""One valley, three descents: all rows, one row, or a few rows per step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trail import BLUE, GREEN, ORANGE, PICTURES, Trail, canvas, descend, plain_ticks, save

NEAR = 0.01  # arrived: a hundredth of the height above the lowest point
WAYS = {
    "all rows": ("full", (0.1, 0.2, 0.4), BLUE, "-"),
    "one row": (1, (0.001, 0.003, 0.01), ORANGE, ":"),
    "32 rows": (32, (0.02, 0.06, 0.2), GREEN, "--"),
}


def loss(model, batch, key):
    x, y = batch
    return 0.5 * (x @ model["w"] - y) ** 2


def main(
    out: Path = PICTURES / "three-descents.svg", rows: int = 1024, most: int = 4096, tries: int = 3
) -> dict[str, float]:
    draw = np.random.default_rng(1)
    x = (draw.normal(size=(rows, 2)) * [2.0, 0.7]).astype("float32")  # a long valley
    y = (x @ [1.0, -1.0] + 0.5 * draw.normal(size=rows)).astype("float32")
    hessian = x.T @ x / rows
    lowest = np.linalg.solve(hessian, x.T @ y / rows)
    start = np.array([-1.0, 2.0])

    def height(places):
        away = places - lowest
        return 0.5 * np.einsum("ni,ij,nj->n", away, hessian, away)

    def walk(batch: int | str, rate: float) -> tuple[int, Trail]:
        """Number of steps until the walker has arrived, or one more than were made."""
        steps = 400 if batch == "full" else most
        trail = descend(loss, start, (x, y), learning_rate=rate, batch_size=batch, steps=steps)
        there = np.flatnonzero(height(trail.places) < NEAR * height(start[None])[0])
        return (int(there[0]) if len(there) else steps + 1), trail

    figure, (valley, curve) = canvas(2)
    a, b = np.meshgrid(np.linspace(-1.3, 1.8, 32), np.linspace(-1.8, 2.3, 32))
    levels = height(np.stack([a.ravel(), b.ravel()], axis=1)).reshape(a.shape)
    valley.contour(a, b, levels, levels=[0.05, 0.3, 1, 2.5, 5, 9], colors="#bbbbbb", linewidths=0.7)
    found: dict[str, float] = {}
    for name, (batch, rates, colour, dashes) in WAYS.items():
        # each way at its own best rate, as a careful hiker would choose it
        (steps, trail), _rate = min(
            ((walk(batch, r), r) for r in rates[-tries:]), key=lambda w: w[0][0]
        )
        a_step = rows if batch == "full" else int(batch)
        found |= {f"steps, {name}": steps, f"rows, {name}": steps * a_step}
        heights = height(trail.places)
        found[f"uphill, {name}"] = float(np.mean(np.diff(heights[: steps + 1]) > 0))
        place = trail.places[: steps + 1]
        if len(place) > 100:
            place = place[:: len(place) // 100]
        valley.plot(*place.T, dashes, color=colour, label=name, lw=1.3)
        read = np.maximum(trail.steps * a_step, 1)
        few = np.unique(np.geomspace(1, len(read), 150).astype(int)) - 1
        curve.loglog(read[few], heights[few], dashes, color=colour, label=name, lw=1.3)
    valley.plot(*lowest, "k+", ms=9)
    valley.set(title="the way each takes", xlabel="first weight", ylabel="second weight")
    curve.axhline(NEAR * height(start[None])[0], color="k", lw=0.6)
    curve.set(title="height above the lowest point", xlabel="rows read", ylabel="loss above least")
    curve.set_xlim(8, None)
    curve.set_ylim(1e-5, 20)
    curve.legend(loc="lower left")
    plain_ticks(curve, "x", "y")
    save(figure, out)

    # all rows at once, or 64 at a time: the same step, for a fraction of the memory
    asked = {"learning_rate": 0.2, "batch_size": "full", "steps": 20}
    whole = descend(loss, start, (x, y), **asked)
    parts = descend(loss, start, (x, y), microbatch_size=64, **asked)
    found["largest difference in parts"] = float(np.abs(whole.places - parts.places).max())
    return found


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<28}{number:.4g}")
