"""Puts the parts of a run together, once, before the loop begins."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from downslope.config import FULL_BATCH, Training
from downslope.data.arrays import Arrays, drawn, shuffled_copy
from downslope.data.blocks import table_stream
from downslope.data.generator import Generator, generator_stream
from downslope.data.order import MIXED_BYTES, plan
from downslope.data.source import Source
from downslope.data.stream import Position, Stream
from downslope.engine.checkpoint import Snapshot, host_tensors, named_leaves, restore_leaves
from downslope.engine.evaluate import LossScorer, Scorer, make_evaluator
from downslope.engine.interaction import NUM_ROWS, examples_interact
from downslope.engine.tally import Tally
from downslope.errors import UsageError
from downslope.metrics import Results
from downslope.noise.running.watch import Setting, Watch
from downslope.noise.temperature.dynamics import MomentumKind
from downslope.objective import Loss, Model, Objective, Params, build, merge
from downslope.step.loop import compile_steps
from downslope.step.optimizers import Optimizer, make_optimizer, rate_factor
from downslope.step.state import Knobs, State, initial_state, to_device
from downslope.step.update import evaluated_params, make_regularizer, make_update
from downslope.tree import arrays, map_arrays

STEP_BYTES = 64 << 20  # rows beyond this are accumulated: a batch must fit a buffer
STEP_ROWS = 8192  # assumed: beyond it a device gains little, and activations cost memory
PART_ROWS = 4096  # rows at once when accumulating
KINDS_OF_MOMENTUM: dict[str, MomentumKind] = {"momentum": "heavy_ball", "nesterov": "nesterov"}
WATCH = "watch"  # where a snapshot keeps the measured steps


@dataclass(frozen=True, kw_only=True)
class Engine:
    """All that the loop needs, compiled or ready to be.

    Attributes:
        objective: what is minimised.
        optimizer: the update rule.
        steps: the compiled loop over windows.
        evaluate: held-out evaluation, or None without held-out rows.
        open_stream: blocks from a position on.
        num_rows: rows of an epoch; None for a generator.
        num_steps: updates of the whole run; None where only time or epochs without end decide.
        batch_rows: examples per update.
        fingerprint: identifies the data.
        shuffling: one sentence on what the order does and leaves undone.
        params: the trained leaves as given.
        initial_state: makes the state before the first step from them; traceable.
        setting: what reads the measured steps, or None where none is measured.
        source: where the training rows come from, in their own order.
        row_losses: `losses(params, rows)` with penalties, for measuring: a loss that draws is
            taken at one draw.
    """

    objective: Objective
    optimizer: Optimizer
    steps: Callable[..., Any]
    evaluate: Callable[[Params], Results] | None
    open_stream: Callable[[Position], Stream]
    num_rows: int | None
    num_steps: int | None
    batch_rows: int
    fingerprint: str
    shuffling: str
    params: Params
    initial_state: Callable[[Params], State]
    setting: Setting | None
    source: Any
    row_losses: Callable[[Params, Any], Any]

    def knobs(self, training: Training) -> Knobs:
        """The knobs as the configuration sets them."""
        return Knobs(
            learning_rate=np.float32(self.optimizer.learning_rate or 0.0),
            clip_norm=np.float32(training.clip_norm or math.inf),
            batch_size=np.float32(self.batch_rows),
        )

    @functools.cached_property
    def interacts(self) -> bool:
        """Whether examples interact; looked at here where the steps are not measured."""
        if self.setting is not None or self.objective.interacts:
            return self.objective.interacts
        return examples_interact(self.objective, self.params, _example(self.source, NUM_ROWS))

    def start(self) -> State:
        """The state before the first step, on the device."""
        return to_device(jax.jit(self.initial_state)(self.params))

    def kept_params(self, state: State) -> Params:
        """The parameters to evaluate and keep, averaged ones where there are."""
        return evaluated_params(state, self.optimizer)

    def model(self, params: Params) -> Model:
        """The whole model with these parameters."""
        return merge(params, self.objective.fixed)

    def snapshot(
        self, state: State, tally: Tally, best: Params | None, watch: Watch | None
    ) -> Snapshot:
        """A copy of everything that a resumed run needs."""
        trees = {"state": state._asdict()} | ({} if best is None else {"best": best})
        trees |= {} if watch is None else {WATCH: watch.arrays()}
        document = {"fingerprint": self.fingerprint, "tally": tally.to_json()}
        return Snapshot(tensors=host_tensors(trees), document=document)

    def restore(self, snapshot: Snapshot, where: str) -> tuple[State, Tally, Params | None]:
        """The inverse of `snapshot`.

        Raises:
            MismatchError: the snapshot belongs to another model or optimizer.
        """
        template = jax.eval_shape(self.initial_state, self.params)
        parts: dict[str, Any] = {"state": template._asdict()}
        if _under("best", snapshot.tensors):
            parts["best"] = template.params
        watched = {f"{WATCH}/{name}" for name in _under(WATCH, snapshot.tensors)}
        tensors = {k: v for k, v in snapshot.tensors.items() if k not in watched}
        found = restore_leaves(parts, tensors, where)
        state = to_device(State(**found["state"]))
        return state, Tally.from_json(snapshot.document["tally"]), found.get("best")

    def watch(self, snapshot: Snapshot | None = None) -> Watch | None:
        """What reads the measured steps, with those of a snapshot; None without measuring."""
        if self.setting is None:
            return None
        watch = Watch(self.setting)
        before = {} if snapshot is None else _under(WATCH, snapshot.tensors)
        if before:
            watch.restore(before)
        return watch


def _under(folder: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The named tensors of one part of a snapshot, without its name."""
    prefix = f"{folder}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def assemble(
    loss: Loss,
    model: Model,
    data: Any,
    training: Training,
    *,
    validation: Any = None,
    penalty: Callable[[Model], Any] | None = None,
    penalize: Callable[[Model], Any] | None = None,
    scorer: Scorer | None = None,
) -> Engine:
    """The engine for a loss, a model and data; the arguments are those of `downslope.fit`."""
    source, held_out = _sources(data, validation, training.seed)
    if held_out is not None:
        _check_alike(source, held_out)
    batch_rows, step_rows = _sizes(source, training)
    given = source
    if isinstance(source, Arrays):
        source = _in_random_order(source, training.seed)
    accumulates = step_rows < batch_rows
    objective, params = build(
        loss, model, _example(source, 2), source.unpack, penalty, num_rows=step_rows
    )
    if training.measure_every is not None:
        rows = _example(source, NUM_ROWS)
        interacts = examples_interact(objective, params, rows)
        objective = dataclasses.replace(objective, interacts=interacts)
    if accumulates and not objective.separable:
        raise UsageError(
            "a loss whose examples interact cannot be accumulated over micro-batches; "
            f"use a batch_size of at most {step_rows}"
        )
    optimizer = make_optimizer(training)
    num_rows = None if isinstance(source, Generator) else source.num_rows
    num_steps = _num_steps(training, num_rows, batch_rows)
    mask = jax.tree.map(lambda _: True, params) if penalize is None else penalize(model)
    mask = _match(mask, params)
    regularizer = make_regularizer(objective, training.l2, mask)
    factor = rate_factor(training, num_steps)
    update = make_update(optimizer, factor, training, mask, regularizer)
    open_stream, shuffling = _streams(source, training, batch_rows, step_rows)
    window = None if objective.separable else step_rows
    evaluate = None
    if held_out is not None:
        evaluate = make_evaluator(objective, scorer or LossScorer(), held_out, window)
    return Engine(
        objective=objective,
        optimizer=optimizer,
        steps=compile_steps(
            objective,
            update,
            step_rows,
            accumulates=accumulates,
            measure_every=training.measure_every,
            regularizer=regularizer,
        ),
        evaluate=evaluate,
        open_stream=open_stream,
        num_rows=num_rows,
        num_steps=num_steps,
        batch_rows=batch_rows,
        fingerprint=source.fingerprint,
        shuffling=shuffling,
        params=params,
        initial_state=functools.partial(
            initial_state,
            optimizer=optimizer,
            averages=training.average is not None,
            accumulates=accumulates,
            measures=training.measure_every is not None,
            seed=training.seed,
        ),
        setting=_setting(training, objective, optimizer, params, num_rows, batch_rows),
        source=given,
        row_losses=_row_losses(objective, training.l2, mask),
    )


