"""Batch size that reaches a target soonest: measured steps times measured seconds per step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trail import BLUE, GREEN, GREY, ORANGE, PICTURES, canvas, descend, plain_ticks, save

import downslope
from downslope.choose import sweet_spot
from downslope.losses import logistic
from downslope.noise.scale import fit_critical_batch, from_examples
from downslope.train.timing import time_steps

SIZES = (1, 4, 16, 64, 256, 1024, 4096)


def loss(model, batch, key):
    x, y = batch
    return logistic(x @ model["w"], y)


def main(
    out: Path = PICTURES / "sweet-spot.svg",
    rows: int = 16384,
    sizes: tuple[int, ...] = SIZES,
    repeats: int = 9,
    most: int = 12_000,
) -> dict[str, float]:
    draw = np.random.default_rng(4)
    scales = np.geomspace(1, 0.3, 24)
    x = (draw.normal(size=(rows, 24)) * scales).astype("float32")
    y = (x @ draw.normal(size=24) + draw.logistic(size=rows) > 0).astype("float32")

    def full(places):
        scores = (places @ x.T) * (1 - 2 * y)
        return np.logaddexp(0, scores).mean(axis=1)

    least = full(descend(loss, np.zeros(24), (x, y), learning_rate=4.0, batch_size="full",
                         steps=400).places[-1:])[0]  # fmt: skip
    target = least + 0.02 * (np.log(2) - least)  # all but a fiftieth of the way down

    # Steps to the target, each size at the best rate of three: once, twice and four times that of
    # the size before, since larger batches allow larger rates.
    steps, halfway, first_rates = {}, None, sizes[0] * np.array([0.01, 0.02, 0.04, 0.08])
    before = 0.02
    for size in sizes:
        limit = max(100, most // size)
        tried = []
        for rate in before * np.array([1.0, 2.0, 4.0]) if steps else first_rates:
            keep = max(1, limit // 1500)
            trail = descend(loss, np.zeros(24), (x, y), learning_rate=rate, batch_size=size,
                            steps=limit, keep_every=keep)  # fmt: skip
            there = np.flatnonzero(full(trail.places) < target)
            if len(there):
                tried.append((int(trail.steps[there[0]]), rate))
                halfway = trail.places[there[0] // 2] if halfway is None else halfway
        if tried:
            steps[size], before = min(tried)

    times = time_steps(
        loss, {"w": np.zeros(24, "float32")}, (x, y), batch_sizes=tuple(steps), repeats=repeats,
        training=downslope.Training(optimizer="sgd", learning_rate=0.01),
    )  # fmt: skip
    law = fit_critical_batch(list(steps), list(steps.values()))
    chances = 1 / (1 + np.exp(-x @ halfway))
    noise = from_examples((chances - y)[:, None] * x)
    best = sweet_spot(times=times, noise_scale=law.batch_size.value)

    b = np.array(list(steps))
    counted = np.array(list(steps.values()))
    step_seconds = np.array([times.predict(size) for size in b])
    seconds = counted * step_seconds
    figure, (left, right) = canvas(2)
    left.loglog(b, counted, "o", color=BLUE, label="steps, counted")
    fine = np.geomspace(b[0], b[-1], 100)
    s_min, e_min = law.min_steps.value, law.min_examples.value
    left.loglog(fine, s_min + e_min / fine, "-", color=BLUE, lw=1, label="S = S_min + E_min / b")
    left.loglog(b, step_seconds * 1e6, "s--", color=ORANGE, ms=4, label="microseconds a step")
    left.set(title="steps to the target, time of a step", xlabel="batch size")
    left.legend()
    right.loglog(b, seconds * 1e3, "o", color=GREEN, label="counted x timed")
    curve = np.array([(s_min + e_min / size) * times.predict(size) for size in fine]) * 1e3
    right.loglog(fine, curve, "-", color=GREEN, lw=1, label="by the law")
    right.axvspan(*best.near, color=GREY, alpha=0.2, lw=0, label="within 10 %")
    right.axvline(best.batch_size, color="k", ls=":", lw=1)
    right.set(title="time to the target", xlabel="batch size", ylabel="milliseconds")
    right.legend()
    plain_ticks(left, "x", "y")
    plain_ticks(right, "x")
    plain_ticks(right, "y", within=(1, 2, 5))
    save(figure, out)
    return {
        "best batch, counted": float(b[np.argmin(seconds)]),
        "best batch, by the law": float(best.batch_size),
        "near from": best.near[0],
        "near to": best.near[1],
        "critical batch": law.batch_size.value,
        "noise scale halfway": noise.scale.value or float("nan"),
        "fixed cost in examples": times.half_size.value or float("nan"),
        "line off by": times.line_residual,
        "closed form": best.closed_form or float("nan"),
        "largest residual of the law": law.largest_residual,
        "rows a second at 400, over one by one": 400 * times.predict(1) / times.predict(400),
        "time, smallest batch over best": float(seconds[0] / seconds.min()),
        "time, largest batch over best": float(seconds[-1] / seconds.min()),
        "time at twice the best, over best": (s_min + e_min / (2 * best.batch_size))
        * times.predict(min(2 * best.batch_size, b[-1])) / curve.min() * 1e3,
    } | {f"steps at {size}": float(count) for size, count in steps.items()}  # fmt: skip


if __name__ == "__main__":
    for name, number in main().items():
        print(f"{name:<36}{number:.4g}")
