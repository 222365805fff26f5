"""Anatomy of the noise for a loss of one's own: the parts put together, outside of training."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from downslope.config import Training
from downslope.data.generator import Generator
from downslope.errors import DataError, UsageError
from downslope.launch.memory import memory_errors
from downslope.noise.online.monitor import NoiseMonitor
from downslope.noise.survey.anatomy import anatomy, check_sections
from downslope.noise.survey.extras import Extras
from downslope.noise.survey.point import PointSettings
from downslope.noise.survey.record import Anatomy
from downslope.objective import Loss, Model
from downslope.report.journal import read_journal
from downslope.step.optimizers import decays, preconditioner, rate_factor
from downslope.step.state import State
from downslope.train.assemble import assemble, rule_of
from downslope.train.checkpoint import Checkpoints
from downslope.train.progress import TrainingProgress
from downslope.train.run_folder import (
    CHECKPOINTS,
    JOURNAL,
    read_request,
    training_of,
    training_reached,
)
from downslope.train.setup import TrainSetup as Engine
from downslope.train.sources import sample
from downslope.train.state import check_format, restore_device, restore_monitor
from downslope.tree import map_arrays, row_bytes

EXAMPLES = 1024  # rows of a sample, where the memory for their gradients allows so many
INTERACTING_BATCHES = 64  # in a sample where the examples of a batch interact
SAMPLE_BYTES = 256 << 20  # of those
MOST_INPUTS = 4096  # columns up to which the inputs' condition number is looked at


def measure(
    loss: Loss,
    model: Model,
    data: Any,
    *,
    training: Training | None = None,
    run: str | os.PathLike[str] | None = None,
    validation: Any = None,
    penalty: Callable[[Model], Any] | None = None,
    penalize: Callable[[Model], Any] | None = None,
    num_examples: int = EXAMPLES,
    sections: Collection[str] | None = None,
    seconds: float | None = None,
    relative_error: float = 0.5,
    miss_probability: float = 0.1,
    extras: Extras | None = None,
    locate: Callable[[Any], Any] | None = None,
) -> Anatomy:
    """What the gradient's noise is like at a point of training: a record for every subject.

    The point is `model`, or where `run` stands. Nothing is trained. A random sample of rows is
    taken; its gradients, one by one, and products with its Hessian tell the rest. Smooth
    penalties (`penalty`, `l2`) belong to the loss, clipping and `l1` do not.

    Args:
        loss, model, data, validation, penalty, penalize: as for `downslope.fit`.
        training: how the point is trained; by default as `run` was, or the defaults of `fit`.
        run: folder of a run on this loss, model and data; its newest checkpoint is looked at.
        num_examples: rows of the sample, at most.
        sections: subjects to look at; see `downslope.noise.anatomy`.
        seconds: begin no further subject after so long.
        relative_error, miss_probability: the smallest batch is asked for whose gradient is at
            most `relative_error * |G|` off, but for a chance of `miss_probability`.
        extras: what else is known of the data, such as columns in stored order.
        locate: `locate(rows) -> row numbers` for some rows; by default the place in arrays.

    Raises:
        UsageError: an argument out of range, or a run of an optimizer that has no name.
        DataError: `run` is no run, or has no checkpoint.
        MismatchError: `run` trained another model.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1000, 3)).astype("float32")
        >>> y = x @ np.array([1, -2, 3], "float32")
        >>> def loss(model, batch, key):
        ...     return 0.5 * (batch[0] @ model["w"] - batch[1]) ** 2
        >>> found = measure(loss, {"w": np.zeros(3, "float32")}, (x, y), sections=["scale"])
        >>> list(found.sections)
        ['scale']
    """
    if num_examples < 2:
        raise UsageError(f"num_examples must be 2 or more; got {num_examples}")
    check_sections(sections)
    if training is None and run is not None:
        training = training_of(Path(run))
    if training is not None and run is not None:
        training = training_reached(run, training)
    if training is None:  # nothing is trained, so an endless source needs no end to be named
        training = Training(steps=1) if isinstance(data, Generator) else Training()
    with memory_errors():
        engine = assemble(
            loss, model, data, training, validation=validation, penalty=penalty, penalize=penalize
        )
        training = engine.training
        params, known, rate = engine.params, extras or Extras(), engine.optimizer.learning_rate
        if run is not None:
            state, known = _from_run(Path(run), engine, training, known)
            params, rate = jax.device_get(state.params), rate_at(engine, training, state)
        else:
            known = dataclasses.replace(known, decays=known.decays or decays(training))
        return look(
            engine,
            training,
            params,
            known,
            learning_rate=rate,
            num_examples=num_examples,
            sections=sections,
            seconds=seconds,
            relative_error=relative_error,
            miss_probability=miss_probability,
            locate=locate,
        )


def look(
    engine: Engine,
    training: Training,
    params: Any,
    extras: Extras,
    *,
    learning_rate: float | None,
    num_examples: int = EXAMPLES,
    relative_error: float = 0.5,
    miss_probability: float = 0.1,
    locate: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Anatomy:
    """The anatomy at these parameters of an engine; see `measure`."""
    if engine.interacts:  # then a batch is one unit
        num_examples = max(num_examples, _rows_of_batches(engine))
    rows, numbers = sample(engine.source, num_examples, training.seed)
    if extras.inputs is None:
        extras = dataclasses.replace(extras, inputs=_inputs(engine.objective.unpack(rows)))
    if extras.row_numbers is None:
        names = numbers
        if locate is not None:
            names = lambda places: locate(map_arrays(lambda a: a[places], rows))  # noqa: E731
        extras = dataclasses.replace(extras, row_numbers=names)
    rule = rule_of(training, engine.optimizer)
    settings = PointSettings(
        batch_size=engine.batch_rows,
        num_rows=engine.num_rows,
        learning_rate=learning_rate,
        **rule,
        is_plain=rule["optimizer"] in ("sgd", "momentum", "nesterov"),
        interacts=engine.interacts,
        relative_error=relative_error,
        miss_probability=miss_probability,
        seed=training.seed,
    )
    return anatomy(
        engine.row_losses,
        params,
        rows,
        settings,
        extras=extras,
        **options,
    )


def _inputs(batch: Any) -> np.ndarray | None:
    """The first numbers of a batch that have columns, [n, p]."""
    for leaf in jax.tree.leaves(batch):
        leaf = np.asarray(leaf)
        if leaf.ndim >= 2 and np.issubdtype(leaf.dtype, np.floating):
            flat = leaf.reshape(len(leaf), -1)
            return flat if 0 < flat.shape[1] <= MOST_INPUTS else None
    return None


def _from_run(
    run: Path, engine: Engine, training: Training, extras: Extras
) -> tuple[State, Extras]:
    """Where a run stands, and what it has measured of itself."""
    read_request(run)
    checkpoint = Checkpoints(run / CHECKPOINTS).newest()
    if checkpoint is None:
        if any(r["event"] == "solved" and r["is_solved"] for r in read_journal(run / JOURNAL)):
            remedy = "measure the table instead, or train with --optimizer adam"
            raise DataError("was solved without a step", path=run, remedy=remedy)
        raise DataError("has no checkpoint yet", path=run, remedy="let it run for a while")
    check_format(checkpoint.document, str(run))
    state, _ = restore_device(checkpoint, engine, str(run))
    progress = TrainingProgress.from_json(checkpoint.document["progress"])
    watch = restore_monitor(checkpoint, engine)
    losses = [r["loss"] for r in read_journal(run / JOURNAL) if r["event"] == "progress"]
    losses = [loss for loss in losses if loss is not None]
    return state, of_state(
        engine,
        training,
        state,
        dataclasses.replace(extras, losses=losses if len(losses) > 1 else None),
        watch,
        # a finished run is asked about as many steps again
        max((engine.num_steps or 0) - progress.num_steps, 0) or progress.num_steps,
    )


def of_state(
    engine: Engine,
    training: Training,
    state: State,
    extras: Extras,
    watch: NoiseMonitor | None,
    steps_left: int | None,
) -> Extras:
    """What the optimizer's state and the measured steps add to the extras."""
    squares = None
    if rule_of(training, engine.optimizer)["optimizer"] == "adagrad" and steps_left:
        import optax

        leaves = jax.tree.leaves(optax.tree.get(state.opt_state, "sum_of_squares"))
        total = sum(float(np.sum(leaf, dtype=np.float64)) for leaf in jax.device_get(leaves))
        squares = total / sum(leaf.size for leaf in leaves), steps_left
    return dataclasses.replace(
        extras,
        decays=extras.decays or decays(training),
        preconditioner=preconditioner(engine.optimizer, state),
        accumulator=squares,
        readings={} if watch is None else watch.read().measurements(),
        trajectory=None if watch is None else watch.trajectory,
    )


def rate_at(engine: Engine, training: Training, state: State) -> float | None:
    """The learning rate of the latest step, with its schedule."""
    rate = engine.optimizer.learning_rate
    if rate is None:
        return None
    factor = rate_factor(training, engine.num_steps)
    return rate * float(factor(jnp.maximum(state.step - 1, 0)))


def _rows_of_batches(engine: Engine) -> int:
    """Rows of so many batches that interact as memory allows, two at least."""
    one = sample(engine.source, 1, 0)[0]
    fit = SAMPLE_BYTES // max(1, engine.batch_rows * row_bytes(one))
    return engine.batch_rows * min(INTERACTING_BATCHES, max(2, fit))