def _setting(
    training: Training,
    objective: Objective,
    optimizer: Optimizer,
    params: Params,
    num_rows: int | None,
    batch_rows: int,
) -> Setting | None:
    """How the measured steps are to be read, or None where none is measured."""
    if training.measure_every is None:
        return None
    return Setting(
        **rule_of(training, optimizer),
        dim=sum(leaf.size for leaf in jax.tree.leaves(params)),
        batch_size=batch_rows,
        num_rows=num_rows,
        sampling="streaming" if num_rows is None else "reshuffled",
        interacts=objective.interacts,
        clips=training.clip_norm is not None,
        plain=not (training.weight_decay or training.l1),
    )


def rule_of(training: Training, optimizer: Optimizer) -> dict[str, Any]:
    """Name and momentum of the update rule, as the instruments take them."""
    # a function of the user's may be called "sgd" too
    name = optimizer.name if isinstance(training.optimizer, str) else "optax"
    kind: MomentumKind | None = KINDS_OF_MOMENTUM.get(name)
    momentum = training.momentum if kind else 0.0
    return {"optimizer": name, "momentum": momentum, "momentum_kind": kind}


def _row_losses(objective: Objective, l2: float, mask: Any) -> Callable[[Params, Any], Any]:
    """The loss of every row, each with all smooth penalties: their mean is what is minimised."""

    def losses(params: Params, rows: Any) -> Any:
        found = objective.losses(params, rows, jax.random.key(0))
        if objective.penalty is not None:
            found = found + objective.penalty(objective.model(params))
        if l2:
            squares = jax.tree.map(lambda p, on: (p**2).sum() if on else 0.0, params, mask)
            found = found + l2 / 2 * sum(jax.tree.leaves(squares))
        return found

    return losses


