"""Shared parts of the story's chapters: a run with recorded steps, and the look of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

import downslope

matplotlib.use("svg")  # no window, no display
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "story" / "pictures"

# Colours of Okabe and Ito, for colour-blind readers; lines differ in dashes too.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"

PLAIN = {"schedule": "constant", "average": None, "clip_norm": None, "patience": None}


class Trail(NamedTuple):
    """One descent: the position before each recorded step, and the result of the run."""

    steps: np.ndarray
    places: np.ndarray
    result: downslope.Result


def descend(
    loss: Any,
    start: Any,
    data: Any,
    *,
    learning_rate: float,
    batch_size: int | str,
    steps: int,
    keep_every: int = 1,
    momentum: float | None = None,
    **options: Any,
) -> Trail:
    """Plain descent by `downslope.fit` with all settings given, recording the parameters.

    An optax transformation at the end of the chain sends them out of the compiled loop. That is
    slow, so only every `keep_every`-th step is recorded.
    """
    kept: list[tuple[int, np.ndarray]] = []

    def write(step: Any, place: Any) -> None:
        kept.append((int(step), np.array(place)))

    def update(updates: Any, step: Any, params: Any) -> tuple[Any, Any]:
        def send() -> None:
            jax.debug.callback(write, step, params["w"])

        jax.lax.cond(step % keep_every == 0, send, lambda: None)
        return updates, step + 1

    keep = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
    result = downslope.fit(
        loss,
        {"w": np.asarray(start, "float32")},
        data,
        optimizer=optax.chain(optax.sgd(learning_rate, momentum), keep),
        batch_size=batch_size,
        steps=steps,
        measure_every=None,
        **PLAIN | options,
    )
    jax.effects_barrier()  # the last ones may still be in transit
    kept.sort(key=lambda each: each[0])
    return Trail(np.array([s for s, _ in kept]), np.array([p for _, p in kept]), result)


def canvas(panels: int = 1, width: float = 7.6, height: float = 3.3) -> tuple[Any, list[Any]]:
    """Figure with axes side by side."""
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "downslope",
            "text.parse_math": False,
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "path.simplify_threshold": 0.5,
        }
    )
    figure, axes = plt.subplots(1, panels, figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(axes))


def plain_ticks(axes: Any, *names: str, within: tuple[float, ...] = (1,)) -> None:
    """Label powers of ten on a logarithmic axis as plain numbers.

    `within=(1, 2, 5)` labels these steps of each power too.
    """
    for name in names:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(base=10, subs=within, numticks=8 * len(within)))
        axis.set_major_formatter(lambda value, place: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())


def save(figure: Any, out: Path) -> None:
    """Write the same bytes for the same numbers: no date, no random names."""
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    # matplotlib leaves a space at the end of some lines
    lines = [line.rstrip() for line in out.read_text(encoding="utf-8").splitlines()]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
