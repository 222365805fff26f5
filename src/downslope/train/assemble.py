"""Assembly of a run from a loss, a model and data, before the training loop begins."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from downslope.choose.decay import first_weight_decay
from downslope.choose.decision import Decision
from downslope.choose.start import economical_batch_size
from downslope.choose.step_time import StepTimes
from downslope.config import Training, is_auto
from downslope.data.arrays import Arrays
from downslope.data.generator import Generator
from downslope.data.stream import Ring
from downslope.errors import UsageError
from downslope.noise.online.monitor import MonitorSettings
from downslope.objective import (
    Loss,
    Model,
    Objective,
    Params,
    build,
    make_regularizer,
    of_held_out,
    penalized_mask,
)
from downslope.step.loop import compile_steps
from downslope.step.optimizers import Optimizer, Traits, make_optimizer, rate_factor
from downslope.step.state import initial_state
from downslope.step.update import make_update
from downslope.train.checkpoint import named_leaves
from downslope.train.compiled_step import MAX_WINDOW_ROWS, CompiledStep
from downslope.train.cost import counted_times
from downslope.train.defaults import begin_with, has_end, row_bytes
from downslope.train.evaluate import (
    LossScorer,
    Scorer,
    make_evaluator,
    make_evaluators,
)
from downslope.train.interaction import can_divide, interact
from downslope.train.program_cache import as_they_are, kept, kind_of
from downslope.train.setup import TrainSetup
from downslope.train.sources import (
    STEP_BYTES,
    check_alike,
    example,
    in_random_order,
    open_streams,
    sizes,
    sources,
)
from downslope.train.targets import check_targets


def assemble(
    loss: Loss,
    model: Model,
    data: Any,
    training: Training,
    *,
    validation: Any = None,
    validation_loss: Loss | None = None,
    penalty: Callable[[Model], Any] | None = None,
    penalize: Callable[[Model], Any] | None = None,
    scorer: Scorer | None = None,
) -> TrainSetup:
    """Assemble the setup of a run; the arguments are those of `downslope.fit`."""
    source, held_out = sources(data, validation, training.seed)
    if held_out is not None:
        check_alike(source, held_out)
    if held_out is not None:
        scorer = scorer or LossScorer()
    check_targets(training, None if held_out is None else scorer)
    asked, training = training, begin_with(training, source)
    batch_rows, step_rows = sizes(source, training)
    given = source
    if isinstance(source, Arrays):
        source = in_random_order(source, training.seed)
    accumulates = step_rows < batch_rows
    unpack = as_they_are if isinstance(source, Arrays) else source.unpack
    objective, params = build(loss, model, example(source, 2), unpack, penalty, num_rows=step_rows)
    decay = _weight_decay(asked, params, source, penalty, has_held_out=held_out is not None)
    training = training.resolved(weight_decay=decay and decay.new)
    kind = kind_of(objective, training, None)
    if training.measure_every is not None:
        interacts = interact(objective, params, source, kind)
        objective = dataclasses.replace(objective, interacts=interacts)
    costs = None
    if "batch_size" in asked.free and objective.separable and not objective.interacts:
        costs = _costs(objective, params, source, kind)
        if costs is not None:
            half_size = costs.half_size.value
            assert half_size is not None  # the cost of an example is above 0
            batch_rows = step_rows = min(batch_rows, economical_batch_size(half_size))
        training = dataclasses.replace(training, batch_size=batch_rows)
    looked = training.measure_every is not None
    if accumulates and not _can_accumulate(objective, params, source, step_rows, looked):
        raise UsageError(
            "a loss whose examples interact cannot be accumulated over micro-batches; "
            f"use a batch_size of at most {step_rows}"
        )
    optimizer = make_optimizer(training, _is_matrix) if decay else make_optimizer(training)
    num_rows = None if isinstance(source, Generator) else source.num_rows
    changes = "batch_size" in asked.free and _can_change(training, source, objective)
    num_steps = _num_steps(training, num_rows, batch_rows, changes)
    mask = penalized_mask(penalize, model, params)
    regularizer = make_regularizer(objective, training.l2, mask)
    factor = rate_factor(training)
    # programs are told apart by the decay, not by the leaves that it acts on
    kind = None if decay else kind_of(objective, training, mask)
    most_rows = min(
        MAX_WINDOW_ROWS, max(1, STEP_BYTES // row_bytes(source)), num_rows or MAX_WINDOW_ROWS
    )
    most_rows = 1 << (most_rows.bit_length() - 1)  # a buffer then holds whole batches of any size

    rings: dict[int, list[Ring]] = {}

    def make_step(batch_rows: int, clips: bool, step_rows: int | None = None) -> CompiledStep:
        step_rows = step_rows or batch_rows
        plan_rows = most_rows if changes else step_rows
        open_stream, shuffling = open_streams(
            source, training, batch_rows, step_rows, plan_rows, rings.setdefault(plan_rows, [])
        )
        return CompiledStep(
            batch_rows=batch_rows,
            step_rows=step_rows,
            clips=clips,
            run=kept(
                kind and ("steps", kind, step_rows, accumulates, clips),
                lambda: compile_steps(
                    objective,
                    make_update(optimizer, factor, training, mask, regularizer, clips=clips),
                    step_rows,
                    accumulates=accumulates,
                    measure_every=training.measure_every,
                    regularizer=regularizer,
                    metric=optimizer.metric,
                ),
            ),
            open_stream=open_stream,
            shuffling=shuffling,
        )

    window = step_rows if objective.interacts else None
    evaluate = sample_evaluator = None
    if held_out is not None and scorer is not None:
        judged = objective
        if validation_loss is not None:
            rows = example(source, 2)
            judged = of_held_out(objective, validation_loss, params, rows, step_rows)
        if objective.separable and window is None:
            evaluate, sample_evaluator = make_evaluators(judged, scorer, held_out, training.seed)
        else:
            evaluate = make_evaluator(judged, scorer, held_out, window)
    return TrainSetup(
        objective=objective,
        optimizer=optimizer,
        training=training,
        first_step=make_step(batch_rows, training.clip_norm is not None, step_rows),
        make_step=make_step,
        can_change=changes,
        costs=costs,
        evaluate=evaluate,
        num_held_out=None if held_out is None else held_out.num_rows,
        sample_evaluator=sample_evaluator,
        num_rows=num_rows,
        num_steps=num_steps,
        has_end=has_end(asked),
        open_ended=not has_end(asked) and "patience" in asked.free,
        most_rows=most_rows,
        fingerprint=source.fingerprint,
        params=params,
        initial_state=kept(
            kind and ("start", kind, accumulates, training.seed),
            lambda: jax.jit(
                functools.partial(
                    initial_state,
                    optimizer=optimizer,
                    averages=training.average is not None,
                    accumulates=accumulates,
                    measures=training.measure_every is not None,
                    seed=training.seed,
                )
            ),
        ),
        setting=_setting(training, objective, optimizer, params, num_rows, batch_rows),
        regularizer=regularizer,
        source=given,
        row_losses=_row_losses(objective, training.l2, mask),
        kind=kind,
        first_decisions=() if decay is None else (decay,),
    )


def _is_matrix(leaf: Any) -> bool:
    return leaf.ndim >= 2


def _weight_decay(
    asked: Training, params: Params, source: Any, penalty: Any, *, has_held_out: bool
) -> Decision | None:
    """The weight decay, where it and the optimizer are left to choose."""
    if not {"weight_decay", "optimizer"} <= asked.free:
        return None
    return first_weight_decay(
        num_matrices=sum(np.ndim(leaf) >= 2 for leaf in jax.tree.leaves(params)),
        has_held_out=has_held_out,
        is_endless=isinstance(source, Generator),
        is_penalized=bool(asked.l1 or asked.l2) or penalty is not None,
    )


def _costs(objective: Objective, params: Params, source: Any, kind: Any) -> StepTimes | None:
    """Counted time of an update by its rows."""
    rows = example(source, 2)
    shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves((params, rows)))
    return kept(kind and ("cost", kind, shapes), lambda: counted_times(objective, params, rows, 2))


def _can_accumulate(
    objective: Objective, params: Params, source: Any, step_rows: int, looked: bool
) -> bool:
    """True if micro-batches give the loss of their batch; `looked` if `interacts` is known."""
    if not objective.separable:
        return False
    if not (objective.interacts if looked else interact(objective, params, source, None)):
        return True
    return can_divide(objective, params, example(source, 2 * step_rows))


def _setting(
    training: Training,
    objective: Objective,
    optimizer: Optimizer,
    params: Params,
    num_rows: int | None,
    batch_rows: int,
) -> MonitorSettings | None:
    """Settings for reading the measured steps, or None if no step is measured."""
    if training.measure_every is None:
        return None
    return MonitorSettings(
        **rule_of(training, optimizer),
        has_metric=optimizer.metric is not None,
        dim=sum(leaf.size for leaf in jax.tree.leaves(params)),
        batch_size=batch_rows,
        num_rows=num_rows,
        interacts=objective.interacts,
        clips=training.clip_norm is not None,
        gradients_only=not (training.weight_decay or training.l1),
    )


def rule_of(training: Training, optimizer: Optimizer) -> dict[str, Any]:
    """Kind and momentum of the update rule, for the instruments."""
    # what a user's own function does is unknown, whatever its name
    traits = optimizer.traits if optimizer.is_named else Traits()
    momentum = training.momentum if traits.momentum_kind else 0.0
    kind = traits.momentum_kind
    return {"is_plain": traits.is_plain, "momentum": momentum, "momentum_kind": kind}


def _row_losses(objective: Objective, l2: float, mask: Any) -> Callable[[Params, Any], Any]:
    """Per-row losses with all smooth penalties; their mean is what is minimised."""

    def losses(params: Params, rows: Any) -> Any:
        found = objective.losses(params, rows, jax.random.key(0))
        if objective.penalty is not None:
            found = found + objective.penalty(objective.model(params))
        if l2:
            squares = jax.tree.map(lambda p, on: (p**2).sum() if on else 0.0, params, mask)
            found = found + l2 / 2 * sum(jax.tree.leaves(squares))
        return found

    return losses


def _can_change(training: Training, source: Any, objective: Objective) -> bool:
    """True if the batch size may change while training."""
    return (
        not isinstance(source, Generator)
        and objective.separable
        and not objective.interacts
        and training.microbatch_size is None
        and training.measure_every is not None  # the noise scale decides
    )


def _num_steps(
    training: Training, num_rows: int | None, batch_rows: int, changes: bool
) -> int | None:
    """Number of updates after which the run is finished, if known in advance."""
    limits = [] if training.steps is None else [training.steps]
    if training.epochs is not None and num_rows is not None and not changes:
        limits.append(training.epochs * math.ceil(num_rows / batch_rows))
    return min(limits, default=None)


def request_of(setup: TrainSetup, training: Training, metadata: dict[str, Any]) -> dict[str, Any]:
    """Request of a run, for its folder: configuration, data and model."""
    asked = {f.name: getattr(training, f.name) for f in dataclasses.fields(training)}
    if not is_auto(training.optimizer):
        asked["optimizer"] = setup.optimizer.name
    leaves = named_leaves(jax.eval_shape(setup.initial_state, setup.params).params)
    names = {name: [str(leaf.dtype), *leaf.shape] for name, leaf in sorted(leaves.items())}
    return {
        "format": "downslope run 1",
        "training": asked,
        "data": setup.fingerprint,
        "params": names,
        "metadata": metadata,
    }
