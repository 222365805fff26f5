"""Survey of gradient noise at a point of training, outside the training loop."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from downslope.arguments import whole
from downslope.config import KnobSettings, Training
from downslope.data.generator import Generator
from downslope.errors import DataError
from downslope.launch.memory import memory_errors
from downslope.noise.online.monitor import NoiseMonitor
from downslope.noise.survey.anatomy import anatomy, check_sections
from downslope.noise.survey.point import Extras, PointSettings
from downslope.noise.survey.record import Anatomy
from downslope.objective import Loss, Model
from downslope.report.journal import read_journal
from downslope.step.optimizers import decays, preconditioner, rate_factor
from downslope.step.state import Knobs, State
from downslope.train.assemble import assemble, rule_of
from downslope.train.checkpoint import Checkpoints
from downslope.train.horizon import Horizon
from downslope.train.progress import TrainingProgress
from downslope.train.run_folder import (
    CHECKPOINTS,
    JOURNAL,
    read_request,
    training_of,
    training_reached,
)
from downslope.train.setup import TrainSetup, device_knobs
from downslope.train.sources import sample
from downslope.train.state import check_format, restore_device, restore_monitor
from downslope.tree import map_arrays, row_bytes

MAX_EXAMPLES = 1024  # rows of a sample, where memory allows their gradients
INTERACTING_BATCHES = 64  # in a sample where the examples of a batch interact
SAMPLE_BYTES = 256 << 20  # of those
MAX_INPUTS = 4096  # columns up to which the inputs' condition number is computed


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
    num_examples: int = MAX_EXAMPLES,
    sections: Collection[str] | None = None,
    seconds: float | None = None,
    relative_error: float = 0.5,
    miss_probability: float = 0.1,
    extras: Extras | None = None,
    locate: Callable[[Any], Any] | None = None,
) -> Anatomy:
    """Measure the gradient noise at a point of training, by subject, without training.

    The point is `model`, or the newest checkpoint of `run`. The gradients of a random sample of
    rows, one by one, and products with its Hessian give the rest. Smooth penalties (`penalty`,
    `l2`) belong to the loss, clipping and `l1` do not.

    Args:
        loss, model, data, validation, penalty, penalize: as for `downslope.fit`.
        training: how the point is trained; by default as `run` was, or the defaults of `fit`.
        run: folder of a run on this loss, model and data.
        num_examples: rows of the sample, at most.
        sections: subjects to measure; see `downslope.noise.anatomy`.
        seconds: begin no further subject after this time.
        relative_error, miss_probability: accuracy for the subject `required`: the error of a
            batch's gradient is at most `relative_error * |G|`, except with `miss_probability`.
        extras: further facts about the data, such as columns in stored order.
        locate: `locate(rows) -> row numbers` for some rows; by default the place in arrays.

    Raises:
        UsageError: an argument out of range, or a run of an optimizer that has no name.
        DataError: `run` is not the folder of a run, or has no checkpoint.
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
    whole("num_examples", num_examples, least=2)
    check_sections(sections)
    if run is not None:
        training = training_reached(run, training or training_of(Path(run)))
    elif training is None:  # nothing is trained, so a generator needs no limit
        training = Training(steps=1) if isinstance(data, Generator) else Training()
    with memory_errors():
        setup = assemble(
            loss, model, data, training, validation=validation, penalty=penalty, penalize=penalize
        )
        params, known, rate = setup.params, extras or Extras(), setup.optimizer.learning_rate
        if run is not None:
            state, knobs, known = _from_run(Path(run), setup, known)
            params, rate = jax.device_get(state.params), rate_at(setup, state, knobs)
        return measure_point(
            setup,
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


def measure_point(
    setup: TrainSetup,
    params: Any,
    extras: Extras,
    *,
    learning_rate: float | None,
    num_examples: int = MAX_EXAMPLES,
    relative_error: float = 0.5,
    miss_probability: float = 0.1,
    locate: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Anatomy:
    """Survey at these parameters; see `measure`."""
    if setup.interacts:  # then a batch is one unit
        num_examples = max(num_examples, _rows_of_batches(setup))
    seed = setup.training.seed
    rows, numbers = sample(setup.source, num_examples, seed)
    if not extras.decays:
        extras = dataclasses.replace(extras, decays=decays(setup.training))
    if extras.inputs is None:
        extras = dataclasses.replace(extras, inputs=_inputs(setup.objective.unpack(rows)))
    if extras.row_numbers is None:
        names = numbers
        if locate is not None:
            names = lambda places: locate(map_arrays(lambda a: a[places], rows))  # noqa: E731
        extras = dataclasses.replace(extras, row_numbers=names)
    settings = PointSettings(
        batch_size=setup.batch_rows,
        num_rows=setup.num_rows,
        learning_rate=learning_rate,
        **rule_of(setup.training, setup.optimizer),
        optimizer=setup.optimizer.name if setup.optimizer.is_named else "optax",
        interacts=setup.interacts,
        relative_error=relative_error,
        miss_probability=miss_probability,
        seed=seed,
    )
    return anatomy(setup.row_losses, params, rows, settings, extras=extras, **options)


def _inputs(batch: Any) -> np.ndarray | None:
    """First leaf of a batch that holds columns of numbers, [n, p]."""
    for leaf in jax.tree.leaves(batch):
        leaf = np.asarray(leaf)
        if leaf.ndim >= 2 and np.issubdtype(leaf.dtype, np.floating):
            flat = leaf.reshape(len(leaf), -1)
            return flat if 0 < flat.shape[1] <= MAX_INPUTS else None
    return None


def _from_run(run: Path, setup: TrainSetup, extras: Extras) -> tuple[State, Knobs, Extras]:
    """State and knobs at the newest checkpoint, and the extras with what the run measured."""
    read_request(run)
    checkpoint = Checkpoints(run / CHECKPOINTS).newest()
    if checkpoint is None:
        if any(r["event"] == "solved" and r["is_solved"] for r in read_journal(run / JOURNAL)):
            remedy = "measure the table instead, or train with --optimizer adam"
            raise DataError("was solved without a step", path=run, remedy=remedy)
        raise DataError("has no checkpoint yet", path=run, remedy="let it run for a while")
    check_format(checkpoint.document, str(run))
    state, _ = restore_device(checkpoint, setup, str(run))
    progress = TrainingProgress.from_json(checkpoint.document["progress"])
    losses = [r["loss"] for r in read_journal(run / JOURNAL) if r["event"] == "progress"]
    losses = [loss for loss in losses if loss is not None]
    extras = dataclasses.replace(extras, losses=losses if len(losses) > 1 else None)
    # for a finished run, as many steps again
    steps_left = max((setup.num_steps or 0) - progress.num_steps, 0) or progress.num_steps
    monitor, document = restore_monitor(checkpoint, setup), checkpoint.document
    knobs = device_knobs(KnobSettings(**document["knobs"]), 0, Horizon(**document["horizon"]))
    return state, knobs, with_state(extras, setup, state, monitor, steps_left)


def with_state(
    extras: Extras,
    setup: TrainSetup,
    state: State,
    monitor: NoiseMonitor | None,
    steps_left: int | None,
) -> Extras:
    """Extras with the optimizer's memory and the readings of the measured updates."""
    return dataclasses.replace(
        extras,
        preconditioner=preconditioner(setup.optimizer, state),
        accumulator=_accumulator(state, steps_left),
        readings={} if monitor is None else monitor.read().measurements(),
        trajectory=None if monitor is None else monitor.trajectory,
    )


def _accumulator(state: State, steps_left: int | None) -> tuple[float, int] | None:
    """Mean of the squares that AdaGrad has summed, and the steps left; None for other rules."""
    sums = optax.tree.get_all_with_path(state.opt_state, "sum_of_squares")
    leaves = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves([s for _, s in sums]))]
    if not leaves or not steps_left:
        return None
    total = sum(float(leaf.sum(dtype=np.float64)) for leaf in leaves)
    return total / sum(leaf.size for leaf in leaves), steps_left


def rate_at(setup: TrainSetup, state: State, knobs: Knobs) -> float | None:
    """Learning rate of the latest step, including its schedule."""
    if setup.optimizer.learning_rate is None:
        return None
    step = jnp.maximum(state.step - 1, 0)
    done = knobs.done_at_start + step * knobs.done_per_step
    return float(knobs.learning_rate * rate_factor(setup.training)(step, done, knobs.done_per_step))


def _rows_of_batches(setup: TrainSetup) -> int:
    """Rows of as many interacting batches as memory allows, at least two."""
    one = sample(setup.source, 1, 0)[0]
    fit = SAMPLE_BYTES // max(1, setup.batch_rows * row_bytes(one))
    return setup.batch_rows * min(INTERACTING_BATCHES, max(2, fit))
