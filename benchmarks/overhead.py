"""Cost of measuring every run: epochs with and without it."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.models import Epochs, hinge, linear_model, mlp_loss, mlp_model, timed_fit
from benchmarks.report import Findings, Row
from benchmarks.timing import ratio, ratio_of, shown, take_turns

TURNS = 9
BAR = 1.03
WITH, WITHOUT = "with measuring", "without"


class Problem(NamedTuple):
    """A problem to train on; `epochs` is chosen so that a turn takes a second or more."""

    what: str
    loss: Any
    model: Any
    data: Any
    epochs: int
    options: dict[str, Any]


def run(quick: bool = False) -> Findings:
    found = Findings()
    for problem in _problems(quick)[: 1 if quick else None]:
        _compare(problem, found, quick)
    return found


def _problems(quick: bool) -> list[Problem]:
    small = 50 if quick else 1
    rows = {
        name: num // small for name, num in (("linear", 10**6), ("mlp", 200_000), ("big", 60_000))
    }
    narrow, wide = (30, 64, 64, 2), (784, 512, 256, 10)
    return [
        Problem(
            f"hinge, {rows['linear']:,} x 64, batch 256, SGD",
            hinge, linear_model(64), _rows(rows["linear"], 64, 2, np.float32), 40,
            {"batch_size": 256, "optimizer": "sgd"},
        ),
        Problem(
            f"MLP 30-64-64-2, {rows['mlp']:,} rows, batch 64, Adam",
            mlp_loss, mlp_model(narrow), _rows(rows["mlp"], 30, 2, np.int32), 12,
            {"batch_size": 64},
        ),
        Problem(
            f"MLP 784-512-256-10, {rows['big']:,} rows, batch 128, Adam",
            mlp_loss, mlp_model(wide), _rows(rows["big"], 784, 10, np.int32), 4,
            {"batch_size": 128},
        ),
    ]  # fmt: skip


def _rows(num_rows: int, width: int, classes: int, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((num_rows, width), dtype=np.float32)
    return x, (x @ draw.standard_normal((width, classes))).argmax(1).astype(kind)


def _compare(problem: Problem, found: Findings, quick: bool) -> None:
    runs: dict[str, list[Epochs]] = {WITH: [], WITHOUT: []}

    def contestant(name: str, **options: Any):
        def turn() -> float:
            runs[name].append(
                timed_fit(
                    problem.loss, problem.model, problem.data,
                    epochs=2 if quick else problem.epochs, patience=None,
                    **problem.options, **options,
                )
            )  # fmt: skip
            return median(runs[name][-1].seconds)

        return turn

    samples = take_turns(
        {WITH: contestant(WITH), WITHOUT: contestant(WITHOUT, measure_every=None)},
        repeats=1 if quick else TURNS,
        warm_up=not quick,
    )
    share = ratio(samples, WITH, WITHOUT)
    firsts = {name: [run.first_seconds for run in runs[name]] for name in runs}
    found.rows += [
        Row(
            what=f"{problem.what}: one epoch, measuring its noise",
            ours=shown(samples[WITH]),
            peer=f"not measuring {shown(samples[WITHOUT])}",
            ratio=f"{share.median:.3f} ({share.low:.3f} to {share.high:.3f})",
            bar=f"at most {BAR}",
            met=share.median <= BAR,
        ),
        Row(
            what="the same: its first epoch, which compiles",
            ours=shown(firsts[WITH]),
            peer=f"not measuring {shown(firsts[WITHOUT])}",
            ratio=ratio_of(firsts[WITH], firsts[WITHOUT]),
        ),
    ]
    found.samples |= {f"{problem.what}, {name}": times for name, times in samples.items()}
    scale = runs[WITH][-1].result.measurements["noise_scale"]
    found.notes.append(f"{problem.what}: the noise scale at its end was {scale}.")
