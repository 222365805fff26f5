"""State that a step carries over, and the knobs it reads."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from downslope.step.optimizers import Optimizer
from downslope.tree import aligned_copy


class State(NamedTuple):
    """State of training on the device: enough to continue bit for bit."""

    params: Any  # the trained leaves, None where the model has another leaf
    opt_state: Any
    average: Any  # running average of the parameters, or None without averaging
    gradient: Any  # sum over the update under way; None where every window is a whole update
    anchor: Any  # parameters of an earlier step, to compare measured ones with; None if none is
    step: Array  # updates made so far, int32
    key: Array  # random key data of the run, uint32 [2]


class Knobs(NamedTuple):
    """Settings that decisions may change while training; arrays, so that no change recompiles."""

    learning_rate: Any  # before the schedule's factor, float32
    clip_norm: Any  # largest global gradient norm, float32; unused when clipping is off
    weight_decay: Any  # over the rate; unused without decay beside the rule, float32
    batch_size: Any  # examples per update, float32: sums of gradients are divided by it
    average_from: Any  # the update that the average of the parameters begins with, int32
    done_at_start: Any  # the run's share done before update t is this + t * done_per_step, float32
    done_per_step: Any  # float32; 0 if the end is not known


OFF = {
    "learning_rate": 0.0,
    "clip_norm": math.inf,
    "weight_decay": 0.0,
}  # values of knobs that are None


def initial_state(
    params: Any,
    optimizer: Optimizer,
    *,
    averages: bool,
    accumulates: bool,
    measures: bool,
    seed: int,
) -> State:
    """State before the first step; traceable, to be compiled as one program."""
    params = jax.tree.map(jnp.asarray, params)
    return State(
        params=params,
        opt_state=_opt_state(params, optimizer),
        average=params if averages else None,
        gradient=jax.tree.map(jnp.zeros_like, params) if accumulates else None,
        anchor=params if measures else None,
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(jax.random.key(seed)),
    )


def _opt_state(params: Any, optimizer: Optimizer) -> Any:
    """Initial state of the optimizer, in the dtypes that its updates return.

    With 16-bit parameters some rules begin in 16 bits and continue in the rate's float32,
    one part of the state after another.
    """

    def update(state: Any) -> Any:
        rule = optimizer.build(jnp.float32(optimizer.learning_rate or 1.0))
        after = rule.update(params, state, params)[1]
        return jax.tree.map(lambda a, b: a.astype(jnp.promote_types(a, b)), state, after)

    state = jax.tree.map(jnp.asarray, optimizer.build(optimizer.learning_rate or 1.0).init(params))
    while True:  # types only ever grow
        after = jax.eval_shape(update, state)
        grown = jax.tree.map(lambda leaf, later: leaf.astype(later.dtype), state, after)
        if all(jax.tree.leaves(jax.tree.map(lambda a, b: a.dtype == b.dtype, state, grown))):
            return state
        state = grown


def to_device(state: Any) -> Any:
    """Copy a tree of arrays to the device, each into memory of its own.

    A compiled call may return an input as an output, or one array as two; the copies made
    here can all be donated to the first step.
    """
    return jax.device_put(jax.tree.map(aligned_copy, jax.device_get(state)))
