"""One run of a rival on a workload, with everything on the clock."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import downslope
from benchmarks.selftuning import probes
from benchmarks.selftuning.clock import Clock
from benchmarks.selftuning.held_out import HeldOutLoss
from benchmarks.selftuning.records import Point, Record
from benchmarks.selftuning.rivals import (
    DOWNSLOPE,
    NADAMW,
    RIVALS,
    Hints,
    Rival,
    with_loss,
    with_value,
)
from benchmarks.selftuning.snapshots import Camera
from benchmarks.selftuning.workloads import Workload
from downslope.choose import branched_critical_batch
from downslope.losses import softmax

# Shares of the horizon at which parameters are copied: a target is mostly reached in the last
# third, where a schedule ends.
SHARES = (*np.geomspace(0.02, 0.4, 7), *np.linspace(0.46, 0.97, 14))
OVERTIME = 1.15  # horizons; what comes later does not count
LEAST_SECONDS = 0.01
DECISIONS = 200  # kept of a run, at most


class Bench:
    """A workload with what its runs share: test loss, update times.

    Attributes:
        workload: the workload.
        test: its test loss.
    """

    def __init__(self, workload: Workload):
        self.workload = workload
        model = jax.tree.map(np.asarray, workload.model(0))
        self.test = HeldOutLoss(workload.test_loss or workload.loss, workload.test, model)
        self.update_seconds = functools.cache(functools.partial(probes.update_seconds, workload))

    @functools.cached_property
    def validation(self) -> HeldOutLoss:
        """Test loss, of the validation rows."""
        workload = self.workload
        model = jax.tree.map(np.asarray, workload.model(0))
        return HeldOutLoss(workload.test_loss or workload.loss, workload.validation, model)

    def hints(self, horizon_seconds: float) -> Hints:
        """Facts that a rival knows before its clock starts."""
        return Hints(
            seconds=self.update_seconds,
            num_steps=lambda size: max(1, round(horizon_seconds / self.update_seconds(size))),
        )


def run(
    bench: Bench,
    rival: Rival,
    *,
    seed: int,
    version: str,
    horizon_seconds: float | None = None,
    shares: Sequence[float] = SHARES,
    validates_end: bool = False,
) -> Record:
    """Run a rival once, then evaluate the copies of its parameters on the test rows.

    Args:
        version: for the record.
        horizon_seconds: instead of the workload's.
        shares: of the horizon, when copies are taken, besides the model that is returned.
        validates_end: note the validation loss of what the run returned in the record.
    """
    warm_up()
    horizon = horizon_seconds or bench.workload.horizon_seconds
    return _run(
        bench, rival, seed=seed, version=version, horizon=horizon, shares=shares,
        validates_end=validates_end,
    )  # fmt: skip


def _run(
    bench: Bench, rival: Rival, *, seed: int, version: str, horizon: float,
    shares: Sequence[float], validates_end: bool,
) -> Record:  # fmt: skip
    workload = bench.workload
    hints = bench.hints(horizon)
    rival.prepare(workload, hints)
    decisions: list[dict[str, Any]] = []
    notes: dict[str, Any] = {}
    with _as_new():
        clock = Clock()
        options = rival.options(workload, hints, clock)
        camera = Camera([clock.moment(share * horizon) for share in shares])
        options |= {"observer": camera}
        result, end = _fit(workload, rival, options, seed, horizon, clock, decisions, notes)
        seconds = clock.seconds
    models = [(clock.at(s.time), s.model, s.step) for s in camera.taken]
    if result is not None:
        models.append((seconds, result.params, result.num_steps))
    points = [
        Point(seconds=at, loss=bench.test.mean(_plain(model, rival)), step=step)
        for at, model, step in sorted(models, key=lambda found: found[0])
        if at <= OVERTIME * horizon
    ]
    if validates_end and models:
        notes["validation_loss"] = bench.validation.mean(_plain(models[-1][1], rival))
    if decisions:
        notes["decisions"] = decisions[-DECISIONS:]
    return Record(
        workload=workload.name,
        rival=rival.name,
        seed=seed,
        version=version,
        horizon_seconds=horizon,
        points=points,
        seconds=round(seconds, 3),
        end=end,
        num_steps=0 if result is None else result.num_steps,
        batch_size=None if result is None else result.batch_size,
        learning_rate=None if result is None else result.learning_rate,
        load=round(os.getloadavg()[0], 2),
        notes=notes,
    )


def _branch(record: dict[str, Any]) -> dict[str, Any]:
    """Predicted and branched critical batch of a decision after a branch."""
    if record.get("policy") != "settle_batch_size":
        return {}
    seen = record["inputs"]
    branched = branched_critical_batch(
        batch_sizes=(seen["batch_size"], seen["candidate"]),
        num_steps=(seen["num_steps"], seen["candidate_steps"]),
        gains=(seen["gain"], seen["candidate_gain"]),
        errors=(seen["gain_error"], seen["candidate_gain_error"]),
        difference_error=seen["gains_error"],
    )
    ends = [branched.value, branched.lo, branched.hi]
    predicted = [seen["noise_scale"], seen["noise_lo"], seen["noise_hi"]]
    return {"predicted": predicted, "branched": ends, "candidate": seen["candidate"]}


def _plain(model: Any, rival: Rival) -> Any:
    """The workload's model."""
    return model["model"] if rival.needs_loss else model


