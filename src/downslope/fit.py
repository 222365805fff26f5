"""The training loop, in the order of the flow.

source -> order -> blocks -> steps -> measurements -> decisions -> knobs -> steps ...
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from downslope.choose.solving import asks_for_search
from downslope.config import Auto, AverageName, ScheduleName, Targets, Training
from downslope.launch.interrupts import Interrupts
from downslope.launch.memory import memory_errors
from downslope.objective import Loss, Model
from downslope.report.journal import Reader
from downslope.train.act import decide, turn_knobs
from downslope.train.assemble import assemble, request_of
from downslope.train.begin import begin
from downslope.train.calls import calls
from downslope.train.collect import collect, dispatch
from downslope.train.diagnostics import diagnose_if_due
from downslope.train.evaluate import Scorer
from downslope.train.evaluations import next_mark
from downslope.train.finish import finish
from downslope.train.loop import Loop, end_of_data, goes_on, is_over
from downslope.train.observe import observe, observe_begin, observe_end
from downslope.train.result import Result
from downslope.train.run_folder import RunFolder, open_run
from downslope.train.saving import keep_good_state, save_if_due
from downslope.train.setup import TrainSetup

if TYPE_CHECKING:
    from downslope.train.observer import ObserverCalls


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
    until: Targets | None = Training.until,
    schedule: ScheduleName | Auto = Training.schedule,
    warmup_steps: int | Auto = Training.warmup_steps,
    decay_steps: int | None = Training.decay_steps,
    clip_norm: float | Auto | None = Training.clip_norm,
    weight_decay: float | Auto | None = Training.weight_decay,
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
    validation_loss: Loss | None = None,
    penalty: Callable[[Model], Any] | None = None,
    penalize: Callable[[Model], Any] | None = None,
    scorer: Scorer | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    metadata: dict[str, Any] | None = None,
    conclude: Callable[[Result], Result] | None = None,
    describe: Callable[[Model], dict[str, Any]] | None = None,
    readers: tuple[Reader, ...] = (),
    observer: Callable[[int, float, Model], float | None] | None = None,
) -> Result:
    """Train a model by mini-batch gradient descent on a loss of your own.

    Minimises the mean of `loss` over the rows of `data`, plus `penalty(model)`,
    `l1 * sum |w|` and `l2 / 2 * sum w^2`. The weights of a
    net that held-out rows judge decay besides, unless `weight_decay` or a penalty is given.

    Args:
        loss: `loss(model, batch, key) -> losses`, shape [B], one per independent example,
            or a scalar when the examples of a batch interact. `batch` has the structure of
            `data` with B rows; `key` is a JAX random key, new at every step.
        model: any pytree. Its floating-point arrays are trained, the rest stays as it is.
        data: an array, or tuples and dicts of arrays with the same number of rows; a source
            from `downslope.open`; or a `downslope.Generator` of batches.
        validation: held-out rows: a share between 0 and 1 of arrays, or data like `data`.
        validation_loss: the loss of held-out rows, where it differs from `loss`: without dropout,
            augmentation or smoothed labels. Its shape is that of `loss`.
        penalty: a smooth term added to the mean loss, `penalty(model) -> scalar`.
        penalize: `penalize(model)` gives a tree of bools like the model: where `l1` and `l2`
            act; by default on every trained array.
        scorer: what to measure on held-out rows besides the loss; see `downslope.Scorer`.
        out: folder to make for the run: journal, checkpoints, model. None keeps it in memory.
        resume: folder of a run to resume from its last checkpoint; the other arguments
            must be those it was started with, except for limits (epochs, steps, seconds, until,
            patience, tolerance, checkpoint_seconds).
        metadata: plain values to keep with the run and beside the model.
        conclude: `conclude(result)` gives the result to keep: the same, or one with other
            parameters or metrics. Records that it adds to the end of `history` are journaled.
        describe: `describe(model)` gives more of them once the model is trained.
        readers: functions called with every journal record; one that raises an `Exception` is
            dropped, with a warning.
        observer: `observer(step, seconds, params)`, called with the model while it trains: before
            the first update, then whenever as many seconds have passed as the latest call
            returned (0 for the next occasion, None for none), and once with the result's model.
            Occasions are between calls of the compiled step, of up to 0.4 s unless one update takes
            longer, and never inside a trial or an arm of a branch. `step` counts updates,
            `seconds` the time of training; `params` is a copy of the model that an evaluation would
            use, with JAX arrays. Its time counts as measuring. One that raises an `Exception` is
            dropped, with a warning.

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
        setup = assemble(
            loss,
            model,
            data,
            training,
            validation=validation,
            validation_loss=validation_loss,
            penalty=penalty,
            penalize=penalize,
            scorer=scorer,
        )
        request = request_of(setup, training, metadata or {})
        with open_run(request, out=out, resume=resume, readers=readers) as run:
            begun = time.perf_counter()
            observed = _observed(observer, run)
            result = _solve(setup, training, run) or _train(setup, training, run, begun, observed)
            if conclude is not None:
                result = _concluded(result, conclude, run)
            if observed is not None:
                observed.call(result.num_steps, result.seconds, result.params)
            more = describe(result.params) if describe else {}
            run.finish(result, {**request["metadata"], **more})
            return result


