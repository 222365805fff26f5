"""Heavy tails: the effect of averaging, and the gains and the bias of clipping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import optimize, stats
from trail import BLUE, GREEN, GREY, ORANGE, PICTURES, RED, canvas, descend, plain_ticks, save

import downslope
from downslope.noise.tails import averaging_slope, clipped_mean, concentration

SIZES = (1, 4, 16, 64, 256)


def loss(model, batch, key):
    return 0.5 * (model["w"][0] - batch) ** 2


def stable(draw, alpha: float, num: int):
    """Symmetric alpha-stable numbers (Chambers, Mallows and Stuck 1976)."""
    u, w = draw.uniform(-np.pi / 2, np.pi / 2, num), draw.exponential(size=num)
    first = np.sin(alpha * u) / np.cos(u) ** (1 / alpha)
    return first * (np.cos((1 - alpha) * u) / w) ** ((1 - alpha) / alpha)


def rest(draws, clip_norm: float | None, steps: int) -> np.ndarray:
    """Places of a run that has settled, one row per step."""
    trail = descend(loss, [1.0], downslope.Generator(draws), learning_rate=0.02, batch_size=1,
                    steps=steps, keep_every=10, clip_norm=clip_norm)  # fmt: skip
    return trail.places[len(trail.places) // 10 :, 0]


def told_place(threshold: float) -> float:
    """Point where the mean of the clipped gradients of exponential numbers is 0."""

    def force(place: float) -> float:
        return clipped_mean(stats.expon(loc=-place).cdf, threshold)

    return float(optimize.brentq(force, 0.5, 1.2, xtol=1e-4))


def main(
    out: Path = PICTURES / "heavy-tails.svg", num: int = 64_000, steps: int = 40_000
) -> dict[str, float]:
    found: dict[str, float] = {}
    draw = np.random.default_rng(7)
    figure, (mean, bent, paid) = canvas(3, width=9.4)

    for name, values, colour, marks in (
        ("alpha = 1", stable(draw, 1.0, num), RED, "^:"),
        ("alpha = 1.5", stable(draw, 1.5, num), ORANGE, "s--"),
        ("Gaussian", draw.normal(size=num), BLUE, "o-"),
    ):
        sizes = [b for b in SIZES if b <= num // 100]
        spread = [
            np.median(np.abs(values[: num // b * b].reshape(-1, b).mean(axis=1))) for b in sizes
        ]
        mean.loglog(sizes, np.array(spread) / spread[0], marks, color=colour, ms=4, label=name)
        found[f"slope, {name}"] = averaging_slope(values).value
    mean.set(title="spread of a batch's mean", xlabel="batch", ylabel="share of one row's")
    mean.legend(fontsize=7.5)

    table = stable(draw, 1.5, 5000)  # a stored table: its variance is what it is
    deviations = table - table.mean()
    found["one row's share of the noise"] = concentration(np.abs(deviations)).top_share.value
    batches = table[np.random.default_rng(8).integers(5000, size=(20 * num // 64, 64))].mean(axis=1)
    found["variance x 64 over the table's"] = float(batches.var() * 64 / table.var())

    # Skewed noise: where a clipped run comes to rest. Numbers of mean 1, so it should be 1.
    thresholds = [0.5, 1.0, 2.0, 4.0]
    seen = [rest(lambda rng, n: rng.exponential(size=n), t, steps).mean() for t in thresholds]
    fine = np.geomspace(0.5, 4, 10)  # every third is a threshold
    told = [told_place(t) for t in fine]
    plain = rest(lambda rng, n: rng.exponential(size=n), None, steps).mean()
    bent.semilogx(thresholds, seen, "o", color=GREEN, label="clipped")
    bent.semilogx(fine, told, "-", color=GREY, lw=1, label="told by clipped_mean")
    bent.axhline(plain, color=BLUE, ls="--", lw=1, label="not clipped")
    bent.set(title="skewed noise: where it rests", xlabel="threshold", ylabel="place (mean is 1)")
    bent.legend(fontsize=7.5)
    bent.xaxis.set_minor_locator(bent.xaxis.get_major_locator())
    bent.set_xticks(thresholds, [f"{t:g}" for t in thresholds], minor=False)
    found |= {f"rests at, threshold {t:g}": float(s) for t, s in zip(thresholds, seen, strict=True)}
    found |= {
        f"told, threshold {t:g}": float(s) for t, s in zip(thresholds, told[::3], strict=True)
    }
    found["rests at, not clipped"] = float(plain)

    # What clipping saves: heavy tails without skew.
    def heavy(rng, n):
        return stable(rng, 1.5, n)

    for name, clip, colour, dashes in (("not clipped", None, RED, "-"), ("at 3", 3.0, GREEN, "--")):
        places = rest(heavy, clip, steps)
        few = places[:: max(1, len(places) // 500)]
        at = np.linspace(0.1, 1, len(few)) * steps
        paid.plot(at, few, dashes, color=colour, lw=0.9, label=name)
        found[f"furthest away, {name}"] = float(np.abs(places).max())
    paid.set(title="heavy noise without skew", xlabel="step", ylabel="place (best is 0)")
    paid.legend(fontsize=7.5)
    plain_ticks(mean, "x", "y")
    save(figure, out)
    return found


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<36}{number:.4g}")
