"""Anatomy of the noise for a loss of one's own: the parts put together, outside of training."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np

from downslope.config import OptimizerName, Training
from downslope.data.arrays import Arrays, drawn
from downslope.data.generator import Generator
from downslope.engine.assemble import KINDS_OF_MOMENTUM, Engine, assemble
from downslope.engine.checkpoint import Checkpoints
from downslope.engine.run import CHECKPOINTS, JOURNAL, read_request
from downslope.errors import DataError, UsageError
from downslope.launch.memory import memory_errors
from downslope.noise.survey.anatomy import anatomy
from downslope.noise.survey.extras import Extras
from downslope.noise.survey.point import Setting
from downslope.noise.survey.record import Anatomy
from downslope.objective import Loss, Model, split
from downslope.report.journal import read_journal
from downslope.step.optimizers import decays, preconditioner
from downslope.step.state import State
from downslope.tree import map_arrays

EXAMPLES = 1024  # rows of a sample, where the memory for their gradients allows so many
INTERACTING_BATCHES = 64  # in a sample where the examples of a batch interact
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
    taken; its gradients, one by one, and products with its Hessian tell the rest.

    Args:
        loss, model, data, validation, penalty: as for `downslope.fit`.
        training: how the point is trained; by default as `run` was, or the defaults of `fit`.
        run: folder of a run on this loss, model and data; its newest checkpoint is looked at.
        num_examples: rows of the sample, at most.
        sections: subjects to look at; see `downslope.noise.anatomy`.
        seconds: begin no further subject after so long.
        relative_error, miss_probability: the smallest batch is asked for whose gradient is at
            most `relative_error * |G|` off, but for a chance of `miss_probability`.
        extras: what else is known of the data, such as columns in stored order.
        locate: `locate(rows) -> row numbers` for the sample; by default the place in arrays.

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
    training = training or (Training() if run is None else _training_of(Path(run)))
    with memory_errors():
        engine = assemble(loss, model, data, training, validation=validation, penalty=penalty)
        params, known = engine.params, extras or Extras()
        if run is not None:
            params, known = _from_run(Path(run), engine, training, known)
        else:
            known = dataclasses.replace(known, decays=known.decays or decays(training))
        return look(
            engine,
            training,
            params,
            known,
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
    num_examples: int = EXAMPLES,
    relative_error: float = 0.5,
    miss_probability: float = 0.1,
    locate: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Anatomy:
    """The anatomy at these parameters of an engine; see `measure`."""
    objective = engine.objective
    if objective.interacts:  # then a batch is one unit
        num_examples = max(num_examples, INTERACTING_BATCHES * engine.batch_rows)
    rows, numbers = sample(engine.source, num_examples, training.seed)
    if extras.inputs is None:
        extras = dataclasses.replace(extras, inputs=_inputs(objective.unpack(rows)))
    if extras.row_numbers is None:
        names = numbers if locate is None else locate(rows)
        extras = dataclasses.replace(extras, row_numbers=names)
    kind = KINDS_OF_MOMENTUM.get(engine.optimizer.name)
    setting = Setting(
        batch_size=engine.batch_rows,
        num_rows=engine.num_rows,
        learning_rate=engine.optimizer.learning_rate,
        optimizer=engine.optimizer.name,
        momentum=training.momentum if kind else 0.0,
        momentum_kind=kind,
        interacts=objective.interacts,
        relative_error=relative_error,
        miss_probability=miss_probability,
        seed=training.seed,
    )
    return anatomy(
        engine.row_losses,
        params,
        rows,
        setting,
        extras=extras,
        **options,
    )


def sample(source: Any, count: int, seed: int) -> tuple[Any, np.ndarray | None]:
    """A random sample of rows without replacement, and their numbers where they have any."""
    if isinstance(source, Generator):
        return source.batch(seed=seed, number=0, num_rows=count), None
    count = min(count, source.num_rows)
    draw = drawn(seed, "sample")
    if isinstance(source, Arrays):
        places = np.sort(draw.choice(source.num_rows, count, replace=False))
        names = places if source.row_numbers is None else source.row_numbers[places]
        return map_arrays(lambda a: np.array(a[places]), source.tree), names
    if source.shuffled:
        start = int(draw.integers(source.num_rows - count + 1))
        return map_arrays(np.array, source.read(start, start + count)), None
    places = np.sort(draw.choice(source.num_rows, count, replace=False)).tolist()
    parts = [map_arrays(np.array, source.read(place, place + 1)) for place in places]
    return jax.tree.map(lambda *a: np.concatenate(a), *parts), np.asarray(places)


def _inputs(batch: Any) -> np.ndarray | None:
    """The first numbers of a batch that have columns, [n, p]."""
    for leaf in jax.tree.leaves(batch):
        leaf = np.asarray(leaf)
        if leaf.ndim >= 2 and np.issubdtype(leaf.dtype, np.floating):
            flat = leaf.reshape(len(leaf), -1)
            return flat if 0 < flat.shape[1] <= MOST_INPUTS else None
    return None


def _training_of(run: Path) -> Training:
    """The configuration that a run was begun with.

    Raises:
        UsageError: its optimizer was an object of the caller's, which has no name.
    """
    asked = read_request(run)["training"]
    names = Training.__dataclass_fields__.keys()
    if asked.get("optimizer") not in OptimizerName.__args__:  # type: ignore[attr-defined]
        raise UsageError(
            f"run was trained with an optimizer of its own ({asked.get('optimizer')}); "
            "give training, with that optimizer"
        )
    return Training(**{name: asked[name] for name in names if name in asked})


def _from_run(run: Path, engine: Engine, training: Training, extras: Extras) -> tuple[Any, Extras]:
    """Where a run stands, and what it has measured of itself."""
    read_request(run)
    snapshot = Checkpoints(run / CHECKPOINTS).newest()
    if snapshot is None:
        raise DataError("has no checkpoint yet", path=run, remedy="let it run for a while")
    state, tally, _ = engine.restore(snapshot, str(run))
    watch = engine.watch(snapshot)
    losses = [r["loss"] for r in read_journal(run / JOURNAL) if r["event"] == "progress"]
    losses = [loss for loss in losses if loss is not None]
    return jax.device_get(state.params), of_state(
        engine,
        training,
        state,
        dataclasses.replace(extras, losses=losses if len(losses) > 1 else None),
        watch,
        # a finished run is asked about as many steps again
        max((engine.num_steps or 0) - tally.num_steps, 0) or tally.num_steps,
    )


def of_state(
    engine: Engine,
    training: Training,
    state: State,
    extras: Extras,
    watch: Any,
    steps_left: int | None,
) -> Extras:
    """What the optimizer's state and the measured steps add to the extras."""
    squares = None
    if engine.optimizer.name == "adagrad" and steps_left:
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


def trained_part(model: Model) -> Any:
    """The trained leaves of a model, as `Extras.other` takes them."""
    return split(model)[0]
