"""Rate over batch as heat: where it holds, where it misleads, and cooling down."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from trail import BLUE, GREEN, GREY, ORANGE, PICTURES, RED, canvas, descend, plain_ticks, save

import downslope
from downslope.noise.temperature import effective_temperature, reshuffling_ratio


def bowl(model, batch, key):
    """Half the squared distance from the batch's points; one walker per column, all alike."""
    return 0.5 * jnp.sum((model["w"] - batch) ** 2, axis=1)


def fresh(width: int) -> downslope.Generator:
    return downslope.Generator(lambda rng, n: rng.normal(size=(n, width)).astype("float32"))


def heat(
    rate: float, batch: int, momentum: float, walkers: int, steps: int
) -> tuple[float, float, float]:
    """Temperature of walkers at rest: measured, as in the story, and from the settings."""
    trail = descend(bowl, np.zeros(walkers), fresh(walkers), learning_rate=rate, batch_size=batch,
                    steps=steps, momentum=momentum or None, keep_every=10)  # fmt: skip
    at_rest = trail.places[len(trail.places) // 4 :]
    told = effective_temperature(
        float(walkers), walkers, learning_rate=rate, batch_size=batch, sampling="streaming",
        momentum=momentum, momentum_kind="heavy_ball",
    ).value  # fmt: skip
    return float(np.mean(at_rest**2)), rate / (2 * batch), told  # E w L'(w), and L'(w) = w


def shuffled(num_rows: int, batch: int, num: int, walkers: int, steps: int):
    """Variance of directions of different curvature under epochs in random order."""
    draw = np.random.default_rng(6)
    rows = draw.normal(size=(num_rows, num * walkers)).astype("float32")
    rows -= rows.mean(axis=0)
    curvature = np.repeat(np.geomspace(0.02, 20, num), walkers).astype("float32")
    rate = 0.05

    def valley(model, batch, key):
        return jnp.sum(0.5 * curvature * model["w"] ** 2 - curvature * model["w"] * batch, axis=1)

    trail = descend(valley, np.zeros(num * walkers), rows, learning_rate=rate, batch_size=batch,
                    steps=steps, keep_every=7)  # fmt: skip
    x = rate * curvature
    replaced = x * rows.var(axis=0) / batch / (2 - x)  # drawn with replacement, at rest
    ratio = (trail.places[len(trail.places) // 4 :] ** 2).mean(axis=0) / replaced
    return x[::walkers], ratio.reshape(num, walkers).mean(axis=1)


def main(
    out: Path = PICTURES / "temperature.svg", walkers: int = 100, steps: int = 6000
) -> dict[str, float]:
    found: dict[str, float] = {}
    figure, (same, slow, cooling) = canvas(3, width=9.4)

    settings = [
        (0.02, 32, 0.0), (0.01, 8, 0.0), (0.02, 16, 0.0), (0.04, 32, 0.0), (0.04, 8, 0.0),
        (0.16, 16, 0.0), (0.01, 8, 0.9), (0.02, 32, 0.9),
    ]  # fmt: skip
    heats = np.array([heat(*each, walkers, steps) for each in settings])
    moves = np.array([each[2] > 0 for each in settings])
    for which, mark, colour, label in (
        (~moves, "o", BLUE, "plain"), (moves, "^", RED, "momentum 0.9"),
    ):  # fmt: skip
        same.loglog(heats[which, 1], heats[which, 0], mark, color=colour, label=label, ms=5)
    ends = np.array([heats[:, 1].min(), heats[:, 1].max()])
    same.loglog(ends, ends, "-", color=GREY, lw=1, label="rate / (2 batch)")
    same.loglog(ends, 10 * ends, ":", color=GREY, lw=1, label="the same / (1 - 0.9)")
    same.set(title="heat of walkers at rest", xlabel="rate / (2 batch)", ylabel="temperature")
    same.legend(fontsize=7.5, loc="upper left")
    same.set_ylim(None, 0.06)
    three = heats[1:4, 0]  # one ratio of rate to batch, three ways
    found["largest of three at one ratio, over least"] = float(three.max() / three.min())
    found["plain, seen over told"] = float(np.mean(heats[~moves, 0] / heats[~moves, 2]))
    found["momentum, seen over rate / (2 batch)"] = float(
        np.mean(heats[moves, 0] / heats[moves, 1])
    )
    found["momentum, seen over told"] = float(np.mean(heats[moves, 0] / heats[moves, 2]))

    x, ratio = shuffled(512, 8, 8, max(8, walkers // 4), steps)
    told = [reshuffling_ratio(float(each), 64).epoch_average for each in x]
    slow.loglog(x * 64, ratio, "o", color=ORANGE, label="seen")
    slow.loglog(x * 64, told, "-", color=GREY, lw=1, label="reshuffling_ratio")
    slow.axhline(1, color="k", lw=0.6)
    slow.set(title="epochs in random order: share left", xlabel="rate x curvature x batches",
             ylabel="variance / that of fresh rows")  # fmt: skip
    slow.legend(fontsize=7.5, loc="lower right")
    found["slowest direction, share of its heat"] = float(ratio[0])
    found["slowest direction, told"] = told[0]
    found["fastest direction, share of its heat"] = float(ratio[-1])

    # From 3 beside the lowest point: hot, cold, and hot at first; 400 walkers' mean.
    many, half = 4 * walkers, 60
    hot = descend(
        bowl, np.full(many, 3.0), fresh(many), learning_rate=0.1, batch_size=8, steps=3 * half
    )
    cold = descend(bowl, np.full(many, 3.0), fresh(many), learning_rate=0.00625, batch_size=8,
                   steps=3 * half)  # fmt: skip
    turn = hot.places[half]
    lower = descend(
        bowl, turn, fresh(many), learning_rate=0.025, batch_size=8, steps=2 * half, seed=1
    )
    larger = descend(
        bowl, turn, fresh(many), learning_rate=0.1, batch_size=32, steps=2 * half, seed=1
    )
    for name, steps_of, places, colour, dashes in (
        ("hot", hot.steps, hot.places, RED, "-"),
        ("cold", cold.steps, cold.places, BLUE, ":"),
        ("rate / 4 at 60", half + lower.steps, lower.places, GREEN, "--"),
        ("batch x 4 at 60", half + larger.steps, larger.places, ORANGE, "-."),
    ):
        height = np.mean(places**2, axis=1) / 2
        cooling.semilogy(steps_of, height, dashes, color=colour, label=name, lw=1.3)
        found[f"height at the end, {name}"] = float(height[-20:].mean())
    cooling.set(title="cooling down", xlabel="step", ylabel="loss above least")
    cooling.legend(fontsize=7.5)
    for axes, names in ((same, "xy"), (slow, "xy"), (cooling, "y")):
        plain_ticks(axes, *names)
    save(figure, out)
    return found


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<44}{number:.4g}")