def _sources(data: Any, validation: Any, seed: int) -> tuple[Any, Source | None]:
    """Training and held-out source, from sources, arrays, or a share of the rows."""
    source = _source(data)
    if validation is None:
        return source, None
    if not isinstance(validation, float):
        return source, _source(validation)
    if not isinstance(source, Arrays):
        raise UsageError("validation as a share needs data in arrays; give a source instead")
    if not 0 < validation < 1:
        raise UsageError(f"validation must be greater than 0 and less than 1; got {validation!r}")
    rows = drawn(seed, "validation").permutation(source.num_rows)
    count = min(max(1, round(validation * source.num_rows)), source.num_rows - 1)
    if count < 1:
        raise UsageError("validation needs at least two rows of data; got one")
    return _part(source, rows[count:]), _part(source, rows[:count])


def _source(data: Any) -> Any:
    wide = jax.config.read("jax_enable_x64")
    return data if hasattr(data, "unpack") else Arrays(data, wide=wide)


def _part(source: Arrays, rows: np.ndarray) -> Arrays:
    rows = np.sort(rows)
    part = Arrays(map_arrays(lambda a: a[rows], source.tree), wide=True)
    part.row_numbers = rows if source.row_numbers is None else source.row_numbers[rows]
    return part


def _check_alike(source: Any, held_out: Source) -> None:
    shapes = [map_arrays(lambda a: a.shape[1:], _example(s, 2)) for s in (source, held_out)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"validation must be like data, with rows of shape {shapes[0]}; got {shapes[1]}"
        )


