"""Training, told in the order in which it happens.

source -> order -> blocks -> steps -> measurements -> decisions -> knobs -> steps ...
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from downslope.config import Auto, AverageName, ScheduleName, Training
from downslope.errors import StopReason
from downslope.launch.interrupts import Interrupts
from downslope.launch.memory import memory_errors
from downslope.objective import Loss, Model
from downslope.report.journal import Reader
from downslope.train.assemble import assemble, request_of
from downslope.train.calls import calls
from downslope.train.evaluate import Scorer
from downslope.train.flight import Flight
from downslope.train.pilot import Pilot
from downslope.train.result import Result
from downslope.train.run_folder import Run, open_run
from downslope.train.setup import Engine
from downslope.train.solve import can_solve, solved

HISTORY = (
    "progress",
    "evaluated",
    "measured",
    "anatomy",
    "decided",
)  # journal records that a result keeps


def fit(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    optimizer: Any = Training.optimizer,
    learning_rate: float | Auto = Training.learning_rate,
    momentum: float = Training.momentum,
    batch_size: int | Literal["full"] | Auto = Training.batch_size,
    microbatch_size: int | None = Training.microbatch_size,
    epochs: int | None = Training.epochs,
    steps: int | None = Training.steps,
    seconds: float | None = Training.seconds,
    schedule: ScheduleName | Auto = Training.schedule,
    warmup_steps: int = Training.warmup_steps,
    decay_steps: int | None = Training.decay_steps,
    clip_norm: float | Auto | None = Training.clip_norm,
    weight_decay: float | None = Training.weight_decay,
    l1: float = Training.l1,
    l2: float = Training.l2,
    average: AverageName | Auto | None = Training.average,
    ema_decay: float = Training.ema_decay,
    average_from_step: int = Training.average_from_step,
    patience: int | Auto | None = Training.patience,
    tolerance: float = Training.tolerance,
    measure_every: int | None = Training.measure_every,
    anatomy_share: float | None = Training.anatomy_share,
    checkpoint_seconds: float = Training.checkpoint_seconds,
    seed: int = Training.seed,
    validation: Any = None,
    penalty: Callable[[Model], Any] | None = None,
    penalize: Callable[[Model], Any] | None = None,
    scorer: Scorer | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    metadata: dict[str, Any] | None = None,
    describe: Callable[[Model], dict[str, Any]] | None = None,
    readers: tuple[Reader, ...] = (),
) -> Result:
    """A model trained by mini-batch gradient descent on a loss of your own.

    Minimises the mean of `loss` over the rows of `data`, plus `penalty(model)`,
    `l1 * sum |w|` and `l2 / 2 * sum w^2`.

    Args:
        loss: `loss(model, batch, key) -> losses`, shape [B], one per independent example,
            or a scalar when the examples of a batch interact. `batch` has the structure of
            `data` with B rows; `key` is a JAX random key, new at every step.
        model: any pytree. Its floating-point arrays are trained, the rest stays as it is.
        data: an array, or tuples and dicts of arrays with the same number of rows; a source
            from `downslope.open`; or a `downslope.Generator` of batches.
        validation: held-out rows: a share between 0 and 1 of arrays, or data like `data`.
        penalty: a smooth term added to the mean loss, `penalty(model) -> scalar`.
        penalize: `penalize(model)` gives a tree of bools like the model: where `l1` and `l2`
            act; by default on every trained array.
        scorer: what to measure on held-out rows beside the loss; see `downslope.Scorer`.
        out: folder to make for the run: journal, checkpoints, model. None keeps it in memory.
        resume: folder of a run to go on with, from its last checkpoint; the other arguments
            must be those it was started with, except for limits (epochs, steps, seconds,
            patience, tolerance, checkpoint_seconds).
        metadata: plain values to keep with the run and beside the model.
        describe: `describe(model)` gives more of them once the model is trained.
        readers: functions called with every journal record; one that raises an `Exception` is
            left out from then on, with a warning.

    All other arguments are those of `downslope.Training`.

    Returns:
        The trained model as `.params`, with `.history`, `.validation`, `.stop_reason`. With
        held-out rows and a `patience`, the parameters are those of the lowest held-out loss.

    Raises:
        UsageError: an argument out of range, in conflict, or a loss of a wrong shape.
        DataError: data that cannot be read.
        MismatchError: `resume` names a run of another model, configuration or data.
        CapacityError: memory or disk ran out.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1000, 3)).astype("float32")
        >>> y = x @ np.array([1, -2, 3], "float32")
        >>> model = {"w": np.zeros(3, "float32")}
        >>> def loss(model, batch, key):
        ...     return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2
        >>> result = fit(loss, model, (x, y), optimizer="sgd", epochs=20)
        >>> [round(float(w), 2) for w in result.params["w"]]
        [1.0, -2.0, 3.0]
    """
    given = dict(locals())
    training = Training(**{name: given[name] for name in Training.__dataclass_fields__})
    with memory_errors():
        engine = assemble(
            loss,
            model,
            data,
            training,
            validation=validation,
            penalty=penalty,
            penalize=penalize,
            scorer=scorer,
        )
        request = request_of(engine, training, metadata or {})
        with open_run(request, out=out, resume=resume, readers=readers) as run:
            begun = time.perf_counter()
            quick = None if run.last is not None else can_solve(engine, training)
            result = quick and solved(engine, quick, run)
            result = result or _descend(engine, training, run, begun)
            more = describe(result.params) if describe else {}
            run.finish(result, {**request["metadata"], **more})
            return result


def _descend(engine: Engine, asked: Training, run: Run, begun: float) -> Result:
    """The loop. Every host sync is in `flight`, one call behind the device."""
    resumed = run.last is not None
    flight = Flight(engine, run, begun)
    with Interrupts() as interrupts:
        run.journal.write(
            "resumed" if resumed else "started",
            step=flight.tally.num_steps,
            shuffling=engine.gear.shuffling,
        )
        pilot = Pilot(engine, asked, flight)
        with contextlib.closing(pilot):
            pilot.begin(lambda: interrupts.received is not None)  # -> the first learning rate
            reason = StopReason.INTERRUPTED if interrupts.received is not None else None
            while reason is None:  # the blocks are cut anew: another batch, or back to a good state
                reason = _stretch(pilot, flight, interrupts)
    signal = interrupts.received if reason is StopReason.INTERRUPTED else None
    return _finish(engine, run, flight, pilot, reason, signal)


def _stretch(pilot: Pilot, flight: Flight, interrupts: Interrupts) -> StopReason | None:
    """Trains until there is a reason to stop; None where the blocks must be cut anew."""
    limits, reason = flight.training, None
    with flight.open() as stream:
        for call in calls(stream, flight.pace, flight.steps_left):  # source -> order -> blocks
            flight.launch(call, pilot.knobs)  # -> steps -> measurements of the call before
            if flight.healthy and pilot.evaluates(call):
                reason = pilot.consider(flight.evaluate())  # -> decisions -> knobs
            if interrupts.received is not None:
                reason = StopReason.INTERRUPTED
            elif limits.seconds is not None and flight.seconds >= limits.seconds:
                reason = reason or StopReason.TIME_UP
            if not flight.healthy or reason is not None:
                break
            flight.checkpoint_if_due()
            flight.look_if_due()
            if pilot.turn():
                break
        else:
            reason = StopReason.FINISHED
        flight.land()
    if flight.healthy:
        return reason
    return None if pilot.recover() else StopReason.DIVERGED


def _finish(
    engine: Engine,
    run: Run,
    flight: Flight,
    pilot: Pilot,
    reason: StopReason,
    signal: int | None,
) -> Result:
    """Rolls back if need be, and evaluates what is kept."""
    diverged_at = flight.roll_back() if reason is StopReason.DIVERGED else None
    if reason is not StopReason.DIVERGED:
        flight.checkpoint()  # without the evaluation below, which a longer run does not make here
    params = flight.kept_params()
    validation = flight.validation(params)
    tally, readings = flight.tally, flight.measure()
    flight.write_times()
    return Result(
        params=engine.model(jax.device_get(params)),
        stop_reason=reason,
        history=[r for r in run.journal.records if r["event"] in HISTORY],
        measurements={} if readings is None else readings.measurements(),
        validation=validation,
        train_loss=tally.smoothed_loss if engine.num_rows is None else tally.train_loss,
        num_steps=tally.num_steps,
        num_examples=tally.num_examples,
        num_epochs=engine.num_rows and tally.position.epoch + tally.position.row / engine.num_rows,
        batch_size=flight.gear.batch_rows,
        learning_rate=pilot.now.learning_rate,
        optimizer=engine.optimizer.name,
        seconds=flight.seconds,
        shuffling=flight.gear.shuffling,
        diverged_at_step=diverged_at,
        signal=signal,
        run=run.folder,
    )