def _fit(
    workload: Workload, rival: Rival, options: dict[str, Any], seed: int, horizon: float,
    clock: Clock, decisions: list[dict[str, Any]], notes: dict[str, Any],
) -> tuple[downslope.Result | None, str]:  # fmt: skip
    """The result of `downslope.fit`, or None, and why it ended."""
    loss, model = workload.loss, workload.model(seed)
    if rival.needs_loss:
        loss, model = with_loss(loss), with_value(model)
    if rival.validates:
        options = options | {"validation": workload.validation}

    def note(record: dict[str, Any]) -> None:
        if record["event"] == "decided" and rival.validates:
            decisions.append(
                {
                    "seconds": round(float(record.get("seconds") or 0), 3),
                    "knob": record["knob"],
                    "new": record["new"],
                    **_branch(record),
                }
            )

    try:
        result = downslope.fit(
            loss, model, workload.train, seed=seed, readers=(note,),
            seconds=max(LEAST_SECONDS, horizon - clock.seconds), **options,
        )  # fmt: skip
    except downslope.DownslopeError as error:
        return None, f"{type(error).__name__}: {error}"[:200]
    seconds = sum(result.spent_seconds.values())
    if seconds and rival.validates:
        notes["spent"] = {kind: spent / seconds for kind, spent in result.spent_seconds.items()}
    if result.stop_reason is downslope.StopReason.INTERRUPTED:
        raise KeyboardInterrupt  # `fit` caught the signal meant for the benchmark
    return result, result.stop_reason.name


@functools.cache
def warm_up() -> None:
    """Make short runs of a toy, since what a process does only once is no part of a run."""

    def loss(model: Any, batch: Any, key: Any) -> Any:
        x, y = batch
        return softmax(jax.nn.relu(x @ model["hidden"]) @ model["out"], y)

    def model(seed: int) -> Any:
        draw = np.random.default_rng(seed)
        shapes = {"hidden": (4, 8), "out": (8, 2)}
        return {name: draw.normal(size=s).astype(np.float32) for name, s in shapes.items()}

    x = np.random.default_rng(0).normal(size=(512, 4)).astype(np.float32)
    rows = x, (x[:, 0] > 0).astype(np.int32)
    toy = Workload(
        name="toy", kind="dense", loss=loss, model=model, train=rows, validation=rows, test=rows,
        horizon_seconds=3,
    )  # fmt: skip
    for rival in (RIVALS[DOWNSLOPE], RIVALS[NADAMW]):
        _run(Bench(toy), rival, seed=0, version="", horizon=3, shares=SHARES, validates_end=True)


@contextlib.contextmanager
def _as_new() -> Iterator[None]:
    """Forget every compiled program first, and read none from disk inside."""
    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    jax.clear_caches()
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)