def _observed(
    observer: Callable[[int, float, Model], float | None] | None, run: RunFolder
) -> ObserverCalls | None:
    """Calls of an observer, if there is one."""
    if observer is None:
        return None
    from downslope.train.observer import ObserverCalls  # only what such runs need

    return ObserverCalls(observer, run.journal)


def _concluded(result: Result, conclude: Callable[[Result], Result], run: RunFolder) -> Result:
    """The result to keep, its new records in the journal."""
    found = conclude(result)
    for record in found.history[len(result.history) :]:
        run.journal.write(**record)
    return found


def _solve(setup: TrainSetup, asked: Training, run: RunFolder) -> Result | None:
    """The result of an exact convex quadratic, or None where the least value must be searched."""
    if run.last is not None or asks_for_search(asked):
        return None
    from downslope.train.solve import can_solve, solved  # what only such losses need

    solvable = can_solve(setup, asked)
    return solvable and solved(setup, solvable, run)


def _train(
    setup: TrainSetup,
    asked: Training,
    run: RunFolder,
    begun: float,
    observer: ObserverCalls | None,
) -> Result:
    """Train in one loop: the trials of a learning rate that is left to choose, then the run."""
    with Interrupts() as interrupts, closing(begin(setup, asked, run, interrupts, begun)) as loop:
        loop.observer = observer
        _call_observer(loop)
        turn_knobs(loop, decide(loop, observe_begin(loop)))
        while goes_on(loop):
            _train_on_blocks(loop)
        return finish(loop)


def _train_on_blocks(loop: Loop) -> None:
    """Train until the run or a trial is over, or blocks must be reopened.

    Every host sync is in `collect`, one call behind the device.
    """
    with loop.open_blocks() as blocks:  # source -> order
        length, left = loop.dispatcher.call_length, loop.steps_left
        for call in calls(blocks, length, left, next_mark(loop)):  # -> blocks
            dispatch(loop, call)  # -> steps
            observation = observe(loop, call)  # -> measurements
            decisions = decide(loop, observation)  # -> decisions
            turn_knobs(loop, decisions)  # -> knobs -> steps
            if is_over(loop):
                break
            keep_good_state(loop, observation)
            save_if_due(loop)
            diagnose_if_due(loop)
            _call_observer(loop)
            if loop.reopens:
                break
        else:
            end_of_data(loop)
        collect(loop)
    observation = observe_end(loop)  # the end of a trial, or a step that diverged
    if observation is not None:
        turn_knobs(loop, decide(loop, observation))


def _call_observer(loop: Loop) -> None:
    """Call the observer, if there is one and it is due."""
    if loop.observer is not None:
        loop.observer.call_if_due(loop)