def _sizes(source: Any, training: Training) -> tuple[int, int]:
    """Rows per update, and rows the device takes at once."""
    asked = training.batch_size
    if isinstance(source, Generator):
        if not isinstance(asked, int):
            raise UsageError("a generator has no full batch; give batch_size a number")
        return asked, min(asked, training.microbatch_size or STEP_ROWS)
    batch = source.num_rows if asked == FULL_BATCH else min(int(asked), source.num_rows)
    if training.microbatch_size is not None:
        return batch, min(batch, training.microbatch_size)
    fits = batch <= STEP_ROWS and batch * source.row_bytes <= STEP_BYTES
    return batch, batch if fits else max(1, min(PART_ROWS, STEP_BYTES // source.row_bytes))


def _in_random_order(source: Arrays, seed: int) -> Arrays:
    """Rows gathered into random order once, where they are many and there is room for a copy.

    A memory map stays where it is: its rows are drawn in windows, in bounded memory.
    """
    size = source.num_rows * source.row_bytes
    mapped = any(isinstance(a, np.memmap) for a in arrays(source.tree))
    if source.shuffled or mapped or size <= MIXED_BYTES or size > _free_bytes() / 2:
        return source
    return shuffled_copy(source, seed)


def _free_bytes() -> float:
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return 1024 * float(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf  # not Linux: trust that arrays in memory leave room for a copy


def _example(source: Any, count: int) -> Any:
    """A few rows, to learn shapes from; repeated where there are not so many."""
    if isinstance(source, Generator):
        return source.batch(seed=0, number=0, num_rows=count)
    rows = source.read(0, min(count, source.num_rows))
    return map_arrays(lambda a: np.resize(a, (count, *a.shape[1:])), rows)


def _streams(
    source: Any, training: Training, batch_rows: int, step_rows: int
) -> tuple[Callable[[Position], Stream], str]:
    """How to open the stream at a position, and how well it is shuffled."""
    seed = training.seed
    if isinstance(source, Generator):
        if training.num_epochs is not None:
            raise UsageError("a generator has no epochs; give steps or seconds")

        def drawn(start: Position) -> Stream:
            return generator_stream(
                source, batch_rows=batch_rows, step_rows=step_rows, seed=seed, start=start
            )

        return drawn, "every batch is drawn anew"
    order = plan(
        source.num_rows,
        source.row_bytes,
        step_rows=step_rows,
        batch_size=batch_rows,
        shuffled=source.shuffled,
        seed=seed,
    )

    def read(start: Position) -> Stream:
        return table_stream(
            source,
            order,
            batch_rows=batch_rows,
            step_rows=step_rows,
            start=start,
            num_epochs=training.num_epochs,
        )

    return read, order.describe(batch_rows)


def _num_steps(training: Training, num_rows: int | None, batch_rows: int) -> int | None:
    """Updates after which the run is finished, where that is known beforehand."""
    limits = [] if training.steps is None else [training.steps]
    if training.num_epochs is not None and num_rows is not None:
        limits.append(training.num_epochs * math.ceil(num_rows / batch_rows))
    return min(limits, default=None)


def _match(mask: Any, params: Params) -> Any:
    """The mask as a tree of bools over exactly the trained leaves."""

    def chosen(p: Any, on: Any) -> bool | None:
        if p is not None and not isinstance(on, (bool, np.bool_)):
            raise ValueError(f"{on!r} is not a bool")
        return None if p is None else bool(on)

    try:
        return jax.tree.map(chosen, params, mask, is_leaf=lambda p: p is None)
    except ValueError as error:
        rule = "penalize must give a tree of bools like the model, one for every array"
        raise UsageError(f"{rule}; {str(error).splitlines()[0]}") from error


def request_of(engine: Engine, training: Training, metadata: dict[str, Any]) -> dict[str, Any]:
    """What a run was asked to do, for its folder."""
    asked = {f.name: getattr(training, f.name) for f in dataclasses.fields(training)}
    asked["optimizer"] = engine.optimizer.name
    leaves = named_leaves(jax.eval_shape(engine.initial_state, engine.params).params)
    names = {name: [str(leaf.dtype), *leaf.shape] for name, leaf in sorted(leaves.items())}
    return {
        "format": "downslope run 1",
        "training": asked,
        "data": engine.fingerprint,
        "params": names,
        "metadata": metadata,
    }
