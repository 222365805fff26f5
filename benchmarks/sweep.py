"""Examples per second against batch size: a fixed cost per step, and a cost per example."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from benchmarks.models import hinge, linear_model, mlp_loss, mlp_model, timed_fit
from benchmarks.report import Findings, Row
from benchmarks.timing import ratio, shown, take_turns

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
CLAIM = 400  # the batch size of the claim that batches are hundreds of times faster


def run(quick: bool = False) -> Findings:
    found = Findings()
    sizes = (30, 64, 64, 2)
    rows = 1 << (11 if quick else 16)
    _sweep("linear, 64 inputs", hinge, linear_model(64), _rows(4 * rows, 64), found, quick)
    if quick:
        return found
    _sweep(
        "MLP " + "-".join(map(str, sizes)),
        mlp_loss,
        mlp_model(sizes),
        _rows(rows, 30),
        found,
        quick,
    )
    return found


def _rows(num_rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((num_rows, width), dtype=np.float32)
    return x, (x @ draw.standard_normal(width) > 0).astype(np.int32)


def _sweep(name: str, loss: Any, model: Any, data: Any, found: Findings, quick: bool) -> None:
    num_rows = len(data[1])

    def measure(batch: int) -> Callable[[], float]:
        def epoch() -> float:
            run = timed_fit(
                loss, model, data, epochs=3, batch_size=batch, optimizer="sgd", patience=None
            )
            return median(run.seconds)

        return epoch

    batches = BATCHES[::4] if quick else BATCHES
    contestants = {str(batch): measure(batch) for batch in (*batches, CLAIM)}
    samples = take_turns(contestants, repeats=1 if quick else 5, warm_up=False)
    steps = {b: median(samples[str(b)]) / -(-num_rows // b) for b in batches}
    fixed, each, residual = fit_line(steps)
    found.rows += [
        Row(
            what=f"{name}, SGD, batch {batch}: a step",
            ours=shown([steps[batch]]),
            peer=f"{num_rows / median(samples[str(batch)]):,.0f} examples/s",
            ratio=ratio(samples, "1", str(batch)),
        )
        for batch in batches
    ]
    gain = ratio(samples, "1", str(CLAIM))
    found.notes.append(
        f"{name}: a step takes {shown([fixed])} + {each * 1e9:.3g} ns an example "
        f"(largest relative residual {residual:.0%}); a batch of {CLAIM} goes through the rows "
        f"{gain} times as fast as one example at a time. The ratios are speed-ups over batch 1."
    )
    found.samples |= {f"{name} {batch}": times for batch, times in samples.items()}


def fit_line(steps: dict[int, float]) -> tuple[float, float, float]:
    """Fixed seconds, seconds per example and largest relative residual.

    Least squares of relative residuals, so that the short steps count like the long ones.
    """
    batch, time = np.array(list(steps), float), np.array(list(steps.values()))
    terms = np.stack([np.ones_like(batch), batch], 1) / time[:, None]
    (fixed, each), *_ = np.linalg.lstsq(terms, np.ones_like(time), rcond=None)
    return float(fixed), float(each), float(np.abs((fixed + each * batch) / time - 1).max())
